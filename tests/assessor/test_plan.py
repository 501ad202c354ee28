import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from assessor import (
    Decision,
    FingerprintError,
    Plan,
    SampleOrder,
    SettingError,
    UnknownNameError,
    assess,
    make_plan,
    methods,
    noise,
    profile_array,
)
from assessor.frozen import FrozenDict
from assessor.methods import Method

RNG = np.random.default_rng(91)
X = RNG.normal(0, 1, size=(50, 6))
X[16:32] = X[16:32] * 40 + 7  # batches 2 and 3 of size 8
PROFILE = profile_array(X, batch_sizes=[4, 8], labels=np.arange(50) % 3)


def test_methods_are_the_pairs_of_the_formulas() -> None:
    assert methods.get("need") == Method("standard_divergence", "fixed(1)")
    assert methods.get("heterogeneity") == Method("spread_divergence", "max(fixed(0.05), null(0.01))")
    assert methods.get("published") == Method("class_deviation", "fixed(1.2)")


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("size", [4, 8])
def test_a_plan_is_a_pure_function_of_profile_and_method(method: str, size: int) -> None:
    one, two = (make_plan(PROFILE, method=method, batch_size=size) for _ in range(2))
    alone = assess(X, batch_size=size, labels=np.arange(50) % 3, method=method)
    assert one.to_json() == two.to_json()
    assert_allclose(one.scores, alone.scores, rtol=1e-12, atol=1e-12)  # the null rests on other moments
    assert (one.method, one.measure, one.batch_size, one.n_rows) == (method, methods.get(method).measure, size, 50)
    assert one.threshold == methods.get(method).threshold
    assert len(one) == -(-50 // size)


def test_decisions() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    assert plan.normalize.tolist() == [False, False, True, True, False, False, False]
    assert plan.flagged_fraction == 2 / 7
    decision = plan[2]
    assert isinstance(decision, Decision)
    assert decision == list(plan)[2] == plan[-5]
    assert (decision.index, decision.normalize, decision.cutoff) == (2, True, 1.0)
    assert decision.score == plan.scores[2] > 1
    for i, each in enumerate(plan):
        assert each.index == i
        assert each.normalize == (each.score > each.cutoff)
    with pytest.raises(IndexError):
        plan[7]
    with pytest.raises(IndexError):
        plan[-8]


def test_reasons_say_what_drives_the_score() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    for decision in plan:
        sign = ">" if decision.normalize else "<="
        assert decision.reason.startswith(f"score {decision.score:.4g} {sign} cutoff 1 nats: ")
    assert "where weights assume 0 and 1" in plan[2].reason
    assert f"std {X[16:24].std():.3g}" in plan[2].reason
    assert "close to standardized already" in assess(RNG.normal(size=(640, 50)), batch_size=64)[0].reason
    scales = RNG.normal(size=(64, 50)) * RNG.lognormal(0, 2, 50)
    scales /= scales.std()
    assert "its features are unlike each other" in assess(scales, batch_size=64)[0].reason
    hetero = make_plan(PROFILE, method="heterogeneity", batch_size=8)[0].reason
    assert "its 6 varying features" in hetero
    single = assess(X[:49], batch_size=8)[6]
    assert single.reason == "the score is undefined (one value per feature, or no feature varies); skipped"
    assert not single.normalize


def test_a_score_equal_to_the_cutoff_is_skipped() -> None:
    scores = make_plan(PROFILE, batch_size=8).scores
    plan = make_plan(PROFILE, batch_size=8, threshold=float(scores[2]))
    assert not plan.normalize[2]
    below = make_plan(PROFILE, batch_size=8, threshold=float(np.nextafter(scores[2], -np.inf)))
    assert below.normalize[2]


def test_another_threshold_needs_no_other_profile() -> None:
    plan = make_plan(PROFILE, batch_size=8, threshold="fixed(0.2)")
    assert plan.threshold == "fixed(0.2)"
    assert plan.rule["cutoff"] == 0.2
    assert_array_equal(plan.normalize, plan.scores > 0.2)
    with pytest.raises(SettingError, match=r"expected a measure with a null for null\(0.01\)"):
        make_plan(PROFILE, batch_size=8, threshold="null(0.01)")


def test_a_plan_is_immutable() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    with pytest.raises(FrozenInstanceError):
        plan.batch_size = 3  # type: ignore[misc]  # what is tested
    with pytest.raises(FrozenInstanceError):
        plan[0].normalize = True  # type: ignore[misc]  # what is tested
    for column in (plan.scores, plan.cutoffs, plan.normalize, *plan.details.values()):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    fresh = np.array(plan.scores)
    fresh[0] = 99
    assert plan.scores[0] != 99


def test_a_plan_can_be_copied_and_sent_to_workers() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    assert copy.deepcopy(plan).to_json() == plan.to_json()
    assert pickle.loads(pickle.dumps(plan)).to_json() == plan.to_json()


def test_columns() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    columns = plan.to_columns()
    assert list(columns)[:4] == ["index", "normalize", "score", "cutoff"]
    assert list(columns)[4:] == ["pooled_mean", "pooled_std", "heterogeneity"]
    assert {len(column) for column in columns.values()} == {7}
    assert_array_equal(columns["score"], plan.scores)
    assert_allclose(columns["pooled_mean"][:6], X[:48].reshape(6, -1).mean(axis=1), rtol=1e-9, atol=1e-12)
    assert_allclose(columns["pooled_std"][:6], X[:48].reshape(6, -1).std(axis=1), rtol=1e-9)


def test_units() -> None:
    assert make_plan(PROFILE, batch_size=8).unit == "nats"
    assert make_plan(PROFILE, batch_size=8, method="published").unit == ""


def test_drop_last_leaves_the_ragged_batch_out() -> None:
    kept, dropped = (make_plan(PROFILE, batch_size=8, drop_last=drop) for drop in (False, True))
    assert (len(kept), len(dropped)) == (7, 6)
    assert_array_equal(kept.scores[:6], dropped.scores)
    assert kept.decomposition == dropped.decomposition
    assert kept.fingerprint != dropped.fingerprint
    with pytest.raises(SettingError, match="expected at least 64 rows for one batch with drop_last; got 50"):
        assess(X, batch_size=64, drop_last=True)


def test_the_order_is_kept() -> None:
    order = SampleOrder.shuffled(3)
    plan = make_plan(profile_array(X[order.ids(50)], batch_sizes=[8]), order=order)
    assert plan.order == order
    plan.check_order(order, 50, 8, False)
    assert make_plan(PROFILE, batch_size=8).order == SampleOrder.ROWS


def test_check_order_names_what_differs() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    plan.check_order(SampleOrder.ROWS, 50, 8, False)
    loose: Any = np.False_
    plan.check_order(SampleOrder.ROWS, np.int64(50), np.int64(8), loose)  # type: ignore[arg-type]  # NumPy numbers
    with pytest.raises(FingerprintError) as caught:
        plan.check_order(SampleOrder.ROWS, 51, 8, True)
    assert str(caught.value) == (
        "expected the batches that the plan assessed; samples 50 were assessed, 51 are asked for; "
        "drop_last False were assessed, True are asked for: use the plan's own settings or assess again"
    )
    with pytest.raises(FingerprintError, match="batch_size 8 were assessed, 4 are asked for: use"):
        plan.check_order(SampleOrder.ROWS, 50, 4, False)
    with pytest.raises(FingerprintError, match=r"order \{'kind': 'rows'\} were assessed, \{'kind': 'shuffled'"):
        plan.check_order(SampleOrder.shuffled(1), 50, 8, False)


def test_a_plan_without_a_complete_batch_says_so() -> None:
    few = RNG.normal(size=(5, 3))
    assert any(note.startswith("no batch is complete: there are 5 rows") for note in assess(few, batch_size=6).notes)
    assert not any("complete" in note for note in assess(few, batch_size=5).notes)


def test_settings_out_of_range() -> None:
    with pytest.raises(
        UnknownNameError, match="expected a method among: need, heterogeneity, published, gaussian; got 'best'"
    ):
        make_plan(PROFILE, method="best", batch_size=8)
    with pytest.raises(UnknownNameError, match="expected a method among"):
        assess(np.array(["the data is not looked at"]), batch_size=8, method="best")
    with pytest.raises(SettingError, match=r"expected batch_size, one of those profiled \(4, 8\); got none"):
        make_plan(PROFILE)
    for size in (3, 0, -1, "8", 5.5):
        with pytest.raises(SettingError, match=r"batch size that was profiled \(4, 8\); got .*: profile the"):
            make_plan(PROFILE, batch_size=size)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(SettingError, match="expected options of method 'need' among: none; got null"):
        make_plan(PROFILE, batch_size=8, null="normal")
    with pytest.raises(SettingError, match="of method 'published' among: published_exact; got a, null"):
        make_plan(PROFILE, batch_size=8, method="published", null="normal", a=1)


@pytest.mark.parametrize("feature_axis", ["element", "channel"])
def test_rules_are_json_and_carry_the_cutoff(feature_axis: str) -> None:
    profile = profile_array(RNG.normal(size=(24, 3, 4)), batch_sizes=[4], feature_axis=feature_axis)
    for method in methods.names():
        rule = dict(make_plan(profile, method=method).rule)
        assert FrozenDict(json.loads(json.dumps(rule, allow_nan=False))) == rule
        assert rule["measure"] == methods.get(method).measure
        assert np.isfinite(rule["cutoff"])


def test_a_rule_judges_a_batch_as_the_plan_does() -> None:
    """Need from the rule's numbers alone, on a batch of the dataset, in plain NumPy."""
    x = X.copy()
    x[:, 2] = 4.0
    x[:, 3] = np.round(x[:, 3] / 3)
    plan = assess(x, batch_size=8)
    active = [f for f in range(6) if f not in plan.rule["constant_features"]]
    for i in range(6):
        batch = x[i * 8 : i * 8 + 8][:, active]
        variance, mean = batch.var(axis=0), batch.mean(axis=0)
        imputed = plan.rule["constant_log_variance"] - 2 * float(noise(8))
        logs = np.where(variance > 0, np.log(np.where(variance > 0, variance, 1)), imputed)
        score = ((variance + mean**2 - 1 - logs) / 2).mean() - float(noise(8))
        assert_allclose(score, plan.scores[i], rtol=1e-9, atol=1e-9)


def test_many_batches() -> None:
    x = np.tile(RNG.normal(size=(1000, 2)).astype(np.float32), (400, 1))
    x[::4] *= 9
    plan = make_plan(profile_array(x, batch_sizes=[2]))
    assert len(plan) == 200_000
    assert plan[199_999].index == 199_999
    assert_array_equal(plan.scores[:500], plan.scores[-500:])
    again = Plan.from_json(plan.to_json())
    assert_array_equal(again.scores, plan.scores)


def test_no_rows_no_plan() -> None:
    profile = profile_array(X, batch_sizes=[8], first_row=8)
    with pytest.raises(Exception, match="missing rows 0 to 7: send the shards that hold them"):
        make_plan(profile)


def test_plans_that_say_the_same_are_equal() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert make_plan(PROFILE, batch_size=8, threshold=2.0) != plan
    assert plan != 3


def test_batches_that_are_not_there_are_named() -> None:
    plan = make_plan(PROFILE, batch_size=8)
    assert plan[-1] == plan[len(plan) - 1]
    with pytest.raises(IndexError, match=f"expected a batch from 0 to {len(plan) - 1}; got {len(plan)}"):
        plan[len(plan)]
    with pytest.raises(TypeError, match="expected the number of a batch"):
        plan[0:3]  # type: ignore[index]  # that is the point


def test_nothing_of_a_plan_can_be_changed() -> None:
    x = np.random.default_rng(8).normal(size=(40, 6))
    x[:, 2] = 1.0
    plan = assess(x, batch_size=8)
    assert plan.decomposition is not None
    text = plan.to_json()
    changes: list[tuple[str, tuple[Any, ...]]] = [
        ("__setitem__", ("cutoff", 9)),
        ("update", ({"cutoff": 9},)),
        ("pop", ("cutoff", None)),
        ("setdefault", ("other", 9)),
        ("clear", ()),
        ("__delitem__", ("cutoff",)),
        ("popitem", ()),
        ("__ior__", ({"cutoff": 9},)),
    ]
    for mapping in (plan.rule, plan.decomposition, plan.details):
        for name, arguments in changes:
            with pytest.raises(TypeError, match="belongs to a plan and cannot be changed"):
                getattr(mapping, name)(*arguments)
    assert plan.rule["constant_features"] == (2,)
    with pytest.raises(ValueError, match="read-only"):
        plan.details["pooled_mean"][0] = 9
    with pytest.raises(FrozenInstanceError):
        plan.batch_size = 4  # type: ignore[misc]  # what is tested
    for again in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan), copy.copy(plan), Plan.from_json(text)):
        assert again == plan
        assert again.to_json() == text
        assert again[1] == plan[1]
        assert isinstance(again.rule, FrozenDict)
    assert dict(plan.rule) == {**plan.rule} == plan.rule
