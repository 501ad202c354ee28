"""The claims' section says what the records say."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.study.claims.catalogue import CLAIMS
from benchmarks.study.claims.cells import all_cells
from benchmarks.study.claims.document import plot, section, summary, verdict_of
from benchmarks.study.records import Record, Result, Run

BATCH = (0.90, 0.91, 0.92, 0.91, 0.90)
WEIGHED = (0.90, 0.91, 0.92, 0.91, 0.90)
GHOST = (0.93, 0.94, 0.95, 0.95, 0.93)


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def result(cell: str, arm: str, *runs: dict[str, float], diverged: bool = False) -> Result:
    made = tuple(Run(seed, values, None, diverged, 2.0, 1.0) for seed, values in enumerate(runs, 1))
    return Result(all_cells()[cell].setting, arm, 0.03, {}, made)


@pytest.fixture
def ghost() -> list[Record]:
    batch = [{"": a, "weighed": b} for a, b in zip(BATCH, WEIGHED, strict=True)]
    return [result("ghost", "batch", *batch), result("ghost", "ghost_batch", *({"": a} for a in GHOST))]


def test_a_row_has_means_interval_and_verdict(ghost: list[Record]) -> None:
    # Differences .03 .03 .03 .04 .03: mean .032, from .030 to .040 less the rarest resamples: 4 of 5 draws the .04
    # have probability .0067 > .00095 > .00032, so the upper end is .038.
    found = rows(section(ghost))
    expected = ["ghost_batch above batch", "ghost", "no figure", ".940 / .908", "+3.2 (+3.0 to +3.8)", "reproduced"]
    assert expected in found
    assert ["Ghost batch norm", "Summers & Dinneen, arXiv 1906.03548", "reproduced", "1 of 1"] in found


def test_what_was_not_run_is_undecided_and_said(ghost: list[Record]) -> None:
    found = rows(section(ghost))
    assert ["kalman above group", "kalman", ".924 / .915", "not run", "", "undecided at this scale"] in found
    untestable = [row for row in found if row[-2:] == ["not testable here", "-"]]
    assert len(untestable) == sum(not claim.statements for claim in CLAIMS) > 0


def test_equal_evaluations_gain_nothing(ghost: list[Record]) -> None:
    row = next(row for row in rows(section(ghost)) if row[:2] == ["batch, weighed, above batch", "ghost"])
    assert row[3:] == [".908 / .908", "+0.0 (+0.0 to +0.0)", "not reproduced"]


def test_seeds_are_paired_and_the_last_record_counts(ghost: list[Record]) -> None:
    first, second = ghost
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    only = replace(second, runs=second.runs[2:])  # seeds 3 to 5: .95 .95 .93 beside .92 .91 .90
    row = next(row for row in rows(section([second, first, only])) if row[0] == "ghost_batch above batch")
    assert row[3] == ".943 / .910"
    assert row[4].startswith("+3.3 (")
    assert row[5] == "undecided at this scale"  # three seeds decide nothing


def test_tables_are_aligned(ghost: list[Record]) -> None:
    for block in section(ghost).split("\n\n"):
        if block.startswith("| "):
            assert len({len(line) for line in block.strip().splitlines()}) == 1


def test_records_of_other_parts_do_not_count(ghost: list[Record]) -> None:
    moved = [replace(each, setting=replace(each.setting, part="grid")) for each in ghost]
    assert section(moved) == section([])


def test_divergence_is_said() -> None:
    text = section([result("ghost", "batch", {"": 0.1}, {"": 0.1}, diverged=True)])
    assert "batch 0.03 (2 of 2 diverged)" in text


def test_a_claim_is_reproduced_only_where_all_its_comparisons_are() -> None:
    claim = next(claim for claim in CLAIMS if claim.title.startswith("Batch/group"))
    good = {("batch group 4", "batch"): (0.8,) * 5, ("batch group 4", "batch_group"): (0.9,) * 5}
    bad = {("batch group 8", "batch"): (0.9,) * 5, ("batch group 8", "batch_group"): (0.8,) * 5}

    def found(values: Mapping[tuple[str, str], tuple[float, ...]]) -> dict[tuple[str, str], Result]:
        return {key: result(*key, *({"": value} for value in each)) for key, each in values.items()}

    assert verdict_of(claim, found(good)) == "undecided at this scale"
    assert verdict_of(claim, found(good | bad)) == "not reproduced"


def test_the_summary_counts_claims_and_comparisons(ghost: list[Record]) -> None:
    text = summary(ghost)
    testable, untestable = (sum(bool(c.statements) == x for c in CLAIMS) for x in (True, False))
    comparisons = sum(len(claim.statements) for claim in CLAIMS)
    # Ghost norm is reproduced; of inference weighing one of three comparisons was run, and it gains nothing.
    assert f"undecided at this scale: {testable - 2}; not testable here: {untestable}; reproduced: 1" in text
    assert f"of the {comparisons} comparisons, undecided at this scale: {comparisons - 2}; " in text
    assert "\nReproduced: Ghost batch norm (1 of 1 comparisons reproduced)." in text
    assert "\nNot reproduced: Inference example weighing." in text


def test_the_plot_has_a_row_a_comparison_that_was_run(ghost: list[Record]) -> None:
    (axes,) = plot(ghost).axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [
        "Ghost batch norm",
        "ghost_batch > batch [ghost]",
        "Inference example weighing",
        "batch, weighed > batch [ghost]",
    ]
    dots = [np.asarray(line.get_xdata(), float)[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots[1::2] == pytest.approx([3.2, 0.0])


def test_one_seed_has_no_interval_in_the_plot() -> None:
    one = [result("ghost", "batch", {"": 0.9}), result("ghost", "ghost_batch", {"": 0.95})]
    (axes,) = plot(one).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Ghost batch norm", "ghost_batch > batch [ghost]"]
