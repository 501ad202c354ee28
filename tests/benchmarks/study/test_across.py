"""Differences from one dataset to the next: draws of datasets by simulation, and the table by hand."""

import numpy as np
import pytest

from benchmarks.study import across
from benchmarks.study.gathered import gather, held_out_with
from benchmarks.study.intervals import Resampling
from benchmarks.study.records import Setting
from tests.benchmarks.study.synthetic import SEEDS, result


def test_draws_of_datasets_cover_a_mean_that_differs_between_them() -> None:
    rng = np.random.default_rng(0)
    datasets = np.repeat([f"d{i}" for i in range(10)], 6)
    covered = {"cells": 0, "datasets": 0}
    for trial in range(200):
        values = np.repeat(rng.normal(2.0, 3.0, 10), 6)[:, None] + rng.normal(0, 1.0, (60, 5))
        for name, draws in (
            ("cells", Resampling.draw(60, 5, resamples=200)),
            ("datasets", Resampling.draw_grouped(datasets, 5, resamples=200, seed=trial)),
        ):
            found = draws.mean(values)
            covered[name] += found.low <= 2.0 <= found.high
    # Cells that share their dataset's difference are no 60 draws of it; 10 datasets are few for a percentile interval.
    assert covered["cells"] / 200 < 0.75
    assert 0.88 <= covered["datasets"] / 200 <= 0.99


def test_a_draw_has_whole_datasets_only() -> None:
    datasets = np.array(["a", "a", "b", "c", "c", "c"])
    draws = Resampling.draw_grouped(datasets, 2, resamples=200)
    assert draws.cells.shape == (200, 6)
    assert draws.seeds.shape == (200, 6, 2)
    kinds = [len(set(datasets[cells])) for cells in draws.cells]
    assert min(kinds) == 1  # three datasets drawn with replacement are one and the same now and then
    assert max(kinds) == 3


def test_table_by_hand() -> None:
    datasets = np.array(["a", "a", "b"])
    differences = np.array([[1.0, 1.0], [3.0, 3.0], [-4.0, -4.0]])
    assert across.leaving_out(differences, datasets) == {"a": -4.0, "b": 2.0}
    row = across.lines(datasets, [("x less y", differences)])[-2]
    assert row.split("|")[1].strip() == "x less y"
    assert row.split("|")[2].strip().startswith("0.0 (")
    assert row.split("|")[4].strip() == "-4.0 (no a) to +2.0 (no b)"
    assert row.split("|")[5].strip() == "1 of 2"


def test_one_dataset_says_nothing() -> None:
    assert across.lines(np.array(["a", "a"]), [("x", np.zeros((2, 3)))]) == []


def test_families_of_the_same_data_are_one() -> None:
    cells = [Setting("grid", family, "raw", "mlp", 4, "sgd", 10) for family in ("digits", "digit_rows", "wine")]
    gathered = gather([result(cell, "none", dict.fromkeys(SEEDS, 50.0)) for cell in cells], "grid")
    assert gathered.datasets.tolist() == ["digits", "digits", "wine"]
    assert held_out_with("waves") == "waves"
    row = np.zeros((3, 5))
    assert across.leaving_out(row, gathered.datasets).keys() == {"digits", "wine"}
    assert across.drawn(row, gathered.datasets).value == pytest.approx(0)
