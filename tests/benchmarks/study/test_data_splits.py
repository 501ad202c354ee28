import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study.splits import apportion, draw, sizes, split


@given(st.integers(0, 5000), st.lists(st.floats(0.01, 1), min_size=1, max_size=12))
def test_parts_add_up_and_are_within_one_of_their_shares(total: int, weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    counts = apportion(total, shares)
    assert counts.sum() == total
    assert (np.abs(counts - total * shares) < 1 + 1e-6).all()


def test_a_remainder_that_only_rounding_makes_counts_for_nothing() -> None:
    assert 0.07 * 100 > 7 > 0.29 * 100 - 22.000000000000004
    assert apportion(100, (0.07, 0.29, 0.64)).tolist() == [7, 29, 64]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 2**32), st.integers(0, 30))
def test_a_draw_holds_each_class_within_one_row_of_its_share(
    held: list[int], part: float, seed: int, others: int
) -> None:
    classes = np.repeat(np.arange(len(held)), held)
    rows = np.arange(len(classes))
    classes = np.concatenate([classes, np.zeros(others, np.int64)])  # rows that are not to be drawn from
    size = round(part * len(rows))
    taken, left = draw(rows, classes, size, np.random.default_rng(seed))
    assert len(taken) == size
    assert sorted([*taken, *left]) == rows.tolist()
    counts = np.bincount(classes[taken], minlength=len(held))
    assert (np.abs(counts - size * np.array(held) / len(rows)) < 1 + 1e-6).all()


def test_a_draw_is_in_random_order() -> None:
    classes = np.repeat(np.arange(4), 250)
    taken, _ = draw(np.arange(1000), classes, 500, np.random.default_rng(3))
    # Correlation of place and class over 500 independent places: standard deviation 1 / sqrt(500) = 0.045.
    assert abs(np.corrcoef(np.arange(500), classes[taken])[0, 1]) < 4.5 * 0.045


def test_more_rows_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="expected to draw at most 3 rows, got 4"):
        draw(np.arange(3), np.zeros(3, np.int64), 4, np.random.default_rng(0))


@given(st.integers(20, 5000), st.integers(0, 2**32), st.booleans())
def test_training_validation_and_test_share_no_row_and_keep_their_limits(rows: int, seed: int, apart: bool) -> None:
    held_out = rows // 3 if apart else 0
    classes = np.random.default_rng(0).integers(0, 3, rows)
    train, validation, test = split(classes, np.random.default_rng(seed), held_out)
    assert (len(train), len(validation), len(test)) == sizes(rows, held_out)
    assert len({*train, *validation, *test}) == len(train) + len(validation) + len(test)
    assert len(train) <= 1024
    assert len(validation) <= 250
    assert len(test) <= 400
    if held_out:
        assert test.min() >= rows - held_out > max(train.max(), validation.max())


@pytest.mark.parametrize(
    ("rows", "held_out", "expected"),
    [(178, 0, (108, 26, 44)), (569, 0, (342, 85, 142)), (1797, 0, (1024, 250, 400)), (70000, 10000, (1024, 250, 400))],
)
def test_sizes_of_small_and_large_families(rows: int, held_out: int, expected: tuple[int, int, int]) -> None:
    assert sizes(rows, held_out) == expected
