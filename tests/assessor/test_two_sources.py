"""Batches of two mixed sources are told apart by `need`: the target of at most 1 % mistaken, on 1,000 batches."""

import numpy as np
import pytest
from numpy.typing import NDArray

from assessor import assess

N_BATCHES = 1000


@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("features", [64, 256])
@pytest.mark.parametrize("kind", ["scales", "means", "global"])
def test_need_tells_two_sources_apart(size: int, features: int, kind: str) -> None:
    rng = np.random.default_rng(1)
    x: NDArray[np.float64] = rng.normal(size=(N_BATCHES, size, features))
    second = np.arange(N_BATCHES) % 2 == 1
    if kind == "scales":
        x[second] *= np.exp(2 * rng.normal(size=features))
    elif kind == "means":
        x[second] += 3 * rng.normal(size=features)
    else:
        x[second] = 10 * x[second] + 5
    plan = assess(x.reshape(-1, features), batch_size=size)
    assert (plan.normalize != second).mean() <= 0.01
    assert plan.action == "normalize"
