"""Batches of two mixed sources are told apart by `need`: the target of at most 1 % mistaken, on 1,000 batches."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma

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
    assert plan.decomposition is not None
    # Deciding batch by batch pays where drift is more than three times noise(B); in batches of 4 it need not be.
    pays = plan.decomposition["drift"] > 3 * (np.log(size / 2) - digamma((size - 1) / 2)) / 2
    once = "scale" if plan.decomposition["feature"] + plan.decomposition["drift"] <= 0.1 else "standardize"
    assert plan.action == ("normalize" if pays else once)
    assert pays or size == 4
