"""What follows for the defaults: which candidate wins, by how much, and whether beyond noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.study import acting
from benchmarks.study.cutoffs import TODAY, judge_all, treatments
from benchmarks.study.gathered import Gathered
from benchmarks.study.intervals import Estimate, Resampling
from benchmarks.study.mixing import GATE, MODES, difference
from benchmarks.study.regret import ACTION, ALWAYS, BEHIND, NO_PLAN, policies
from benchmarks.study.wording import interval, nats, points, table

RECOMMENDED = "what a plan recommends"
WITHIN = (f"{GATE}+batch", f"{GATE}+layer")


@dataclass(frozen=True, eq=False)
class Choice:
    """One default.

    Attributes:
        name: what is chosen.
        where: on which cells it was compared.
        today: the default in use.
        candidates: the others, each with its mean accuracy less today's, in points.
    """

    name: str
    where: str
    today: str
    candidates: Sequence[tuple[str, Estimate]]

    @property
    def best(self) -> tuple[str, Estimate]:
        """The candidate of the highest difference."""
        return max(self.candidates, key=lambda pair: pair[1].value)

    @property
    def verdict(self) -> str:
        """What follows, in words."""
        sure = [pair for pair in self.candidates if pair[1].above]
        name, less = max(sure, key=lambda pair: pair[1].value) if sure else self.best
        if less.above:
            return f"change to {name}: {points(less)}, beyond noise"
        if less.value > 0:
            return f"keep: {name} is ahead by {points(less)}, within noise"
        return f"keep: the next, {name}, is behind by {points(less)}" + ("" if less.below else ", within noise")


def choices(grid: Gathered, sources: Gathered) -> tuple[Choice, ...]:
    """Return every default with its rivals, as far as they were run."""
    found = [
        _arms(
            "method",
            "grid",
            grid,
            "need/identity",
            [f"{m}/identity" for m in ("heterogeneity", "published", "gaussian")],
        ),
        _arms("method", "sources", sources, GATE, ["heterogeneity/identity@input"]),
        _arms("skip path", "grid", grid, "need/identity", ["need/population", "need/batch_layer"]),
        _arms("skip path", "sources, input", sources, GATE, ["need/population@input", "need/batch_layer@input"]),
        _arms("skip path", "sources, everywhere", sources, "need/identity", ["need/population", "need/batch_layer"]),
        _arms("place of the gate", "grid", grid, GATE, ["need/identity"]),
        _arms("place of the gate", "sources", sources, GATE, ["need/identity@hidden", "need/identity"]),
        _arms("norm in hidden layers, behind the gate", "grid", grid, GATE, WITHIN),
        _arms("norm in hidden layers, behind the gate", "sources", sources, GATE, WITHIN),
        _arms(
            "gates everywhere, or one way for all",
            "grid",
            grid,
            "need/identity",
            ["standardize", "standardize+batch", "standardize+layer", "batch_layer", "layer", "batch"],
        ),
        _evaluation("grid", grid, "need/identity"),
        _evaluation("sources, input", sources, GATE),
        _evaluation("sources, everywhere", sources, "need/identity"),
        _recommended(grid),
        *_cutoffs(grid),
    ]
    return tuple(choice for choice in found if choice is not None and choice.candidates)


def _arms(name: str, where: str, cells: Gathered, today: str, others: Sequence[str]) -> Choice | None:
    if today not in cells.arms:
        return None
    pairs = [(other, difference(cells, other, today)) for other in others if other in cells.arms]
    return Choice(name, where, today, [(other, less) for other, less in pairs if not np.isnan(less.value)])


def _recommended(grid: Gathered) -> Choice | None:
    """Return what plans recommend, the norm in hidden layers included, against simpler habits."""
    if not set(grid.everywhere) >= acting.NEEDED:
        return None
    found = policies(grid)
    others = (NO_PLAN, ACTION, "always standardize+layer", "always standardize+batch", "always layer", ALWAYS)
    resampling = Resampling.draw(len(grid), len(grid.seeds))
    pairs = [(other, resampling.mean(found[other] - found[BEHIND])) for other in others if other in found]
    return Choice(RECOMMENDED, "grid", BEHIND, pairs)


def _evaluation(where: str, cells: Gathered, arm: str) -> Choice | None:
    if arm not in cells.arms:
        return None
    today = MODES[0] if where != "grid" else ""
    pairs = [
        (mode, difference(cells, arm, arm, mode, today)) for mode in MODES if mode.endswith("/B") and mode != today
    ]
    return Choice(
        "evaluation", where, "threshold", [(m.removesuffix("/B"), e) for m, e in pairs if not np.isnan(e.value)]
    )


def _cutoffs(grid: Gathered) -> list[Choice]:
    judged = judge_all(grid)
    found = []
    for cutoff in judged:
        if cutoff.measure in TODAY:
            name = f"{nats(cutoff.best)} (as chosen on other families)"
            found.append(Choice(f"cutoff of {cutoff.measure}", "grid", nats(cutoff.today), [(name, cutoff.gain)]))
    others = [(cutoff.measure.partition("/")[2], less) for cutoff, less in treatments(judged)]
    found.append(Choice("vanishing variances", "grid", "average log variance", others))
    return found


def lines(grid: Gathered, sources: Gathered) -> list[str]:
    """Return the section's Markdown."""
    found = choices(grid, sources)
    if not found:
        return ["Not run yet.", ""]
    rows = [
        [c.name, c.where, c.today, other, interval(less, 1, signed=True), c.verdict if i == 0 else ""]
        for c in found
        for i, (other, less) in enumerate(sorted(c.candidates, key=lambda pair: -pair[1].value))
    ]
    return [
        "Each default against its rivals on the cells that have both: mean test accuracy of the rival less today's, "
        "in points. The best of several rivals is flattered by having been picked; a change is called for only "
        "where its interval is above 0, and should hold on the other row of the same default too; there is no "
        f"allowance for the number of comparisons. `{BEHIND}` is not the gate alone: where batches are alike it "
        "standardizes once, and hidden layers have a norm in both cases.",
        "",
        *table(["default", "cells", "today", "rival", "less today's", "what follows"], rows, left=4),
    ]
