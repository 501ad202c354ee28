"""Question 3: following the plan against always batch norm, never, and the best choice in each cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.study import acting
from benchmarks.study import arms as catalogue
from benchmarks.study.cutoffs import TODAY, follow_all, held_out
from benchmarks.study.gathered import Gathered, best_of
from benchmarks.study.intervals import Estimate, Floats, Paired, Resampling, holm, mean_of_cells, paired
from benchmarks.study.plots import draw_cells, draw_regret
from benchmarks.study.wording import Section, cell_name, compared, interval, number, percent, points, table

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
        chosen, _ = held_out(follow_all(gathered, "standard_divergence"), gathered.labels("family"))
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
    new = ~np.isin(cells.labels("family"), FIRST_STUDY)
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
                (_of_cell(regret, worst), worst),
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


def _of_cell(differences: Paired, index: int) -> Estimate:
    return Estimate(float(differences.mean[index]), float(differences.low[index]), float(differences.high[index]))


def section(gathered: Gathered) -> Section | None:
    """Return the answer to question 3; None where nothing was run."""
    judged = {policy.name: policy for policy in judge(gathered)}
    if PLAN not in judged:
        return None
    cells = gathered.with_arms(("none", "batch"))
    best = best_of([cells.accuracy(arm) for arm in cells.arms])
    rows = [_row(policy, cells) for policy in sorted(judged.values(), key=lambda p: -p.accuracy.value)]
    shown = [judged[name] for name in MAIN if name in judged]
    lines = [
        f"{len(cells)} cells, {len(cells.seeds)} seeds. The best choice in a cell is, for each seed, the arm with "
        "the best mean over the other seeds, judged on this one, so that no arm is credited with the luck it was "
        "chosen for. Regret: its accuracy less the policy's, in points. Closed: share of the gap from always batch "
        "norm to the better of batch norm and none (two), and to the best of all arms (all). Worse, better: cells "
        "in which the policy loses to or beats always batch norm beyond noise: differences paired by seed, "
        f"variances shrunk over cells (moderated t), {100 * RISK / 2:g} % risk on each side in all, shared out by "
        f"Holm's rule; in brackets without that allowance, where {number(RISK / 2 * len(cells), 1)} would be "
        "expected by chance. `once`: one decision for the dataset by its mean score, no norm otherwise. The plan's "
        "action: nothing, one scaling, each feature standardized, or a gate at the input, as the plan recommends.",
        "",
        *table(
            ["policy", "accuracy, %", "mean regret", "worst regret", "closed, two", "closed, all", "worse", "better"],
            rows,
        ),
        f"Worst regret of {PLAN}: {cell_name(cells.settings[judged[PLAN].worst[1]])}.",
        "",
        "![Regret of the main policies by batch size](evidence/regret.png)",
        "",
        *_by(cells, shown, best, "batch_size", "batch size"),
        *_by(cells, shown, best, "network", "network"),
        *_by(cells, shown, best, "treatment", "treatment"),
        *_by(cells, shown, best, "family", "family"),
        "![Following the plan less always batch norm, cell by cell](evidence/cells.png)",
        "",
        *_losses(judged, cells),
        *acting.lines(cells),
    ]
    plan = paired(judged[PLAN].values - cells.accuracy("batch"))
    drawn = {
        "regret": (draw_regret(cells, {p.name: best - p.values for p in shown}), "mean regret by batch size"),
        "cells": (
            draw_cells(cells, plan, set(judged[PLAN].worse) | set(judged[PLAN].better)),
            "difference cell by cell",
        ),
    }
    return Section("3. Does following the plan help?", _answer(judged, cells), lines, drawn)


def _row(policy: Policy, cells: Gathered) -> list[str]:
    return [
        policy.name,
        interval(policy.accuracy, 1),
        interval(policy.regret, 1, signed=True),
        interval(policy.worst[0], 1, signed=True),
        percent(policy.closed_two),
        percent(policy.closed_all),
        "-" if policy.name == ALWAYS else f"{len(policy.worse)} ({policy.worse_alone})",
        "-" if policy.name == ALWAYS else str(len(policy.better)),
    ]


def groups(cells: Gathered, name: str) -> list[tuple[str, Floats]]:
    """Return the levels of a factor, batch sizes by size, and which cells have each, (cells,) bool."""
    values = [getattr(setting, name) for setting in cells.settings]
    return [(str(v), np.array([value == v for value in values])) for v in sorted(set(values))]


def _by(cells: Gathered, shown: Sequence[Policy], best: Floats, name: str, title: str) -> list[str]:
    rows = []
    for level, chosen in groups(cells, name):
        mask = np.asarray(chosen, bool)
        resampling = Resampling.draw(int(mask.sum()), best.shape[1])
        regrets = [interval(resampling.mean((best - p.values)[mask]), 1, signed=True) for p in shown]
        rows.append([level, str(int(mask.sum())), *regrets])
    return [f"Mean regret by {title}:", "", *table([title, "cells", *(p.name for p in shown)], rows)]


def _losses(judged: Mapping[str, Policy], cells: Gathered) -> list[str]:
    always = cells.accuracy("batch")
    lines = ["Where following does not help, as measured:", ""]
    for name in (PLAN, ACTION, BEHIND):
        if name not in judged:
            continue
        policy, less = judged[name], paired(judged[name].values - always)
        if not policy.worse:
            lines.append(f"- {name}: in no single cell worse than always batch norm beyond noise.")
        lines += [
            f"- {name}: {cell_name(cells.settings[i])}: {points(_of_cell(less, i))} against always batch norm."
            for i in sorted(policy.worse, key=lambda i: float(less.mean[i]))
        ]
        for factor in ("batch_size", "network", "treatment", "family"):
            for level, chosen in groups(cells, factor):
                mask = np.asarray(chosen, bool)
                if mask.sum() > 1:
                    lost = Resampling.draw(int(mask.sum()), always.shape[1]).mean((policy.values - always)[mask])
                    if lost.below:
                        text = f"the {int(mask.sum())} cells with {factor.replace('_', ' ')} {level} together"
                        lines.append(f"- {name}: {text}: {points(lost)}.")
    return [*lines, ""]


def _answer(judged: Mapping[str, Policy], cells: Gathered) -> str:
    plan, never, always = judged[PLAN], judged[NEVER], cells.accuracy("batch")
    said = [
        f"Over {len(cells)} cells: always batch norm {number(judged[ALWAYS].accuracy.value, 1)} %, never "
        f"{number(never.accuracy.value, 1)} %, following the plan (`need`, batch norm or nothing, batch by batch) "
        f"{number(plan.accuracy.value, 1)} %."
    ]
    for policy, name in (
        (plan, "Following it"),
        (judged.get(ACTION), "Following the plan's action"),
        (judged.get(BEHIND), "Its recommendation, with the norm that it names for hidden layers,"),
    ):
        if policy is None:
            continue
        direction = compared(policy.less_always, "beats", "loses to", "is within noise of")
        said.append(f"{name} {direction} always batch norm ({points(policy.less_always)}); {_target(policy)}.")
        n = len(policy.worse)
        if n:
            less = paired(policy.values - always).mean
            first = [cell_name(cells.settings[i]) for i in sorted(policy.worse, key=lambda i: float(less[i]))[:2]]
            where = f", most in {'; '.join(first)}"
            anywhere = f"It is worse than always batch norm beyond noise in {n} cell{'s' * (n > 1)}{where}"
        else:
            anywhere = "It is in no cell worse than always batch norm beyond noise"
        said.append(f"{anywhere}; better in {len(policy.better)}.")
    if BEHIND in judged:
        said += _chosen_elsewhere(judged, cells)
    best = max(judged.values(), key=lambda p: p.accuracy.value)
    if best.name not in MAIN:
        said.append(f"The best single policy is `{best.name}`, {number(best.accuracy.value, 1)} %.")
    return " ".join(said)


def _chosen_elsewhere(judged: Mapping[str, Policy], cells: Gathered) -> list[str]:
    """Return what rules chosen on other families close of the gap, and what the recommendation gains over no plan."""
    followed = {rule: rule.follow(cells) for rule in acting.rules()}
    values, _ = acting.held_out(followed, cells)
    if np.isnan(values).all():
        return []
    always = cells.accuracy("batch")
    best = best_of([cells.accuracy(arm) for arm in cells.arms])
    resampling = Resampling.draw(*always.shape)
    share = resampling.estimate(share_closed, values, always, best)
    beyond = Estimate(share.value - 0.5, share.low - 0.5, share.high - 0.5).sign
    plan = resampling.mean(judged[BEHIND].values - judged[NO_PLAN].values)
    return [
        f"A rule chosen for each family on all others closes {percent(share)} of the gap: the target of half is "
        f"{'reached' if share.value >= 0.5 else 'not reached'}{'' if beyond else ', but not beyond noise'}.",
        f"The same norms without a plan get {number(judged[NO_PLAN].accuracy.value, 1)} %: deciding by the plan adds "
        f"{points(plan)}{'' if plan.sign else ', within noise'}.",
    ]


def _target(policy: Policy) -> str:
    """Return whether half of the gap is closed on held-out families, in words."""
    share = policy.closed_held_out
    if policy.name != PLAN:
        return f"on the families that its rule was made with it closes {percent(policy.closed_all)} of the gap"
    if np.isnan(share.value):
        return "on families that its cutoff was not chosen on there is no gap to the best choice to speak of"
    if share.value <= 0:
        return "on families that its cutoff was not chosen on it closes nothing of the gap to the best of all arms"
    verdict = "reached" if share.value >= 0.5 else "not reached"
    beyond = Estimate(share.value - 0.5, share.low - 0.5, share.high - 0.5).sign
    return (
        f"on families that its cutoff was not chosen on it closes {percent(share)} of the gap to the best of all "
        f"arms: the target of half is {verdict}{'' if beyond else ', but not beyond noise'}"
    )
