"""Every claim's arms train, and what only claims need in training does what it says."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.study.claims import arms
from benchmarks.study.claims.catalogue import CLAIMS
from benchmarks.study.claims.cells import Cell, all_cells, load
from benchmarks.study.claims.run import run, settings
from benchmarks.study.claims.training import Arm, descend, norms_under_decay, order, train, weights_before_norms
from benchmarks.study.records import Data, Result, Setting

KEYS = tuple(all_cells())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(cell: Cell, setting: Setting, samples: int = 24) -> Data:
    """Return the cell's data of seed 1 with few samples for validation and test."""
    data = load(cell, setting, 1)
    validation, test = (tuple((x[:samples], y[:samples]) for x, y in part) for part in (data.validation, data.test))
    return replace(data, validation=validation, test=test)


@pytest.mark.parametrize("key", KEYS)
def test_every_arm_trains(key: str) -> None:
    cell = all_cells()[key]
    setting = replace(cell.setting, steps=3)
    data = small(cell, setting)
    for name, arm in cell.arms.items():
        found = train(arm, data, setting, 1e-3, 1, fixed=cell.fixed).run
        assert set(found.accuracy) == {"", *arm.evaluations}, name
        assert all(0 <= value <= 1 for value in found.accuracy.values()), name
        assert not found.diverged, name


def test_statements_name_cells_arms_and_evaluations_that_exist() -> None:
    used = set()
    for claim in CLAIMS:
        for statement in claim.statements:
            cell = all_cells()[statement.cell]
            used.add(statement.cell)
            for side in (statement.first, statement.second):
                arm, _, evaluation = side.partition("@")
                assert not evaluation or evaluation in cell.arms[arm].evaluations
    assert used == set(KEYS)
    assert [setting.claim for setting in settings()] == list(KEYS)


def test_run_gives_a_result_for_each_arm_and_repeats_itself() -> None:
    setting = replace(all_cells()["population"].setting, steps=3)

    def found() -> list[tuple[str, float, Mapping[str, float], list[Mapping[str, float]]]]:
        results = [result for result in run(setting, (1, 2)) if isinstance(result, Result)]
        return [(each.arm, each.rate, each.tried, [run.accuracy for run in each.runs]) for each in results]

    first = found()
    assert [arm for arm, *_ in first] == list(all_cells()["population"].arms)
    assert first == found()


def test_the_published_rule_flags_nothing_raw_and_everything_standardized() -> None:
    # As measured on all of scikit-learn's digits when the rule was first tried.
    shares = {}
    for key in ("published raw", "published standardized"):
        cell = all_cells()[key]
        setting = replace(cell.setting, steps=20)
        shares[key] = train(cell.arms["published"], small(cell, setting), setting, 1e-3, 1, fixed=True).run.normalized
    assert shares == {"published raw": 0.0, "published standardized": 1.0}


def test_orders() -> None:
    drawn = order(10, 4, 7, False)
    epochs = [torch.cat([next(drawn), next(drawn)]) for _ in range(3)]
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    fixed = order(10, 4, 7, True)
    assert sorted(next(fixed).tolist() for _ in range(2)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_without_decay_there_is_nothing_to_correct() -> None:
    setting, data = _decay_setting()
    plain, corrected = (
        replace(arms.decay(0.1)["no decay, corrected"], stands_in_for=strength) for strength in (0.0, 1e-30)
    )
    first, second = (train(arm, data, setting, 0.05, 1) for arm in (plain, corrected))
    assert first.validation_loss == pytest.approx(second.validation_loss, rel=1e-4)


def test_corrected_learning_rates_lead_where_decay_leads() -> None:
    # The weights in front of norms matter by their directions: those with corrected rates end closer to those with
    # weight decay than those without either do.
    setting, data = _decay_setting()
    of_decay = arms.decay(0.1)

    def directions(arm: Arm) -> list[Tensor]:
        paces = norms_under_decay(arm, data, setting, 0.01, 1, False) if arm.stands_in_for else None
        model = descend(arm, data, setting, 0.01, 1, False, paces=paces)[0]
        return [nn.functional.normalize(weight.detach().flatten(), dim=0) for weight in weights_before_norms(model)]

    decayed, without, corrected = (directions(of_decay[name]) for name in of_decay)
    paced, plain = (
        sum(float((target - weight).norm()) for target, weight in zip(decayed, weights, strict=True))
        for weights in (corrected, without)
    )
    assert paced < 0.8 * plain


def _decay_setting() -> tuple[Setting, Data]:
    cell = all_cells()["decay"]
    setting = replace(cell.setting, steps=60)
    return setting, small(cell, setting)


def test_batches_larger_than_the_data_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch of 32 samples; got 10"):
        next(order(10, 32, 0, False))
