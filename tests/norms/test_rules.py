import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from norms import DEFAULT_RULE, Rule, RuleError, rule_from_dict
from tests.norms.reference import Floats, heterogeneity, need, noise, outside_every_band

NEED = {
    "measure": "standard_divergence",
    "cutoff": 1.0,
    "constant_log_variance": -1.5,
    "constant_features": [0, 4],
    "feature_axis": "element",
}


def scored(rule: Rule, x: NDArray[np.floating]) -> float:
    return float(rule.score(torch.tensor(x)))


def batch(seed: int, b: int, f: int, spread: float = 1.0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(rng.normal(0, spread, f), rng.lognormal(0, spread, f), (b, f)))


@given(seed=st.integers(0, 999), b=st.integers(2, 40), f=st.integers(6, 30))
def test_need_is_the_plans(seed: int, b: int, f: int) -> None:
    x = batch(seed, b, f)
    x[:, 0] = 3.0  # constant in the dataset
    x[:, 1] = 0.1  # constant in this batch: sums of 0.1 are not exact, its variance must be
    want = need(x, {0, 4}, -1.5)
    rule = rule_from_dict(NEED)
    assert scored(rule, x) == pytest.approx(want, rel=1e-10, abs=1e-10)
    assert bool(rule(torch.tensor(x))) == (want > 1.0)


def test_need_without_a_plan_leaves_constant_features_out() -> None:
    x = batch(1, 6, 9)
    x[:, [2, 5]] = 0.1
    assert scored(DEFAULT_RULE, x) == pytest.approx(need(x, {2, 5}, 0.0), abs=1e-12)
    assert not bool(DEFAULT_RULE(torch.ones(4, 5)))


def test_need_of_standard_data_is_near_zero() -> None:
    x = np.random.default_rng(0).normal(0, 1, (16, 4000))
    assert scored(DEFAULT_RULE, x) == pytest.approx(0, abs=0.01)


def test_noise_is_the_table_of_the_formula() -> None:
    table = {2: 0.98, 4: 0.33, 8: 0.14, 16: 0.066, 32: 0.032}
    for b, value in table.items():
        assert noise(b) == pytest.approx(value, rel=0.02)


@given(seed=st.integers(0, 999), b=st.integers(2, 40), f=st.integers(2, 30))
def test_heterogeneity_is_the_plans(seed: int, b: int, f: int) -> None:
    x = batch(seed, b, f)
    x[:, 0] = 0.1
    rule = rule_from_dict({"measure": "gaussian_divergence", "cutoff": 0.2, "bias": 0.05})
    want = heterogeneity(x) - 0.05
    assert scored(rule, x) == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert bool(rule(torch.tensor(x))) == (want > 0.2)


@given(seed=st.integers(0, 999), a=st.floats(0.1, 50), b=st.floats(-50, 50))
def test_heterogeneity_ignores_shift_and_scale(seed: int, a: float, b: float) -> None:
    x = batch(seed, 8, 6)
    rule = rule_from_dict({"measure": "gaussian_divergence", "cutoff": 0.2})
    assert scored(rule, a * x + b) == pytest.approx(scored(rule, x), abs=1e-7)


@pytest.mark.parametrize("measure", ["standard_divergence", "gaussian_divergence"])
def test_channel_axis_counts_positions_as_samples(measure: str) -> None:
    x = batch(3, 4 * 5 * 2, 3).reshape(4, 5, 2, 3).transpose(0, 3, 1, 2)
    rule = rule_from_dict({"measure": measure, "cutoff": 1.0, "feature_axis": "channel"})
    flat = x.transpose(0, 2, 3, 1).reshape(-1, 3)
    want = need(flat, set(), 0.0) if measure == "standard_divergence" else heterogeneity(flat)
    assert scored(rule, x) == pytest.approx(want, abs=1e-10)


def test_element_axis_flattens_samples() -> None:
    x = batch(3, 4, 12).reshape(4, 3, 2, 2)
    assert scored(DEFAULT_RULE, x) == pytest.approx(need(x.reshape(4, 12), set(), 0.0), abs=1e-10)


@given(
    seed=st.integers(0, 999),
    means=st.lists(st.floats(-3, 3), min_size=1, max_size=4),
    p=st.floats(0.1, 2),
)
def test_class_deviation_is_the_bands(seed: int, means: list[float], p: float) -> None:
    x = np.random.default_rng(seed).normal(1, 1, (3, 4, 5))
    rule = rule_from_dict({"measure": "class_deviation", "cutoff": p, "class_means": means})
    assert bool(rule(torch.tensor(x))) == outside_every_band(x, means, p)


def test_class_deviation_of_a_zero_class_mean() -> None:
    rule = rule_from_dict({"measure": "class_deviation", "cutoff": 1.2, "class_means": [0.0]})
    assert not bool(rule(torch.zeros(2, 3)))
    assert bool(rule(torch.full((2, 3), 1e-6)))


def test_published_exact_drops_the_border_and_negative_bands() -> None:
    rule = {"measure": "class_deviation", "cutoff": 1.2, "class_means": [1.0], "published_exact": True}
    image = torch.ones(1, 3, 3)
    image[:, -1, :] = image[:, :, -1] = 1e6
    assert not bool(rule_from_dict(rule)(image))
    assert bool(rule_from_dict(rule | {"published_exact": False})(image))
    negative = rule | {"class_means": [-1.0]}
    assert bool(rule_from_dict(negative)(-torch.ones(1, 3, 3)))
    assert not bool(rule_from_dict(negative | {"published_exact": False})(-torch.ones(1, 3, 3)))


@pytest.mark.parametrize(
    "rule", [NEED | {"constant_features": []}, {"measure": "gaussian_divergence", "cutoff": -99.0}]
)
def test_undefined_scores_do_not_flag(rule: dict[str, object]) -> None:
    read = rule_from_dict(rule | {"cutoff": -99.0})
    assert not bool(read(torch.randn(1, 5)))
    x = torch.randn(4, 5)
    x[0, 0] = torch.nan
    assert not bool(read(x))


def test_half_precision_is_read_in_float64() -> None:
    x = (torch.randn(8, 50) * 5 + 300).half()
    assert float(DEFAULT_RULE.score(x)) == float(DEFAULT_RULE.score(x.double()))


def test_mean_4096_is_no_trouble() -> None:
    x = batch(0, 8, 20).astype(np.float32)
    rule = rule_from_dict({"measure": "gaussian_divergence", "cutoff": 0.2})
    x = x.round(2)
    shifted = (x.astype(np.float64) + 4096).astype(np.float32)
    assert scored(rule, shifted) == pytest.approx(heterogeneity(shifted.astype(np.float64)), abs=1e-9)


def test_rules_survive_json() -> None:
    rules = [
        NEED,
        {"measure": "gaussian_divergence", "cutoff": 0.2, "bias": 0.01, "feature_axis": "channel"},
        {"measure": "class_deviation", "cutoff": 1.2, "class_means": [1.0], "published_exact": True},
    ]
    for rule in rules:
        read = rule_from_dict(json.loads(json.dumps(rule)))
        assert read.to_dict() == rule
        assert rule_from_dict(read.to_dict()) == read


def test_bad_rules_are_refused() -> None:
    with pytest.raises(RuleError, match=r"measure among: standard_divergence, .*got 'entropy'"):
        rule_from_dict({"measure": "entropy", "cutoff": 1})
    with pytest.raises(RuleError, match=r"standard_divergence rule with 'cutoff'.*got nothing"):
        rule_from_dict({"measure": "standard_divergence"})
    with pytest.raises(RuleError, match="got cutoff, colour: pass the rule of a plan as it is"):
        rule_from_dict({"measure": "gaussian_divergence", "cutoff": 1, "colour": 2})
    with pytest.raises(RuleError, match="feature_axis element or channel; got 'pixel'"):
        rule_from_dict({"measure": "gaussian_divergence", "cutoff": 1, "feature_axis": "pixel"})
    with pytest.raises(RuleError, match="at least one number in class_means; got none"):
        rule_from_dict({"measure": "class_deviation", "cutoff": 1})
    with pytest.raises(RuleError, match=r"at least 5 features, .* got 3: put the gate in front"):
        rule_from_dict(NEED)(torch.randn(4, 3))
    with pytest.raises(RuleError, match=r"batch \(N, \*\) with N >= 1 and rank >= 2; got \(4,\)"):
        DEFAULT_RULE(torch.randn(4))
