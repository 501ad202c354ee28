"""The rule of a plan, read in torch, gives the plan's own scores and verdicts on the batches that it assessed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assessor import make_plan, measures, profile_array
from norms import RuleError, rule_from_dict

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
        ("scale_dispersion", {"threshold": 0.8}, 1e-9),
        ("location_share", {"threshold": "median_mad(1)"}, 1e-9),
        ("location_share", {"threshold": "mean()", "corrected": True}, 1e-9),
        ("bartlett", {"threshold": "quantile(0.5)"}, 1e-9),
        ("population_divergence", {"threshold": "otsu()"}, 1e-9),
    ],
)
def test_scores_and_verdicts(axis: str, size: int, method: str, options: dict[str, Any], tolerance: float) -> None:
    x = mixed()
    reference = None
    if method == "population_divergence":
        reference = profile_array(x[::2], batch_sizes=[7], feature_axis=axis)
    profile = profile_array(x, batch_sizes=[size], feature_axis=axis, reference=reference)
    plan = make_plan(profile, method=method, **options)
    rule = rule_from_dict(plan.rule)
    assert rule_from_dict(rule.to_dict()) == rule
    for i, score in enumerate(plan.scores):
        batch = torch.tensor(x[i * size : (i + 1) * size])
        assert float(rule.score(batch)) == pytest.approx(score, abs=tolerance, rel=1e-9)
        if abs(score - plan.cutoffs[i]) > tolerance:
            assert bool(rule(batch)) == plan.normalize[i]


def test_every_measure_has_a_rule() -> None:
    with pytest.raises(RuleError) as caught:
        rule_from_dict({"measure": "none"})
    assert all(name in str(caught.value) for name in measures.names())


@pytest.mark.parametrize("measure", ["scale_dispersion", "location_share", "bartlett"])
def test_undefined_scores_do_not_flag(measure: str) -> None:
    rule = rule_from_dict({"measure": measure, "cutoff": -99.0})
    unclear = torch.randn(4, 5)
    unclear[0, 0] = torch.nan
    for x in (torch.randn(1, 5), torch.ones(4, 5), unclear):
        assert torch.isnan(rule.score(x))
        assert not bool(rule(x))


def test_a_reference_of_other_features_is_refused() -> None:
    moments = {"measure": "population_divergence", "cutoff": 1.0, "reference_mean": [0.0, 1.0]}
    rule = rule_from_dict(moments | {"reference_variance": [1.0, 0.0]})
    with pytest.raises(RuleError, match="the 2 features of the reference; got 3: put the gate in front"):
        rule(torch.randn(4, 3))
    with pytest.raises(RuleError, match=r"reference_mean and reference_variance of one length; got \[2, 1\]"):
        rule_from_dict(moments | {"reference_variance": [1.0]})
    constant = rule_from_dict(moments | {"reference_variance": [0.0, 0.0]})
    assert torch.isnan(constant.score(torch.randn(4, 2)))
