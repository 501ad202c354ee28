"""Packed bits act as the array of bool that they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from assessor.packed_bits import PackedBits

BOOLS = nps.arrays(np.bool_, st.integers(0, 100))


@given(BOOLS, st.data())
def test_they_are_indexed_as_an_array(values: NDArray[np.bool_], data: st.DataObject) -> None:
    bits, n = PackedBits.of(values), len(values)
    part = data.draw(st.slices(n))
    assert_array_equal(bits[part], values[part])
    mask = data.draw(nps.arrays(np.bool_, n))
    assert_array_equal(bits[mask], values[mask])
    if n:
        places = data.draw(nps.arrays(np.int64, st.integers(0, 20), elements=st.integers(-n, n - 1)))
        assert_array_equal(bits[places], values[places])
        assert all(bits[int(place)] == values[place] for place in places)
    for wrong in (n, -n - 1):
        with pytest.raises(IndexError, match="out of bounds"):
            bits[wrong]
        with pytest.raises(IndexError, match="out of bounds"):
            bits[np.array([wrong])]


@given(BOOLS, st.data())
def test_functions_and_operators(values: NDArray[np.bool_], data: st.DataObject) -> None:
    bits, others = PackedBits.of(values), data.draw(nps.arrays(np.bool_, len(values)))
    assert len(bits) == bits.size == len(values)
    assert bits.shape == values.shape
    assert bits.nbytes == -(-len(values) // 8)
    assert bits.sum() == values.sum()
    assert bits.any() == values.any()
    assert bits.all() == values.all()
    assert bits.tolist() == list(bits) == values.tolist()
    assert bits.tobytes() == values.tobytes()
    assert_array_equal(np.flatnonzero(bits), np.flatnonzero(values))
    assert_array_equal(~bits, ~values)
    assert_array_equal(bits != others, values != others)
    assert_array_equal(others & bits, others & values)
    assert_array_equal(bits.astype(int), values.astype(int))
    assert_array_equal(np.where(bits, 1.5, 2.5), np.where(values, 1.5, 2.5))
    if len(values):
        assert bits.mean() == values.mean()


def test_bits_after_the_last_do_not_count() -> None:
    bits = PackedBits(np.array([255, 255], np.uint8), 9)
    assert bits.sum() == 9
    assert np.asarray(bits).tolist() == [True] * 9
    assert PackedBits(np.zeros(0, np.uint8), 0).sum() == 0


def test_without_a_copy_there_is_no_array() -> None:
    with pytest.raises(ValueError, match="without copying"):
        np.array(PackedBits.of(np.array([True])), copy=False)


@given(BOOLS, BOOLS, st.integers(1, 4), st.data())
def test_same(values: NDArray[np.bool_], others: NDArray[np.bool_], step: int, data: st.DataObject) -> None:
    """Whether they are the same does not depend on bits after the last, nor on how many are compared at a time."""
    changed = values.copy()
    if len(values) and data.draw(st.booleans()):
        changed[data.draw(st.integers(0, len(values) - 1))] ^= True
    bits = PackedBits.of(values)
    after = np.packbits(np.concatenate([changed, np.ones(-len(values) % 8, bool)]), bitorder="little")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assessor.packed_bits._STEP", step)
        assert bits.same(PackedBits(after, len(values))) == np.array_equal(values, changed)
        assert bits.same(PackedBits.of(others)) == np.array_equal(values, others)
