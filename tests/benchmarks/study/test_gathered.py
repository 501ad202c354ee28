"""Records as arrays, and the best choice without the winner's curse."""

import numpy as np
import pytest

from benchmarks.study.gathered import best_of, gather
from benchmarks.study.records import Record, Setting
from tests.benchmarks.study.synthetic import assessed, result

CELL = Setting("grid", "wine", "raw", "mlp", 4, "sgd", 10)
OTHER = Setting("grid", "digits", "raw", "mlp", 8, "sgd", 10)


def test_arrays_have_a_row_a_cell_and_a_column_a_seed() -> None:
    records: list[Record] = [
        result(CELL, "none", {1: 50, 2: 60}),
        result(OTHER, "none", {2: 70}),
        assessed(CELL, 1, 3.0, 0.5),
    ]
    gathered = gather(records, "grid")
    assert gathered.settings == (CELL, OTHER)
    np.testing.assert_allclose(gathered.accuracy("none"), np.array([[50, 60], [np.nan, 70]]))
    np.testing.assert_allclose(gathered.score("standard_divergence"), np.array([[3, np.nan], [np.nan, np.nan]]))
    np.testing.assert_allclose(gathered.score("need: feature")[0, 0], 3)
    np.testing.assert_allclose(gathered.score("flagged by need")[0, 0], 1)
    assert gathered.score("batch size").tolist() == [[4, 4], [8, 8]]
    assert np.isnan(gathered.accuracy("batch")).all()


def test_the_later_record_of_the_same_arm_counts() -> None:
    gathered = gather([result(CELL, "none", {1: 50}), result(CELL, "none", {1: 55})], "grid")
    assert gathered.accuracy("none").tolist() == [[pytest.approx(55)]]


def test_other_parts_are_left_out() -> None:
    assert not len(gather([result(CELL, "none", {1: 50})], "sources"))


def test_an_undefined_score_is_not_above_a_cutoff() -> None:
    gathered = gather([result(CELL, "none", {1: 50})], "grid")
    scores = np.array([[np.nan, 2.0]])
    assert gathered.follow(scores, 1.0, above=np.full((1, 2), 9.0), below=np.zeros((1, 2))).tolist() == [[0, 9]]


def test_best_of_equal_arms_is_credited_with_no_luck() -> None:
    arms = list(np.random.default_rng(0).normal(70, 2, (10, 4000, 5)))
    naive = float(np.stack(arms).mean(2).max(0).mean())
    assert naive > 71
    assert float(best_of(arms).mean()) == pytest.approx(70, abs=0.1)


def test_best_of_finds_the_better_arm_and_judges_by_the_seed_left_out() -> None:
    good, bad = np.array([[90.0, 91.0, 10.0]]), np.array([[50.0, 50.0, 50.0]])
    # Without seed 1 or 2 the means are 50.5 and 50, 50 and 50 (the first wins); without seed 3 90.5 and 50.
    assert best_of([good, bad]).tolist() == [[90, 91, 10]]


def test_best_of_leaves_out_what_was_not_run() -> None:
    assert best_of([np.array([[1.0, 1.0]]), np.array([[np.nan, np.nan]])]).tolist() == [[1, 1]]
    assert np.isnan(best_of([np.array([[1.0]])])).all()
