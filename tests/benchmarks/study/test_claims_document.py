"""The claims' section says what the records say."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmarks.study.claims.catalogue import CLAIMS
from benchmarks.study.claims.cells import all_cells
from benchmarks.study.claims.document import section, verdict_of
from benchmarks.study.records import Record, Result, Run

BATCH = (0.90, 0.91, 0.92, 0.91, 0.90)
WEIGHED = (0.90, 0.91, 0.92, 0.91, 0.90)
GHOST = (0.93, 0.94, 0.95, 0.95, 0.93)


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
    row = "| ghost_batch above batch | ghost | no figure | .940 / .908 | +3.2 (+3.0 to +3.8) | reproduced |"
    assert row in section(ghost)
    assert "| Ghost batch norm | Summers & Dinneen, arXiv 1906.03548 | reproduced |" in section(ghost)


def test_what_was_not_run_is_undecided_and_said(ghost: list[Record]) -> None:
    text = section(ghost)
    assert "| kalman above group | kalman | .924 / .915 | not run |  | undecided at this scale |" in text
    assert "| Kalman norm, ImageNet | " in text
    assert text.count("| not testable here |") == sum(not claim.statements for claim in CLAIMS)


def test_equal_evaluations_gain_nothing(ghost: list[Record]) -> None:
    assert "| batch, weighed, above batch | ghost | no figure | .908 / .908 | +0.0 (+0.0 to +0.0) |" in section(ghost)


def test_seeds_are_paired_and_the_last_record_counts(ghost: list[Record]) -> None:
    first, second = ghost
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    only = replace(second, runs=second.runs[1:])  # seeds 2 to 5: batch's seed 1 has no partner
    text = section([second, first, only])
    # .0325 is the mean difference of four pairs; four seeds decide nothing.
    row = text[text.index("| ghost_batch above batch |") :].splitlines()[0]
    assert ".943 / .910 | +3.2 (" in row or ".942 / .910 | +3.2 (" in row or "+3.3 (" in row
    assert row.endswith("undecided at this scale |")


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
