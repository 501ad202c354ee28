"""Question 3: regrets by hand, and losses that were planted."""

import numpy as np
import pytest

from benchmarks.study.gathered import gather
from benchmarks.study.records import Record, Setting
from benchmarks.study.regret import ACTION, ALWAYS, NEVER, PLAN, judge, section, share_closed
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
    assert "loses to always batch norm" in said.answer


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
