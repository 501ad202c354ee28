from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from assessor import DtypeError, Moments, ShapeError
from assessor.moments import Floats, MomentsTree, dyadic_blocks, reduce_items, reduce_pairs
from tests.tolerances import SUMS


def values(rows: st.SearchStrategy[int], limit: float = 1e6) -> st.SearchStrategy[Floats]:
    return rows.flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-limit, limit, width=32)))


def check(got: Moments, x: Floats) -> None:
    """Against NumPy float64, relative to the size of the values."""
    size = max(1.0, float(np.abs(x).max(initial=0)))
    assert got.count == len(x)
    assert_allclose(got.mean, x.mean(axis=0), rtol=0, atol=SUMS * size)
    assert_allclose(got.m2, ((x - x.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-9, atol=SUMS * size**2)


@given(values(st.integers(1, 70)))
def test_moments_of_rows_are_those_of_numpy(x: Floats) -> None:
    check(Moments.of(x), x)


@given(values(st.integers(0, 20)), values(st.integers(0, 20)), values(st.integers(0, 20)))
def test_merge_is_associative_and_commutative_to_rounding(a: Floats, b: Floats, c: Floats) -> None:
    all_rows = np.concatenate([a, b, c])
    parts = [Moments.of(part) for part in (a, b, c)]
    ways = [
        parts[0].merge(parts[1]).merge(parts[2]),
        parts[0].merge(parts[1].merge(parts[2])),
        parts[2].merge(parts[0]).merge(parts[1]),
        parts[1].merge(parts[0].merge(parts[2])),
    ]
    for way in ways:
        if len(all_rows):
            check(way, all_rows)
        else:
            assert way.count == 0


@given(values(st.integers(0, 9)))
def test_the_empty_value_is_the_identity(x: Floats) -> None:
    moments, empty = Moments.of(x), Moments.empty((3,))
    for same in (moments.merge(empty), empty.merge(moments)):
        assert same.count == moments.count
        assert_array_equal(same.mean, moments.mean)
        assert_array_equal(same.m2, moments.m2)


def test_the_empty_value_of_no_shape_is_the_identity_of_every_shape() -> None:
    moments = Moments.of(np.eye(3))
    assert moments.merge(Moments.empty()) is moments
    assert Moments.empty().merge(moments) is moments
    with pytest.raises(ShapeError, match=r"shape \(3,\); got \(2,\)"):
        moments.merge(Moments.empty((2,)))


@pytest.mark.parametrize("kind", [list, np.float32, np.int64])
def test_numbers_of_any_kind_are_merged_in_float64(kind: Any) -> None:
    a, b = Moments(2, kind([1, 4]), kind([2, 8])), Moments(1, kind([5, 0]), kind([0, 0]))
    merged = a.merge(b)
    check(merged, np.array([[0.0, 2.0], [2.0, 6.0], [5.0, 0.0]]))
    assert merged.mean.dtype == merged.m2.dtype == a.mean.dtype == np.float64
    numbers: list[Any] = [1.0, 2.0, 5, 0]
    both = Moments(2, *numbers[:2]).merge(Moments(1, *numbers[2:]))
    assert both.variance == pytest.approx(np.var([0, 2, 5]))


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6, 1e9])
def test_an_offset_leaves_the_variance(offset: float) -> None:
    x = np.random.default_rng(1).normal(size=(1000, 5))
    shifted = Moments.of(x + offset)
    # Means are rounded by |offset| 2^-53 and enter each difference; a difference of squares would lose offset^2 2^-53.
    bound = SUMS + 4 * abs(offset) * 2.0**-53
    assert_allclose(shifted.variance, (x + offset).var(axis=0), rtol=bound)
    assert_allclose(shifted.variance, x.var(axis=0), rtol=bound)


def test_mean_4096_in_float32_where_the_difference_of_squares_fails() -> None:
    """FORMULAS 1: E[x^2] - E[x]^2 in float32 returns nonsense for mean 4096, std 1."""
    x = np.random.default_rng(2).normal(4096, 1, size=(100_000, 1)).astype(np.float32)
    naive = (x * x).mean(axis=0) - x.mean(axis=0) ** 2
    assert abs(float(naive[0]) - 1) > 0.2
    assert_allclose(Moments.of(x).variance, x.astype(np.float64).var(axis=0), rtol=1e-12)


@given(values(st.integers(1, 130)), st.data())
def test_the_tree_gives_the_same_bits_for_any_cutting_and_order(x: Floats, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(x) - 1)), max_size=12)) - {len(x)})
    edges = list(zip([0, *cuts], [*cuts, len(x)], strict=True))
    tree = MomentsTree()
    for start, stop in data.draw(st.permutations(edges)):
        tree.add(start, x[start:stop], None, 1)
    whole, direct = tree.fold(), reduce_items(x, None, 1)
    assert tree.count == len(x)
    assert len(tree.nodes) <= 2 * len(x).bit_length()
    for mean, m2 in ((whole.mean, whole.m2), direct):
        assert_array_equal(mean, Moments.of(x).mean)
        assert_array_equal(m2, Moments.of(x).m2)
    check(whole, x)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_dyadic_blocks_tile_the_range_with_aligned_nodes(a: int, b: int) -> None:
    start, stop = sorted((a, b))
    at = start
    for level, index in dyadic_blocks(start, stop):
        assert index << level == at
        at += 1 << level
    assert at == stop or (start == stop and at == start)


def test_pairs_of_items_that_hold_several_values() -> None:
    """An item may be a channel: `count` values with their own m2."""
    x = np.random.default_rng(3).normal(size=(8, 4, 5))  # items, features, values
    mean, m2 = x.mean(axis=2), ((x - x.mean(axis=2, keepdims=True)) ** 2).sum(axis=2)
    flat = x.transpose(0, 2, 1).reshape(-1, 4)
    for got in (reduce_pairs(mean, m2, 5), reduce_items(mean[:7], m2[:7], 5)):
        rows = flat if got[0] is not None and np.allclose(got[0], flat.mean(axis=0)) else flat[:35]
        assert_allclose(got[0], rows.mean(axis=0), atol=SUMS)
        assert_allclose(got[1], ((rows - rows.mean(axis=0)) ** 2).sum(axis=0), rtol=SUMS)


@pytest.mark.parametrize("value", [0.1, -3.3, 1e-9, 123456.789])
@pytest.mark.parametrize("n", [2, 3, 7, 100])
def test_equal_values_have_variance_zero_exactly(value: float, n: int) -> None:
    moments = Moments.of(np.full((n, 2), value))
    assert_array_equal(moments.mean, value)
    assert_array_equal(moments.m2, 0)


def test_edges() -> None:
    assert Moments.of(np.zeros((0, 4))).mean.shape == (4,)
    assert np.isnan(Moments.empty((2,)).variance).all()
    assert Moments.of([1, 2, 3]).mean == 2.0
    assert np.isnan(Moments.of([[np.nan, 1.0], [0.0, 1.0]]).mean).tolist() == [True, False]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (3.0, ShapeError, "got a scalar"),
        ([[1], [2, 3]], ShapeError, "ragged"),
        ("abc", DtypeError, "<U3"),
        ([1j], DtypeError, "complex128"),
        ([None], DtypeError, "object"),
        (np.zeros(2, "datetime64[s]"), DtypeError, "datetime64"),
    ],
)
def test_what_is_not_rows_of_numbers_is_refused(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Moments.of(x)


def test_merge_refuses_other_features() -> None:
    with pytest.raises(ShapeError, match=r"features of shape \(2,\); got \(3,\)"):
        Moments.of([[1.0, 2.0]]).merge(Moments.of([[1.0, 2.0, 3.0]]))
