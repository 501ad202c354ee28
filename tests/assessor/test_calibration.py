from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_array_equal

from assessor import Profiler, SettingError, hash_rows, merge, profile_array
from assessor.calibration import (
    MAX_FEATURES,
    MAX_VALUES,
    SEED,
    Calibration,
    CalibrationBuilder,
    bar_of,
    default_rows,
    join_samples,
    sampled_features,
)
from assessor.moments import Floats

RNG = np.random.default_rng(21)


def smallest(n: int, size: int, first: int = 0) -> list[int]:
    """The rows of the smallest hashes, by sorting all of them."""
    return sorted(range(first, first + n), key=lambda row: int(hash_rows(SEED, np.array([row]))[0]))[:size]


@pytest.mark.parametrize("size", [1, 5, 64, 100, 101, 500])
def test_the_sample_holds_the_rows_of_the_smallest_hashes(size: int) -> None:
    x = RNG.normal(size=(100, 3))
    sample = profile_array(x, batch_sizes=[7], calibration_rows=size, first_row=13).calibration
    assert sample.rows.tolist() == smallest(100, size, 13)
    assert_array_equal(sample.values, x[sample.rows - 13])


@given(st.sets(st.integers(1, 199), max_size=15), st.integers(1, 220), st.randoms(use_true_random=False))
def test_the_sample_is_the_same_for_any_cutting_and_order(cuts: set[int], size: int, random: object) -> None:
    x = np.arange(400.0).reshape(200, 2)
    edges = sorted({0, 200, *cuts})
    parts = [profile_array(x[a:b], batch_sizes=[4], first_row=a, calibration_rows=size) for a, b in pairwise(edges)]
    random.shuffle(parts)  # type: ignore[attr-defined]  # random.Random by Hypothesis
    sample = merge(parts).calibration
    assert sample.rows.tolist() == smallest(200, size)
    assert_array_equal(sample.values, x[sample.rows])


def sampled(x: Floats, first_row: int, size: int, bar: int | None) -> Calibration:
    profiler = Profiler(batch_sizes=[4], first_row=first_row, calibration_rows=size, sample_bar=bar)
    profiler.add(x)
    return profiler.finish().calibration


@given(st.integers(1, 199), st.integers(1, 220))
def test_a_sample_needs_no_rows_above_the_bar_of_another(place: int, size: int) -> None:
    x = np.arange(400.0).reshape(200, 2)
    one = sampled(x[:place], 0, size, None)
    assert (one.bar is None) == (place < size)
    joined = join_samples([one, sampled(x[place:], place, size, one.bar)])
    assert joined.rows.tolist() == smallest(200, size)
    assert_array_equal(joined.values, x[joined.rows])


@given(st.integers(1, 100), st.integers(0, 99), st.sets(st.integers(1, 99), max_size=4))
def test_of_rows_above_the_bar_none_are_kept(size: int, place: int, cuts: set[int]) -> None:
    bar = int(np.sort(hash_rows(SEED, np.arange(100)))[place])
    x = RNG.normal(size=(100, 3))
    profiler = Profiler(batch_sizes=[4], calibration_rows=size, sample_bar=bar)
    for start, stop in pairwise(sorted({0, 100, *cuts})):
        profiler.add(x[start:stop])
    sample = profiler.finish().calibration
    assert sample.rows.tolist() == smallest(100, min(size, place + 1))
    assert_array_equal(sample.values, x[sample.rows])
    assert sampled(x, 0, 100, bar - 1).rows.tolist() == smallest(100, place)


def test_a_channel_gives_one_of_its_positions() -> None:
    x = RNG.normal(size=(50, 3, 4, 5))
    sample = profile_array(x, batch_sizes=[4], calibration_rows=20, feature_axis="channel").calibration
    assert sample.values.shape == (20, 3)
    positions = set()
    for row, values in zip(sample.rows, sample.values, strict=True):
        at = [np.flatnonzero(x[row, c].ravel() == values[c]).tolist() for c in range(3)]
        assert at[0] == at[1] == at[2]
        positions.update(at[0])
    assert len(positions) > 5


def test_it_can_be_turned_off() -> None:
    sample = profile_array(RNG.normal(size=(50, 3)), batch_sizes=[4], calibration_rows=0).calibration
    assert sample.rows.size == sample.values.size == 0


def test_its_size_is_bounded() -> None:
    assert default_rows(1) == 4096
    assert default_rows(64) == 4096
    assert default_rows(512) == 512
    for features in (1, 100, 2048, 3072, 10**6):
        width = len(sampled_features(features))
        assert width == min(features, MAX_FEATURES)
        assert default_rows(features) >= 128
        assert default_rows(features) * width <= MAX_VALUES
    wide = sampled_features(10_000)
    assert wide.tolist() == sorted(set(wide.tolist()))
    assert 4000 < wide.mean() < 6000


def test_wide_samples_keep_some_features() -> None:
    x = RNG.normal(size=(4, 3000)).astype(np.float32)
    sample = profile_array(x, batch_sizes=[2]).calibration
    assert_array_equal(sample.values, x[sample.rows][:, sampled_features(3000)].astype(float))


def test_an_empty_sample_takes_nothing_of_none() -> None:
    empty = Calibration.empty(5, 3)
    assert join_samples([empty, empty]) is empty
    builder = CalibrationBuilder(0, 3)
    builder.add(0, np.ones((4, 3, 1)))
    assert len(builder.finish().rows) == 0


@pytest.mark.parametrize("bar", [-1, 2**64, 1.5, True, "x"])
def test_a_bar_is_a_hash(bar: object) -> None:
    with pytest.raises(SettingError, match="expected sample_bar to be None or an integer"):
        Profiler(batch_sizes=[4], sample_bar=bar)  # type: ignore[arg-type]  # what must be refused


@given(st.integers(1, 60), st.integers(0, 2**40), st.integers(0, 300), st.integers(1, 200))
def test_the_bar_of_rows_that_are_announced(size: int, first: int, n: int, at_a_time: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("assessor.calibration.HASHED_ROWS", at_a_time)
        patched.setattr("assessor.calibration.MOST_EXPECTED", 250)
        bar = bar_of(size, first, n)
    hashes = sorted(hash_rows(SEED, np.arange(first, first + min(n, 250))).tolist())
    assert bar == (hashes[size - 1] if len(hashes) >= size else None)


@given(
    st.integers(0, 120),
    st.integers(0, 300),
    st.lists(st.integers(1, 200), max_size=6),
    st.integers(1, 120),
    st.sampled_from(["raise", "exclude", "normalize"]),
    st.sampled_from([30, 1 << 20]),
)
def test_a_profile_of_announced_rows_is_the_same(
    announced: int, first: int, cuts: list[int], size: int, nonfinite: str, most: int
) -> None:
    """Whole or in pieces, announced rightly or as fewer; rows that are left out do not count."""
    x = np.random.default_rng(first).normal(size=(120, 3))
    if nonfinite != "raise":
        x[::3, 1] = np.nan

    def make() -> Profiler:
        return Profiler(batch_sizes=[7], first_row=first, calibration_rows=size, nonfinite=nonfinite)

    plain, profiler = make(), make()
    plain.add(x)
    profiler.expect(announced)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("assessor.calibration.MOST_EXPECTED", most)
        for start, stop in pairwise(sorted({0, *(min(cut, 120) for cut in cuts), 120})):
            profiler.add(x[start:stop])
    assert profiler.finish().to_bytes() == plain.finish().to_bytes()


def test_no_row_is_sampled_in_vain_where_rows_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    place = CalibrationBuilder._place

    def counted(self: CalibrationBuilder, places: object, rows: object, values: object, taken: list[int]) -> None:
        copied.append(len(taken))
        place(self, places, rows, values, taken)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(CalibrationBuilder, "_place", counted)
    x = RNG.normal(size=(2000, 3))
    profile_array(x, batch_sizes=[8], calibration_rows=50)
    assert sum(copied) == 50


def test_rows_that_were_announced_and_do_not_come() -> None:
    profiler = Profiler(batch_sizes=[4])
    profiler.expect(9)
    profiler.add(np.zeros((8, 2)))
    with pytest.raises(SettingError, match=r"expected at least 9 rows, as announced by expect\(\); got 8"):
        profiler.finish()
    for wrong in (-1, True, 2.0, None):
        with pytest.raises(SettingError, match="expected n_rows to be an integer >= 0"):
            profiler.expect(wrong)  # type: ignore[arg-type]  # what must be refused
