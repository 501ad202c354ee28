"""Runs the claims' cells: for each arm the learning rate is chosen, then every seed is trained and tested."""

from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.study.claims.cells import all_cells, load
from benchmarks.study.claims.training import Arm, Trained, train
from benchmarks.study.records import Record, Result, Setting
from benchmarks.study.tuning import DIVERGED, START, Score, climb

TUNING_SEED = 0
ABOVE_CHANCE = 1.5
"""Times 1 / classes: what an accuracy must be above for a learning rate to count as one that learns."""


def settings() -> list[Setting]:
    """Return the settings of all cells, in the order of the document."""
    return [cell.setting for cell in all_cells().values()]


def arms(setting: Setting) -> tuple[str, ...]:
    """Return the names of the arms that are compared in a cell."""
    return tuple(all_cells()[setting.claim].arms)


def cost(setting: Setting) -> float:
    """Return about how many seconds a cell takes with 5 seeds."""
    cell = all_cells()[setting.claim]
    return cell.cost * setting.steps / cell.setting.steps


def run(setting: Setting, seeds: Sequence[int], device: str = "cpu") -> Iterator[Record]:
    """Yield the result of each arm of a cell.

    Args:
        setting: one of `settings()`; its steps may be changed.
        seeds: of the reported runs, apart from the tuning seed 0.
        device: where all of it is computed.
    """
    torch.set_num_threads(1)
    cell = all_cells()[setting.claim]
    data = {seed: load(cell, setting, seed, device) for seed in (TUNING_SEED, *seeds)}
    for name, arm in cell.arms.items():

        def fit(rate: float, seed: int, *, tested: bool = True, arm: Arm = arm) -> Trained:
            return train(arm, data[seed], setting, rate, seed, fixed=cell.fixed, tested=tested)

        def score(rate: float, fit: Callable[..., Trained] = fit) -> Score:
            trained = fit(rate, TUNING_SEED, tested=False)
            # A rate at which a network has collapsed to one class is no maximum to stop at: it counts as diverged.
            learned = trained.validation_accuracy > ABOVE_CHANCE / data[TUNING_SEED].classes
            known = learned and not trained.diverged
            return Score(trained.validation_accuracy, trained.validation_loss) if known else DIVERGED

        tuned = climb(score, START[setting.optimizer])
        yield Result(setting, name, tuned.rate, tuned.tried, tuple(fit(tuned.rate, seed).run for seed in seeds))
