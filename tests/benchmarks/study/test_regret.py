"""Question 3: regrets by hand, and losses that were planted."""

import numpy as np
import pytest

from benchmarks.study.following import section
from benchmarks.study.gathered import gather
from benchmarks.study.records import Assessed, Record, Setting
from benchmarks.study.regret import ACTION, ALWAYS, NEVER, PLAN, judge, share_closed
from tests.benchmarks.study import synthetic
from tests.benchmarks.study.synthetic import SEEDS, result


def by_hand() -> list[Record]:
    """Return two cells without noise: batch norm 90 and 60, none 70 and 80, the plan 90 and 70."""
    cells = [Setting("grid", family, "raw", "mlp", 4, "sgd", 10) for family in ("textures", "waves")]
    values = {"batch": (90, 60), "none": (70, 80), "need/identity": (90, 70)}
    return [
        result(cell, arm, dict.fromkeys(SEEDS, float(v[i])))
        for i, cell in enumerate(cells)
        for arm, v in values.items()
    ]


def test_regrets_and_shares_by_hand() -> None:
    found = {p.name: p for p in judge(gather(by_hand(), "grid"))}
    assert found[ALWAYS].regret.value == pytest.approx(10)
    assert found[NEVER].regret.value == pytest.approx(10)
    assert found[PLAN].regret.value == pytest.approx(5)
    assert found[PLAN].worst[0].value == pytest.approx(10)
    assert found[PLAN].worst[1] == 1
    assert found[PLAN].closed_all.value == pytest.approx(0.5)
    assert found[PLAN].better == (1,)
    assert found[NEVER].worse == (0,)


def test_a_share_of_no_gap_is_no_number() -> None:
    one = np.ones((1, 3))
    assert np.isnan(share_closed(one, one, one)).all()
    assert share_closed(one, 0 * one, 2 * one).tolist() == [0.5]


def test_planted_losses_are_named_and_noise_is_not() -> None:
    gathered = gather(synthetic.grid(40, cutoff=0.01, noise=1.0), "grid")
    found = {p.name: p for p in judge(gathered)}
    need = gathered.score("standard_divergence")[:, 0]
    # Batch norm gains 10 points in every cell; the plan misses it where need is below 1.
    assert set(found[PLAN].worse) == set(np.flatnonzero(need <= 1).tolist())
    assert found[PLAN].better == ()
    said = section(gathered)
    assert said is not None
    assert f"worse than always batch norm beyond noise in {len(found[PLAN].worse)} cells, most in" in said.answer
    assert "it loses to always batch norm" in said.answer
    assert "no cell worse than always batch norm beyond noise: missed" in said.answer
    assert f"{PLAN} {len(found[PLAN].worse)}, " in said.answer


def test_targets_that_are_reached_are_said_to_be() -> None:
    said = section(gather(synthetic.grid(60, cutoff=1.0, noise=0.3), "grid"))
    assert said is not None
    assert "no cell worse than always batch norm beyond noise: reached" in said.answer
    assert "the best of all arms closed on held-out families" in said.answer
    assert "- it is" not in said.answer


def test_what_the_plan_adds_is_told_by_where() -> None:
    arms = {
        "none": 50, "batch": 60, "need/identity": 60, "standardize+layer": 70, "standardize+batch": 70,
        "need/identity@input+layer": 80, "need/identity@input+batch": 80, "need/identity@input": 75, "scale": 50,
        "standardize": 65,
    }  # fmt: skip
    records: list[Record] = []
    for i in range(12):
        # Batches of mixed sources are unlike each other by 3 nats; the others are alike.
        drift, treatment = (3.0, "mixed(2,between)") if i % 2 else (0.0, "scales(1)")
        cell = Setting("grid", synthetic.FAMILIES[i // 2 % 3], treatment, "mlp", 4 << i % 3, "sgd", 10 + i)
        for seed in SEEDS:
            parts = {"global": 0.0, "feature": 3.0, "drift": drift, "noise": 0.1}
            records.append(Assessed(cell, seed, {"standard_divergence": 4.0}, parts, {"need": 1.0}, ""))
        records += [result(cell, arm, dict.fromkeys(SEEDS, float(value))) for arm, value in arms.items()]
    said = section(gather(records, "grid"))
    assert said is not None
    assert "get 70.0 %: deciding by the plan adds +5.0 points" in said.answer
    assert "+10.0 points (+10.0 to +10.0) in the 6 cells with mixed sources, nothing in the 6 others" in said.answer


def test_without_differences_nothing_is_worse() -> None:
    rng = np.random.default_rng(5)
    cells = [Setting("grid", "waves", f"scales({i})", "mlp", 4, "sgd", 10) for i in range(60)]
    records = [
        result(cell, arm, {seed: 80 + rng.normal(0, 1.0) for seed in SEEDS})
        for cell in cells
        for arm in ("none", "batch", "need/identity")
    ]
    found = {p.name: p for p in judge(gather(records, "grid"))}
    assert found[PLAN].worse == ()
    assert found[PLAN].less_always.sign == 0


def test_the_action_is_followed_where_its_arms_were_run() -> None:
    found = {p.name: p for p in judge(gather(synthetic.grid(), "grid"))}
    assert found[ACTION].accuracy.value > found[PLAN].accuracy.value
    assert found[ACTION].closed_held_out.low > 0.5
