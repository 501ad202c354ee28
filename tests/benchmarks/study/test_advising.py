"""The advisor's table from records, and its evaluation on families that it has not seen."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from assessor.advice import Cell, read_table
from benchmarks.study.advising import ACTION, ADVISOR, judge, section, within_noise
from benchmarks.study.gathered import gather, held_out_with
from benchmarks.study.records import Assessed, Finished, Record, Result, Run, Setting
from benchmarks.study.table import SHRINKAGES, WIDTHS, advised, cells_of, tune, without, write
from tests.assessor.advice_tables import CHOICES, planted

SEEDS = (1, 2, 3, 4)
TABLE = planted(noise=0.004, seeds=len(SEEDS))


def records_of(cells: Sequence[Cell], *, part: str = "grid") -> list[Record]:
    """Return records in which a network that does nothing has an accuracy of its own for every seed and cell."""
    rng = np.random.default_rng(8)
    records: list[Record] = []
    for cell in cells:
        setting = Setting(part, cell.family, cell.treatment, cell.network, cell.batch_size, cell.optimizer, 100)
        base = rng.uniform(0.4, 0.6, len(SEEDS))
        for seed in SEEDS:
            records.append(Assessed(setting, seed, {}, {**cell.parts, "noise": 0.1}, {"need": 1.0}, ""))
        for arm, effects in cell.effects.items():
            runs = [
                Run(seed, {"": float(start + effect), "running/1": 0.0}, None, False, 1.0, 0.0)
                for seed, start, effect in zip(SEEDS, base, effects, strict=True)
            ]
            records.append(Result(setting, arm, 0.1, {}, tuple(runs)))
    return records


def test_cells_hold_the_paired_effects_and_the_parts() -> None:
    found = cells_of(gather(records_of(TABLE.cells), "grid"))
    assert len(found) == len(TABLE.cells)
    for made, cell in zip(found.values(), TABLE.cells, strict=True):
        assert (made.family, made.treatment, made.network) == (cell.family, cell.treatment, cell.network)
        assert made.parts == pytest.approx(cell.parts)
        assert list(made.effects) == list(cell.effects)
        for name, effects in cell.effects.items():
            assert made.effects[name] == pytest.approx(effects, abs=1e-9)


def test_what_cannot_be_used_is_left_out() -> None:
    records = records_of(TABLE.cells[:3])
    first, second = (record.setting for record in records[:: len(records) // 3][:2])
    without_none = [
        record
        for record in records
        if not (isinstance(record, Result) and record.setting == first and record.arm == "none")
        and not (isinstance(record, Assessed) and record.setting == second)
    ]
    extra = replace(next(r for r in records if isinstance(r, Result)), arm="published/identity")
    found = cells_of(gather([*without_none, extra], "grid"))
    assert list(found) == [records[-1].setting]
    assert advised(["none", "per_source", "batch", "gaussian/identity"]) == ["none", "batch"]


def test_the_file_is_the_table_with_date_and_settings(tmp_path: Path) -> None:
    records = records_of(TABLE.cells)
    dates = ("2026-03-04T05:06:07+00:00", "2026-03-04T01:00:00+00:00")
    finished = [Finished(records[0].setting, CHOICES, SEEDS, date, 1.0, "cpu", {"torch": "2"}) for date in dates]
    made = write([*records, *finished], tmp_path / "table.json")
    assert made is not None
    text = (tmp_path / "table.json").read_text()
    again = read_table(text)
    assert again.to_json() == text == made.to_json()
    assert again.date == dates[0]
    assert again.settings["seeds"] == list(SEEDS)
    assert again.settings["steps"] == [100]
    assert "torch" in again.settings["versions"]
    assert again.width in WIDTHS
    assert again.shrinkage in SHRINKAGES
    assert write([], tmp_path / "none.json") is None
    assert not (tmp_path / "none.json").exists()


def test_families_of_one_dataset_are_held_out_together() -> None:
    names = ("digits", "digit_rows", "wine")
    cells = [replace(cell, family=names[int(cell.family[-1])]) for cell in TABLE.cells]
    table = replace(TABLE, cells=tuple(cells))
    assert {cell.family for cell in without(table, "digits").cells} == {"wine"}
    assert {cell.family for cell in without(table, "digit_rows").cells} == {"wine"}
    assert {cell.family for cell in without(table, "wine").cells} == {"digits", "digit_rows"}
    assert held_out_with("wine") == "wine"


def test_tuning_does_not_look_at_the_family_that_is_held_out() -> None:
    nonsense = {name: (float(i % 3),) * 4 for i, name in enumerate(CHOICES)} | {"none": (0.0,) * 4}
    spoiled = [replace(c, effects=nonsense) if c.family == "family0" else c for c in TABLE.cells]
    held = without(replace(TABLE, cells=tuple(spoiled)), "family0")
    assert held.to_json() == without(TABLE, "family0").to_json()
    assert tune(TABLE.cells)[0] <= 0.5  # effects that change quickly with the parts ask for a narrow kernel


def test_the_advisor_finds_planted_effects_in_held_out_families_and_is_better_than_habits() -> None:
    gathered = gather(records_of(TABLE.cells), "grid")
    judged = judge(gathered, cells_of(gathered))
    assert judged is not None
    reached = {name: float(np.nanmean(within_noise(judged.best, got)[1])) for name, got in judged.got.items()}
    regret = {name: float(np.nanmean(within_noise(judged.best, got)[0])) for name, got in judged.got.items()}
    assert reached[ADVISOR] >= 0.8
    assert reached[ADVISOR] > max(reached["always batch"], reached["always layer"], reached["always none"])
    assert regret[ADVISOR] < 1.0 < regret["always batch"]
    for treatment, arm in (("t330", "standardize"), ("t300", "scale"), ("t003", "need/identity@input")):
        here = gathered.labels("treatment") == treatment
        np.testing.assert_array_equal(judged.got[ACTION][here], gathered.accuracy(arm)[here])
    np.testing.assert_array_equal(judged.got["always batch"], gathered.accuracy("batch"))
    known = [covered for covered in judged.covered if covered is not None]
    assert np.mean(known) > 0.7


def test_within_noise_is_the_paired_interval() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, size=(200, 5))
    seeds = rng.normal(0, 20, size=(200, 5))  # shared by both choices: pairing removes it
    _, same = within_noise(50 + seeds, 50 + seeds + noise)
    assert 0.93 <= same.mean() <= 1.0  # one side of 95 % intervals: 97.5 % of the cells
    mean, far = within_noise(55 + seeds, 50 + seeds + noise)
    assert far.mean() < 0.05
    assert mean.mean() == pytest.approx(5, abs=0.2)


def test_the_section_prints_the_figures() -> None:
    records = records_of(TABLE.cells)
    gathered = gather(records, "grid")
    judged = judge(gathered, cells_of(gathered))
    assert judged is not None
    _, reached = within_noise(judged.best, judged.got[ADVISOR])
    text = section(records)
    row = next(line for line in text.splitlines() if line.startswith(f"| {ADVISOR} |"))
    count, share = row.split("|")[2:4]
    assert count == f" {len(TABLE.cells)} "
    # A share p of n cells, drawn again n times: binomial.
    p, n = float(reached.mean()), len(TABLE.cells)
    low, high = (float(end.rstrip("%")) / 100 for end in share.partition("(")[2].rstrip(") ").split(" to "))
    assert share.startswith(f" {p:.0%} (")
    assert [low, high] == pytest.approx(binom.ppf([0.025, 0.975], n, p) / n, abs=0.012)
    assert any(line.startswith("| always batch | 108 |") for line in text.splitlines())
    assert "Target: 80%" in text
    assert "First choices by number of cells: " in text
    assert section(records) == text
    assert section([]).startswith("Not evaluated")
    one = [cell for cell in TABLE.cells if cell.family == "family0"]
    assert section(records_of(one)).startswith("Not evaluated")
