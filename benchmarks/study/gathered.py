"""Records of one part as arrays of shape (cells, seeds): what was measured, scored, and what a choice would get."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.study.intervals import Floats, mean_of_seeds
from benchmarks.study.records import Assessed, Record, Result, Run, Setting

PARTS = ("global", "feature", "drift", "noise")
SAME_DATA = {"digit_rows": "digits"}
"""Families of one dataset are held out, and drawn, together."""


def held_out_with(family: str) -> str:
    """Return the dataset that is held out with a family.

    >>> held_out_with("digit_rows"), held_out_with("wine")
    ('digits', 'wine')
    """
    return SAME_DATA.get(family, family)


@dataclass(frozen=True, eq=False)
class Gathered:
    """The records of some cells.

    Attributes:
        settings: the cells, in the order of all arrays' first axis.
        seeds: of the runs, in the order of all arrays' second axis.
        results: by cell and arm.
        assessed: by cell and seed.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    results: Mapping[tuple[Setting, str], Result]
    assessed: Mapping[tuple[Setting, int], Assessed]

    def __len__(self) -> int:
        return len(self.settings)

    def where(self, chosen: Callable[[Setting], bool]) -> "Gathered":
        """Return the cells for which `chosen` is true."""
        kept = tuple(setting for setting in self.settings if chosen(setting))
        return Gathered(kept, self.seeds, self.results, self.assessed)

    def with_arms(self, arms: Iterable[str]) -> "Gathered":
        """Return the cells in which all these arms were run."""
        wanted = tuple(arms)
        return self.where(lambda setting: all((setting, arm) in self.results for arm in wanted))

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """All arms run in any cell, in order of first appearance."""
        here = set(self.settings)
        return tuple(dict.fromkeys(arm for setting, arm in self.results if setting in here))

    @cached_property
    def everywhere(self) -> tuple[str, ...]:
        """The arms that were run in every cell."""
        return tuple(arm for arm in self.arms if all((s, arm) in self.results for s in self.settings))

    def labels(self, name: str) -> NDArray[np.str_]:
        """Return a field of the settings, as text, (cells,)."""
        return np.array([str(getattr(setting, name)) for setting in self.settings], dtype=np.str_)

    @cached_property
    def datasets(self) -> NDArray[np.str_]:
        """What each cell is held out with, (cells,)."""
        return np.array([held_out_with(setting.family) for setting in self.settings], dtype=np.str_)

    @cached_property
    def batch_sizes(self) -> NDArray[np.int64]:
        """Samples a batch, (cells,)."""
        return np.array([setting.batch_size for setting in self.settings], dtype=np.int64)

    def accuracy(self, arm: str, evaluation: str = "") -> Floats:
        """Return an arm's test accuracy in percent, (cells, seeds); NaN where it was not measured."""
        return 100 * self.of_runs(arm, lambda run: run.accuracy.get(evaluation))

    def of_runs(self, arm: str, value: Callable[[Run], float | None]) -> Floats:
        """Return something of every run of an arm, (cells, seeds); None and missing runs become NaN."""
        found = np.full((len(self.settings), len(self.seeds)), np.nan)
        column = {seed: j for j, seed in enumerate(self.seeds)}
        for i, setting in enumerate(self.settings):
            result = self.results.get((setting, arm))
            for run in result.runs if result else ():
                got = value(run)
                if got is not None and run.seed in column:
                    found[i, column[run.seed]] = got
        return found

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """Names of all measures that were recorded with a number in any cell."""
        here = set(self.settings)
        records = [a for (setting, _), a in self.assessed.items() if setting in here]
        return tuple(sorted({name for a in records for name, value in a.scores.items() if value is not None}))

    def score(self, name: str) -> Floats:
        """Return a score, (cells, seeds), NaN where undefined.

        Args:
            name: a measure; "need: drift" and the like for need's parts; "flagged by METHOD" for the share of
                flagged batches; "batch size".
        """
        kind, _, rest = name.partition(": ")
        if name == "batch size":
            return np.repeat(self.batch_sizes[:, None], len(self.seeds), 1).astype(np.float64)
        if kind == "need" and rest in PARTS:
            return self.of_assessed(lambda a: a.parts.get(rest))
        if name.startswith("flagged by "):
            return self.of_assessed(lambda a: a.flagged.get(name.removeprefix("flagged by ")))
        return self.of_assessed(lambda a: a.scores.get(name))

    def of_assessed(self, value: Callable[[Assessed], float | None]) -> Floats:
        """Return something of every assessment, (cells, seeds); None and missing ones become NaN."""
        found = np.full((len(self.settings), len(self.seeds)), np.nan)
        for i, setting in enumerate(self.settings):
            for j, seed in enumerate(self.seeds):
                assessed = self.assessed.get((setting, seed))
                got = value(assessed) if assessed else None
                if got is not None:
                    found[i, j] = got
        return found

    def follow(self, scores: Floats, cutoff: float, *, above: Floats, below: Floats) -> Floats:
        """Return what one decision for the dataset gets: `above` where its mean score is above the cutoff.

        An undefined score is not above, as in a plan.
        """
        return np.where(scores > cutoff, above, below)


def gather(records: Iterable[Record], part: str) -> Gathered:
    """Return the records of one part; of two of the same cell and arm the later one counts."""
    results: dict[tuple[Setting, str], Result] = {}
    assessed: dict[tuple[Setting, int], Assessed] = {}
    for record in records:
        if record.setting.part != part:
            continue
        if isinstance(record, Result):
            results[record.setting, record.arm] = record
        else:
            assessed[record.setting, record.seed] = record
    settings = tuple(dict.fromkeys(setting for setting, _ in results))
    seeds = tuple(sorted({run.seed for result in results.values() for run in result.runs}))
    return Gathered(settings, seeds, results, assessed)


def best_of(accuracies: Sequence[Floats]) -> Floats:
    """Return the accuracy of the best of some choices in each cell, without the winner's curse.

    For every seed the choice is that with the best mean over the other seeds, and it is judged on this seed. So no
    choice is credited with the luck it was chosen for. With one seed nothing can be chosen so: all NaN.

    Args:
        accuracies: one array (cells, seeds) a choice; NaN where it was not run.
    """
    stacked = np.stack(accuracies)
    n_seeds = stacked.shape[2]
    best = np.full(stacked.shape[1:], np.nan)
    for j in range(n_seeds if n_seeds > 1 else 0):
        others = mean_of_seeds(np.delete(stacked, j, axis=2))
        # A choice that was not run on this seed cannot be judged on it.
        others = np.where(np.isnan(others) | np.isnan(stacked[:, :, j]), -np.inf, others)
        winner = others.argmax(0)
        best[:, j] = stacked[winner, np.arange(stacked.shape[1]), j]
    return best
