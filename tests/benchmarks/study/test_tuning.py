import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study.tuning import DIVERGED, RATIO, Score, climb


def grid(rate: float) -> int:
    """Return the number of a rate on the grid from 0.01, and check that it lies on it."""
    k = math.log(rate / 0.01, RATIO)
    assert abs(k - round(k)) < 1e-6
    return round(k)


@given(st.integers(-4, 4), st.floats(0.01, 1))
def test_finds_the_top_of_a_hill_within_its_reach(top: int, slope: float) -> None:
    tuned = climb(lambda rate: Score(1 - slope * abs(grid(rate) - top) / 10, 0.0), 0.01)
    assert grid(tuned.rate) == top
    assert tuned.rate == pytest.approx(0.01 * 10 ** (top / 2))


def test_stops_after_seven_trials_on_a_slope_without_end() -> None:
    tuned = climb(lambda rate: Score(0.0, -float(grid(rate))), 0.01)
    assert len(tuned.tried) == 7
    assert grid(tuned.rate) == 6


def test_every_rate_is_tried_once_and_a_top_at_the_start_takes_three() -> None:
    asked: list[int] = []

    def score(rate: float) -> Score:
        asked.append(grid(rate))
        return Score(-abs(grid(rate)), 0.0)

    assert grid(climb(score, 0.01).rate) == 0
    assert sorted(asked) == [-1, 0, 1]


def test_equal_accuracies_are_told_apart_by_the_loss() -> None:
    assert grid(climb(lambda rate: Score(0.5, abs(grid(rate) + 3)), 0.01).rate) == -3


def test_goes_down_out_of_divergence_to_what_learns() -> None:
    tuned = climb(lambda rate: DIVERGED if grid(rate) > -3 else Score(0.9, -grid(rate)), 0.01)
    assert grid(tuned.rate) == -3
    assert tuned.tried["0.01"] == -1


@given(st.dictionaries(st.integers(-7, 7), st.tuples(st.floats(0, 1), st.floats(0, 9)), min_size=15, max_size=15))
def test_the_chosen_rate_is_the_best_of_those_tried(values: dict[int, tuple[float, float]]) -> None:
    tuned = climb(lambda rate: Score(*values[grid(rate)]), 0.01)
    assert max(tuned.tried.values()) == values[grid(tuned.rate)][0]
    assert 3 <= len(tuned.tried) <= 7
