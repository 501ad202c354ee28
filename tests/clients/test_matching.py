"""Plans of other batches: refused, kept as far as they fit, or made anew."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from assessor import FingerprintError, Plan, assess
from clients import AssessedLoader, PlanMismatchWarning
from clients.matching import held_batches
from norms import rule_from_dict

from .datasets import Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)
ROWS = AssessedLoader(DATASET, 8, shuffle=False).plan
SHUFFLED = AssessedLoader(DATASET, 8, method="published", threshold=0.4).plan

MISMATCHES = [
    (Pairs(X[:80], Y[:80]), {}, "samples 90 were assessed, 80 are asked for"),
    (DATASET, {"batch_size": 9}, "batch_size 8 were assessed, 9 are asked for"),
    (DATASET, {"drop_last": True}, "drop_last False were assessed, True are asked for"),
]


@pytest.mark.parametrize(("dataset", "options", "message"), MISMATCHES)
def test_error(dataset: Any, options: dict[str, Any], message: str) -> None:
    loader = AssessedLoader(dataset, **{"batch_size": 8, "plan": ROWS, **options})
    for use in (lambda: loader.plan, lambda: next(iter(loader)), lambda: loader.state_dict()):
        with pytest.raises(FingerprintError, match=f"{message}.*on_mismatch='rescore'"):
            use()


def decided(loader: AssessedLoader) -> dict[int, Any]:
    return {decision.index: (batch, decision) for batch, decision in loader.decisions()}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_warn_keeps_what_maps(num_workers: int) -> None:
    """Five samples more: the plan's 11 full batches hold the same ids; its short last one does not."""
    more, labels = two_sources(95)
    more[:90] = X
    options: dict[str, Any] = {"on_mismatch": "warn", "shuffle": "batches", "num_workers": num_workers}
    loader = AssessedLoader(Pairs(more, labels), 8, plan=ROWS, **options)
    with pytest.warns(PlanMismatchWarning, match="samples 90 were assessed, 95.* 11 of 12 batches hold") as caught:
        batches = decided(loader)
    assert caught[0].filename == __file__
    assert len(batches) == 12
    for index in range(11):
        assert batches[index][1] == ROWS[index]
    rest, decision = batches[11]
    assert len(rest[0]) == 7
    assert "scored by the rule" in decision.reason
    assert decision.score == pytest.approx(assess_one(rest[0].numpy()))


def assess_one(x: np.ndarray[Any, Any]) -> float:
    return float(rule_from_dict(ROWS.rule).score(torch.from_numpy(x)))


def test_warn_with_drop_last() -> None:
    loader = AssessedLoader(DATASET, 8, plan=ROWS, drop_last=True, on_mismatch="warn")
    with pytest.warns(PlanMismatchWarning, match="11 of 11 batches"):
        batches = decided(loader)
    assert all(batches[i][1] == ROWS[i] for i in range(11))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("dataset", "plan", "batch_size"), [(DATASET, ROWS, 9), (Pairs(X[:30], Y[:30]), SHUFFLED, 8)])
def test_warn_when_nothing_maps(dataset: Any, plan: Plan, batch_size: int, num_workers: int) -> None:
    """The plan's rule serves for batches of any size: another batch size is warned about, not refused."""
    loader = AssessedLoader(dataset, batch_size, plan=plan, on_mismatch="warn", num_workers=num_workers)
    with pytest.warns(PlanMismatchWarning, match=r"0 of \d+ batches hold"):
        batches = decided(loader)
    rule = rule_from_dict(plan.rule)
    assert sorted(batches) == list(range(-(-len(dataset) // batch_size)))
    for (x, _), decision in batches.values():
        assert decision.score == pytest.approx(float(rule.score(x)), rel=1e-6)
        assert decision.normalize == bool(rule(x))


@pytest.mark.parametrize("plan", [ROWS, SHUFFLED])
@pytest.mark.parametrize(("dataset", "options", "message"), MISMATCHES)
def test_rescore(plan: Plan, dataset: Any, options: dict[str, Any], message: str) -> None:
    sizes = {"batch_size": 8, "drop_last": False} | options
    loader = AssessedLoader(dataset, plan=plan, on_mismatch="rescore", **sizes)
    ids = plan.order.ids(len(dataset))
    x, y = dataset.x.numpy()[ids], dataset.y[ids]
    want = assess(x, labels=y, method=plan.method, threshold=plan.threshold, **sizes)
    assert (loader.plan.method, loader.plan.order) == (plan.method, plan.order)
    np.testing.assert_array_equal(loader.plan.scores, want.scores)
    np.testing.assert_array_equal(loader.plan.normalize, want.normalize)
    assert len(decided(loader)) == len(loader.plan)


def test_rescore_keeps_published_exact_and_takes_a_threshold() -> None:
    images = torch.randn(30, 4, 4) + 1
    exact: dict[str, Any] = {"method": "published", "method_options": {"published_exact": True}}
    plan = AssessedLoader(TensorDataset(images), 4, **exact).plan
    again = AssessedLoader(TensorDataset(images[:20]), 4, plan=plan, on_mismatch="rescore", threshold=0.2).plan
    assert again.rule["published_exact"]
    assert again.cutoffs.tolist() == [0.2] * 5


def test_a_plan_that_fits_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in ("error", "warn", "rescore"):
            assert AssessedLoader(DATASET, 8, plan=ROWS, on_mismatch=mode).plan is ROWS


@pytest.mark.parametrize("plan", [ROWS, SHUFFLED])
@pytest.mark.parametrize("drop_last", [False, True])
def test_held_batches_against_a_plain_comparison(plan: Plan, drop_last: bool) -> None:
    for n_rows in (1, 7, 8, 40, 88, 90, 91, 96):
        ours = plan.order.ids(n_rows).tolist()
        theirs = plan.order.ids(plan.n_rows).tolist()
        mine = [ours[i : i + 8] for i in range(0, n_rows, 8)]
        if drop_last:
            mine = [batch for batch in mine if len(batch) == 8]
        planned = [theirs[i * 8 : i * 8 + 8] for i in range(len(plan))]
        want = [i < len(planned) and batch == planned[i] for i, batch in enumerate(mine)]
        got = held_batches(plan, n_rows=n_rows, batch_size=8, drop_last=drop_last)
        assert got.tolist() == want
