"""Question 3 in numbers: following the plan against always batch norm, never, and the best choice in each cell."""

from dataclasses import dataclass

import numpy as np

from benchmarks.study import acting
from benchmarks.study import arms as catalogue
from benchmarks.study.cutoffs import TODAY, follow_all, held_out
from benchmarks.study.gathered import Gathered, best_of
from benchmarks.study.intervals import Estimate, Floats, Paired, Resampling, holm, mean_of_cells, paired

RISK = 0.05
FIRST_STUDY = ("digits", "wine", "breast_cancer")
"""Families on which today's cutoff of 1 nat was chosen; all others are held out for it."""
ALWAYS, NEVER, PLAN, ACTION = "always batch norm", "never", "plan: need/identity", "plan's action"
FORMER, BEHIND = "plan's action, former rule", "plan's recommendation"
NO_PLAN = "no plan: standardize, +batch from 16 samples, else +layer"
ONE, CHOSEN = "batch norm if need > 1, once", "batch norm if need > cutoff of other families"
MAIN = (ALWAYS, NEVER, PLAN, ACTION, BEHIND)
GAP_POINTS = 0.2
"""Points between always batch norm and the best below which a share of the gap means nothing."""


@dataclass(frozen=True, eq=False)
class Policy:
    """What one way of choosing gets, against the references.

    Attributes:
        name: of the policy.
        values: test accuracy, (cells, seeds), percent.
        accuracy: mean over cells.
        regret: mean of the best of all arms less this.
        worst: the largest mean regret of a cell, the cell's index, and its interval from its own seeds.
        less_always: mean of this less always batch norm.
        closed_two: share of the gap from always batch norm to the better of batch norm and none that it closes.
        closed_all: the same to the best of all arms.
        closed_held_out: closed_all on the families that today's cutoff was not chosen on.
        worse: indices of the cells worse than always batch norm beyond noise, with Holm's allowance for all cells.
        better: of those that are better.
        worse_alone: the number that are worse at RISK / 2 without any allowance.
    """

    name: str
    values: Floats
    accuracy: Estimate
    regret: Estimate
    worst: tuple[Estimate, int]
    less_always: Estimate
    closed_two: Estimate
    closed_all: Estimate
    closed_held_out: Estimate
    worse: tuple[int, ...]
    better: tuple[int, ...]
    worse_alone: int


def share_closed(policy: Floats, always: Floats, best: Floats) -> Floats:
    """Return the share of the gap from always to best that a policy closes: (n, cells) each -> (n,).

    NaN where the gap is below GAP_POINTS.
    """
    gap = mean_of_cells(best) - mean_of_cells(always)
    return np.where(
        gap > GAP_POINTS, (mean_of_cells(policy) - mean_of_cells(always)) / np.where(gap > GAP_POINTS, gap, 1.0), np.nan
    )


def policies(gathered: Gathered) -> dict[str, Floats]:
    """Return the accuracy of every way of choosing, (cells, seeds), percent; those that were run in every cell."""
    none, batch = gathered.accuracy("none"), gathered.accuracy("batch")
    found: dict[str, Floats] = {ALWAYS: batch, NEVER: none}
    gates = [arm for arm in gathered.everywhere if "/" in arm]
    found.update({f"plan: {arm}": gathered.accuracy(arm) for arm in gates})
    if set(catalogue.ADVISED.values()) <= set(gathered.everywhere):
        found[ACTION] = acting.TODAY.follow(gathered)
        found[FORMER] = acting.FIRST.follow(gathered)
    if set(gathered.everywhere) >= acting.NEEDED:
        found[BEHIND] = acting.WITH_NORM.follow(gathered)
        found[NO_PLAN] = acting.NO_PLAN.follow(gathered)
    if "standard_divergence" in gathered.scores:
        scores = gathered.score("standard_divergence")
        found[ONE] = gathered.follow(scores, TODAY["standard_divergence"], above=batch, below=none)
        chosen, _ = held_out(follow_all(gathered, "standard_divergence"), gathered.datasets)
        if not np.isnan(chosen).all():
            found[CHOSEN] = chosen
        for arm in ("standardize", "layer", "batch_layer"):
            if arm in gathered.everywhere:
                found[f"{arm} if need > 1, once"] = gathered.follow(
                    scores, TODAY["standard_divergence"], above=gathered.accuracy(arm), below=none
                )
    rest = [a for a in gathered.everywhere if a not in ("none", "batch") and "/" not in a]
    found.update({f"always {arm}": gathered.accuracy(arm) for arm in rest})
    return found


def judge(gathered: Gathered) -> tuple[Policy, ...]:
    """Return every policy's figures, on the cells with none, batch norm and the plan."""
    cells = gathered.with_arms(("none", "batch"))
    if not len(cells):
        return ()
    best = best_of([cells.accuracy(arm) for arm in cells.arms])
    two = best_of([cells.accuracy("none"), cells.accuracy("batch")])
    always = cells.accuracy("batch")
    resampling = Resampling.draw(*always.shape)
    new = ~np.isin(cells.datasets, FIRST_STUDY)
    resampling_new = Resampling.draw(int(new.sum()), always.shape[1])
    judged = []
    for name, values in policies(cells).items():
        regret = paired(best - values)
        worst = int(np.nan_to_num(regret.mean, nan=-np.inf).argmax())
        against = paired(values - always)
        worse, better = (np.flatnonzero(holm(p) < RISK / 2) for p in (against.p_below, against.p_above))
        judged.append(
            Policy(
                name,
                values,
                resampling.mean(values),
                resampling.mean(best - values),
                (of_cell(regret, worst), worst),
                resampling.mean(values - always),
                resampling.estimate(share_closed, values, always, two),
                resampling.estimate(share_closed, values, always, best),
                resampling_new.estimate(share_closed, values[new], always[new], best[new]),
                tuple(worse.tolist()) if name != ALWAYS else (),
                tuple(better.tolist()) if name != ALWAYS else (),
                int((against.p_below < RISK / 2).sum()),
            )
        )
    return tuple(judged)


def of_cell(differences: Paired, index: int) -> Estimate:
    """Return one cell's difference with its interval."""
    return Estimate(float(differences.mean[index]), float(differences.low[index]), float(differences.high[index]))
