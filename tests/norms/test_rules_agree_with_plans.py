"""The rule of a plan, read in torch, gives the plan's own scores and verdicts on the batches that it assessed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assessor import make_plan, profile_array
from norms import rule_from_dict

SHAPE = (60, 4, 3, 5)


def mixed() -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, SHAPE)
    x[24:] = x[24:] * rng.lognormal(0, 1, SHAPE[1:]) + 0.5
    x[:, 0, 0, 0] = 2.0  # constant in the dataset
    x[:12, 1, 1, 1] = 0.1  # constant in some batches
    return x


@pytest.mark.parametrize("axis", ["element", "channel"])
@pytest.mark.parametrize("size", [2, 5, 12])
@pytest.mark.parametrize(
    ("method", "options", "tolerance"),
    [
        ("need", {}, 1e-9),
        # The rule holds one null mean, that of a batch with the usual number of varying features.
        ("gaussian", {}, 0.05),
        ("heterogeneity", {}, 0.05),
        ("published", {}, 1e-9),
        ("published", {"published_exact": True}, 1e-9),
    ],
)
def test_scores_and_verdicts(axis: str, size: int, method: str, options: dict[str, Any], tolerance: float) -> None:
    x = mixed()
    profile = profile_array(x, batch_sizes=[size], feature_axis=axis)
    plan = make_plan(profile, method=method, **options)
    rule = rule_from_dict(plan.rule)
    for i, score in enumerate(plan.scores):
        batch = torch.tensor(x[i * size : (i + 1) * size])
        assert float(rule.score(batch)) == pytest.approx(score, abs=tolerance, rel=1e-9)
        if abs(score - plan.cutoffs[i]) > tolerance:
            assert bool(rule(batch)) == plan.normalize[i]
