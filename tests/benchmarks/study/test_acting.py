"""Rules for a plan's action: today's is the assessor's own, and a planted better one is found on held-out families."""

import numpy as np
import pytest

from assessor import make_plan, methods
from benchmarks.study import acting
from benchmarks.study.acting import Rule
from benchmarks.study.families import load
from benchmarks.study.gathered import gather
from benchmarks.study.records import Assessed, Record, Setting
from benchmarks.study.training import Bench, Budget
from tests.benchmarks.study.synthetic import SEEDS, assessed, result

SETTING = Setting("grid", "digits", "raw", "mlp", 4, "sgd", 10)


def said(drift: float, noise: float, *, whole: float = 0.0, feature: float = 0.0, flagged: float = 0.5) -> Assessed:
    parts = {"global": whole, "feature": feature, "drift": drift, "noise": noise}
    return Assessed(SETTING, 1, {}, parts, {"need": flagged}, "")


@pytest.mark.parametrize(
    ("record", "action"),
    [
        (said(0.2, 0.033), "normalize"),
        (said(0.2, 0.33), "nothing"),
        (said(1.2, 0.33, flagged=1.0), "normalize"),
        (said(0.9, 0.03, flagged=1.0), "nothing"),
        (said(0.5, 0.33, whole=3.0), "scale"),
        (said(0.5, 0.33, feature=0.6), "standardize"),
        (said(2.0, 0.01, flagged=0.0), "nothing"),
        (said(0.0, 0.33, whole=3.0, flagged=1.0), "scale"),
    ],
)
def test_actions_worked_by_hand(record: Assessed, action: str) -> None:
    assert Rule(3.0, scale=1.0, behind="").action(record) == action


def test_where_one_scaling_leaves_little() -> None:
    left = said(0.0, 0.33, whole=3.0, feature=0.2, flagged=1.0)
    assert [Rule(3.0, scale=limit, behind="").action(left) for limit in (1.0, 0.1, 0.0)] == [
        "scale",
        "standardize",
        "standardize",
    ]


def test_the_norm_in_hidden_layers_follows_the_batch_size() -> None:
    rule = Rule(3.0, scale=0.0, behind=acting.BEHIND[-1])
    assert rule.arm(said(2.0, 0.1)) == "need/identity@input+layer"
    large = Assessed(Setting("grid", "digits", "raw", "mlp", 16, "sgd", 10), 1, {}, said(0.0, 0.1).parts, {}, "")
    assert rule.arm(large) == "standardize+batch"


@pytest.mark.parametrize("treatment", ["raw", "scales(2)", "heavy_tails", "mixed(2,between)", "mixed(4,within)"])
@pytest.mark.parametrize("batch_size", [4, 32])
def test_todays_rule_is_the_assessors(treatment: str, batch_size: int) -> None:
    data = load("digits", treatment, 1, batch_size)
    profile = Bench(Budget("mlp", batch_size, "sgd", 10)).profile(data)
    plan = make_plan(profile, drop_last=True)
    assert plan.decomposition is not None
    flagged = {name: make_plan(profile, method=name, drop_last=True).flagged_fraction for name in methods.names()}
    record = Assessed(SETTING, 1, {}, dict(plan.decomposition), flagged, plan.action)
    assert acting.TODAY.action(record) == plan.action


def test_a_planted_rule_is_chosen_on_other_families_and_said() -> None:
    rng = np.random.default_rng(2)
    records: list[Record] = []
    for i in range(16):
        cell = Setting("grid", ("digits", "wine", "waves", "textures")[i % 4], f"means({i})", "mlp", 4, "sgd", 10)
        records += [assessed(cell, seed, 3.0) for seed in SEEDS]
        worth = {"standardize+layer": 90.0, "standardize+batch": 70.0}
        for arm in ("none", "scale", "standardize", "need/identity@input", *worth):
            records.append(result(cell, arm, {seed: worth.get(arm, 80.0) + rng.normal(0, 0.2) for seed in SEEDS}))
        for arm in ("need/identity@input+batch", "need/identity@input+layer"):
            records.append(result(cell, arm, dict.fromkeys(SEEDS, 60.0)))
    cells = gather(records, "grid")
    followed = {rule: rule.follow(cells) for rule in acting.rules()}
    values, chosen = acting.held_out(followed, cells)
    assert {rule.behind for rule in chosen.values()} <= {"layer", acting.BEHIND[-1]}
    assert values.mean() == pytest.approx(90, abs=0.2)
    text = "\n".join(acting.lines(cells))
    assert "beyond noise" in text
    assert "today's" in text
