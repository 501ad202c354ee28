"""The NumPy reading of a plan's rule against the plan itself."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import norms
from assessor import Plan, UnknownNameError, assess, make_plan, measures, profile_array
from clients.scoring import decide


def data(kind: str) -> NDArray[np.float64]:
    generator = np.random.default_rng(7)
    x = generator.normal(size=(96, 6, 5))
    if kind == "mixed":
        x[40:] *= np.exp(generator.normal(size=(6, 5)))
        x[60:] += 3
    if kind == "blank":  # features constant within some batches, and one over all
        x[:20, 0, 1] = 2.0
        x[:, 2, 2] = 7.0
    return x


def batches(x: NDArray[Any], plan: Plan) -> list[NDArray[Any]]:
    return [x[i * plan.batch_size : (i + 1) * plan.batch_size] for i in range(len(plan))]


@pytest.mark.parametrize("feature_axis", ["element", "channel"])
@pytest.mark.parametrize("batch_size", [2, 8, 13])
@pytest.mark.parametrize("kind", ["plain", "mixed", "blank"])
def test_need_gives_the_plans_own_scores(kind: str, batch_size: int, feature_axis: str) -> None:
    x = data(kind)
    plan = assess(x, batch_size=batch_size, threshold=0.3, feature_axis=feature_axis)
    decisions = [decide(plan.rule, batch, index=i) for i, batch in enumerate(batches(x, plan))]
    np.testing.assert_allclose([d.score for d in decisions], plan.scores, rtol=1e-9, atol=1e-9)
    assert [d.normalize for d in decisions] == plan.normalize.tolist()
    assert [d.index for d in decisions] == list(range(len(plan)))


@pytest.mark.parametrize("kind", ["plain", "mixed"])
@pytest.mark.parametrize("options", [{"null": "normal"}, {"null": "residual"}])
def test_heterogeneity_gives_the_plans_own_decisions(kind: str, options: dict[str, Any]) -> None:
    x = data(kind)
    plan = assess(x, batch_size=8, method="heterogeneity", **options)
    decisions = [decide(plan.rule, batch) for batch in batches(x, plan)]
    assert [d.normalize for d in decisions] == plan.normalize.tolist()
    np.testing.assert_allclose([d.score for d in decisions], plan.scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("feature_axis", ["element", "channel"])
@pytest.mark.parametrize("batch_size", [2, 8, 13])
@pytest.mark.parametrize("kind", ["plain", "mixed", "blank"])
@pytest.mark.parametrize(
    ("measure", "threshold", "options"),
    [
        ("scale_dispersion", "0.8", {}),
        ("location_share", "median_mad(1)", {}),
        ("location_share", "mean()", {"corrected": True}),
        ("bartlett", "quantile(0.5)", {}),
        ("population_divergence", "otsu()", {}),
    ],
)
def test_other_measures_give_the_plans_own_scores(
    measure: str, threshold: str, options: dict[str, Any], kind: str, batch_size: int, feature_axis: str
) -> None:
    x = data(kind)
    axis: Any = {"feature_axis": feature_axis}
    reference = profile_array(x[10:70], batch_sizes=[5], **axis)
    profile = profile_array(x, batch_sizes=[batch_size], **axis, reference=reference)
    plan = make_plan(profile, method=measure, threshold=threshold, **options)
    decisions = [decide(plan.rule, batch) for batch in batches(x, plan)]
    np.testing.assert_allclose([d.score for d in decisions], plan.scores, rtol=1e-9, atol=1e-9)
    clear = np.abs(plan.scores - plan.cutoffs) > 1e-9
    assert np.array_equal(np.array([d.normalize for d in decisions])[clear], plan.normalize[clear])


def test_other_measures_are_undefined_where_the_plan_is() -> None:
    for rule in (
        {"measure": "scale_dispersion"},
        {"measure": "location_share", "corrected": True},
        {"measure": "bartlett"},
    ):
        for x in (np.ones((4, 6)), np.random.default_rng(0).normal(size=(1, 6))):
            assert math.isnan(decide({**rule, "feature_axis": "element", "cutoff": 0.0}, x).score)
    reference = {"measure": "population_divergence", "reference_mean": [0.0], "reference_variance": [0.0]}
    assert math.isnan(decide({**reference, "feature_axis": "element", "cutoff": 0.0}, np.array([[1.0], [2.0]])).score)


def test_every_measure_has_a_rule() -> None:
    with pytest.raises(UnknownNameError) as caught:
        decide({"measure": "none", "cutoff": 1.0}, np.ones((2, 2)))
    assert all(name in str(caught.value) for name in measures.names())


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("shift", [0.0, 0.4, -0.4])
def test_published_gives_the_plans_own_decisions_for_one_class(exact: bool, shift: float) -> None:
    x = data("plain") + shift
    plan = assess(x, batch_size=8, method="published", published_exact=exact)
    decisions = [decide(plan.rule, batch) for batch in batches(x, plan)]
    np.testing.assert_allclose([d.score for d in decisions], plan.scores, rtol=1e-9)
    assert [d.normalize for d in decisions] == plan.normalize.tolist()


def test_published_takes_any_class() -> None:
    """Worked by hand: class means 1 and 10, cutoff 0.5; 1.4 is inside the first band, 12 the second, 5 none."""
    rule = {"measure": "class_deviation", "cutoff": 0.45, "class_means": [1.0, 10.0], "published_exact": False}
    assert decide(rule, np.array([[1.4], [12.0]])).score == pytest.approx(0.4)
    assert not decide(rule, np.array([[1.4], [12.0]])).normalize
    assert decide(rule, np.array([[1.4], [5.0]])).score == pytest.approx(0.5)
    assert decide(rule, np.array([[1.4], [5.0]])).normalize
    zero = {**rule, "class_means": [0.0]}
    assert decide(zero, np.array([[0.0]])).score == 0.0
    assert decide(zero, np.array([[0.1]])).score == math.inf


@pytest.mark.parametrize("method", ["need", "heterogeneity"])
def test_worker_and_gate_agree(method: str) -> None:
    """The gate's torch reading of the rule, in float64, decides as the worker's."""
    x = data("mixed")
    plan = assess(x, batch_size=8, method=method)
    rule = norms.rule_from_dict(plan.rule)
    for batch in batches(x, plan):
        assert bool(rule(torch.from_numpy(batch))) == decide(plan.rule, batch).normalize


@pytest.mark.parametrize("method", ["need", "heterogeneity"])
def test_undefined_scores_skip_and_say_so(method: str) -> None:
    plan = assess(data("plain"), batch_size=8, method=method)
    decision = decide(plan.rule, data("plain")[:1])
    assert math.isnan(decision.score)
    assert not decision.normalize
    assert "undefined" in decision.reason
    constant = decide(assess(data("plain"), batch_size=8, method="heterogeneity").rule, np.ones((4, 6, 5)))
    assert math.isnan(constant.score)


def test_no_feature_varies_anywhere() -> None:
    plan = assess(np.ones((8, 3)), batch_size=4)
    assert math.isnan(decide(plan.rule, np.ones((4, 3))).score)


def test_an_offset_of_a_million_does_not_matter() -> None:
    x = data("plain").astype(np.float64)
    rule = assess(x, batch_size=8, method="heterogeneity", null="normal").rule
    near, far = decide(rule, x[:8]).score, decide(rule, x[:8] + 1e6).score
    assert far == pytest.approx(near, abs=1e-6)


def test_unknown_measure() -> None:
    with pytest.raises(UnknownNameError, match="no rule for measure 'new'; known: bartlett, class_deviation"):
        decide({"measure": "new", "cutoff": 1.0}, np.ones((2, 2)))
