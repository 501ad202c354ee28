"""Steps act as the array of numbers that they stand for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.steps import Steps, in_runs


@given(st.data())
def test_steps_are_the_array(data: Any) -> None:
    numbers = range(data.draw(st.integers(0, 9)), data.draw(st.integers(0, 99)), data.draw(st.integers(1, 9)))
    at_most = data.draw(st.none() | st.integers(0, 99))
    steps, array = Steps(numbers, at_most=at_most), np.array(numbers, np.int64)
    if at_most is not None:
        array = np.minimum(array, at_most)
    np.testing.assert_array_equal(steps, array)
    assert np.asarray(steps).dtype == np.int64
    part = data.draw(st.slices(len(numbers)))
    np.testing.assert_array_equal(steps[part], array[part])
    if len(numbers):
        place = data.draw(st.integers(-len(numbers), len(numbers) - 1))
        assert steps[place] == array[place]
        places = np.array(data.draw(st.lists(st.integers(0, len(numbers) - 1))), np.uint32)
        np.testing.assert_array_equal(steps[places], array[places])
        np.testing.assert_array_equal(steps[places[:, None]], array[places[:, None]])
    with pytest.raises(IndexError):
        steps[len(numbers)]
    with pytest.raises(ValueError, match="expected copy=None or True"):
        np.asarray(steps, copy=False)


@given(n=st.integers(0, 50), run=st.integers(1, 60))
def test_runs_follow_each_other(n: int, run: int) -> None:
    parts = list(in_runs(n, run=run))
    assert [k for part in parts for k in part.tolist()] == list(range(n))
    assert all(0 < len(part) <= run for part in parts)
