"""Question 3 in words, tables and plots: does following the plan help?"""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.study import across, acting
from benchmarks.study.curves import draw_cells, draw_regret
from benchmarks.study.gathered import Gathered, best_of
from benchmarks.study.intervals import Estimate, Floats, Resampling, paired
from benchmarks.study.mixing import mixture
from benchmarks.study.regret import (
    ACTION,
    ALWAYS,
    BEHIND,
    MAIN,
    NEVER,
    NO_PLAN,
    PLAN,
    RISK,
    Policy,
    judge,
    of_cell,
    share_closed,
)  # fmt: skip
from benchmarks.study.wording import Section, cell_name, compared, interval, number, percent, points, table

FOLLOWED = (PLAN, ACTION, BEHIND)
"""Three ways of following a plan: batch by batch everywhere, its action, and all that it recommends."""
TOLD = {
    PLAN: "Batch by batch (`need`: batch norm or nothing, at the input and in hidden layers) it",
    ACTION: "The plan's action (once for the dataset, or a gate at the input)",
    BEHIND: "The plan's recommendation (its action, and the norm that it names for hidden layers)",
}


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
        *_across(judged, cells),
        *acting.lines(cells),
    ]
    followed = [judged[name] for name in FOLLOWED if name in judged]
    drawn = {
        "regret": (draw_regret(cells, {p.name: best - p.values for p in shown}), "mean regret by batch size"),
        "cells": (
            draw_cells(
                [(p.name, paired(p.values - cells.accuracy("batch")), set(p.worse) | set(p.better)) for p in followed]
            ),
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
    lines = [
        "Where following does not help, as measured; groups of cells without an allowance for their number, so that a "
        "few would stand here by chance:",
        "",
    ]
    for name in FOLLOWED:
        if name not in judged:
            continue
        policy, less = judged[name], paired(judged[name].values - always)
        if not policy.worse:
            lines.append(f"- {name}: in no single cell worse than always batch norm beyond noise.")
        lines += [
            f"- {name}: {cell_name(cells.settings[i])}: {points(of_cell(less, i))} against always batch norm."
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


def _across(judged: Mapping[str, Policy], cells: Gathered) -> list[str]:
    """Return how the main differences hold from one dataset to the next."""
    pairs = [(name, ALWAYS) for name in (*FOLLOWED, NO_PLAN)] + [(BEHIND, NO_PLAN)]
    return across.lines(
        cells.datasets,
        [
            (f"{one} less {other}", judged[one].values - judged[other].values)
            for one, other in pairs
            if {one, other} <= judged.keys()
        ],
    )


def _answer(judged: Mapping[str, Policy], cells: Gathered) -> str:
    """Return the answer: a sentence and, a line each, its parts."""
    followed = [judged[name] for name in FOLLOWED if name in judged]
    said = [
        f"Over {len(cells)} cells always batch norm gets {number(judged[ALWAYS].accuracy.value, 1)} %, never "
        f"{number(judged[NEVER].accuracy.value, 1)} %, "
        + ", ".join(f"{p.name} {number(p.accuracy.value, 1)} %" for p in followed)
        + "."
    ]
    for policy in followed:
        direction = compared(policy.less_always, "beats", "loses to", "is within noise of")
        gain = f"{TOLD[policy.name]} {direction} always batch norm ({points(policy.less_always)})"
        said.append(f"{gain}. {_where_worse(policy, cells)}")
    if BEHIND in judged:
        said.append(_of_the_plan(judged, cells))
    said += _targets(judged, cells)
    best = max(judged.values(), key=lambda p: p.accuracy.value)
    if best.name not in MAIN:
        said.append(f"The best single policy is `{best.name}`, {number(best.accuracy.value, 1)} %.")
    return "\n".join(said)


def _where_worse(policy: Policy, cells: Gathered) -> str:
    n = len(policy.worse)
    if not n:
        return f"It is in no cell worse than always batch norm beyond noise; better in {len(policy.better)}."
    less = paired(policy.values - cells.accuracy("batch")).mean
    first = [cell_name(cells.settings[i]) for i in sorted(policy.worse, key=lambda i: float(less[i]))[:2]]
    return (
        f"It is worse than always batch norm beyond noise in {n} cell{'s' * (n > 1)}, most in {'; '.join(first)}; "
        f"better in {len(policy.better)}."
    )


def _of_the_plan(judged: Mapping[str, Policy], cells: Gathered) -> str:
    """Return what the recommendation gains over the same norms without a plan, and in which cells."""
    gain = judged[BEHIND].values - judged[NO_PLAN].values
    whole = Resampling.draw(*gain.shape).mean(gain)
    said = (
        f"The same norms without a plan get {number(judged[NO_PLAN].accuracy.value, 1)} %: deciding by the plan adds "
        f"{points(whole)}{'' if whole.sign else ', within noise'}"
    )
    if len(np.unique(cells.datasets)) > 1:
        wide = across.drawn(gain, cells.datasets)
        said += f", with datasets drawn too {number(wide.low, 1, signed=True)} to {number(wide.high, 1, signed=True)}"
    mixed = np.array([mixture(setting)[0] > 1 for setting in cells.settings])
    if not 0 < mixed.sum() < len(mixed):
        return f"{said}."
    parts = [Resampling.draw(int(m.sum()), gain.shape[1]).mean(gain[m]) for m in (mixed, ~mixed)]
    rest = gain[~mixed]
    others = f"nothing in the {len(rest)} others, where both are the same"
    if (np.nan_to_num(rest) != 0).any():
        others = f"{points(parts[1])} in the {len(rest)} others"
    return f"{said}. It is {points(parts[0])} in the {int(mixed.sum())} cells with mixed sources, {others}."


def _targets(judged: Mapping[str, Policy], cells: Gathered) -> list[str]:
    """Return whether the two targets are reached, in words."""
    followed = [judged[name] for name in FOLLOWED if name in judged]
    counts = ", ".join(f"{p.name} {len(p.worse)}" for p in followed)
    missed = [p for p in followed if p.worse]
    worse = "reached" if not missed else "missed" if len(missed) == len(followed) else "missed by some"
    said = [f"Target, no cell worse than always batch norm beyond noise: {worse} (cells: {counts})."]
    share = judged[PLAN].closed_held_out
    alone = "no gap to speak of" if np.isnan(share.value) else f"{percent(share)}, {_reached(share)}"
    gap = (
        "Target, half of the gap between always batch norm and the best of all arms closed on held-out families: "
        f"batch by batch, on those that its cutoff was not chosen on, {alone}"
    )
    if BEHIND in judged:
        followed_by = {rule: rule.follow(cells) for rule in acting.rules()}
        values, _ = acting.held_out(followed_by, cells)
        if not np.isnan(values).all():
            always = cells.accuracy("batch")
            best = best_of([cells.accuracy(arm) for arm in cells.arms])
            chosen = Resampling.draw(*always.shape).estimate(share_closed, values, always, best)
            gap += (
                f"; by a rule for the recommendation that is chosen for each family on all others, {percent(chosen)}, "
                f"{_reached(chosen)}. The rules to choose from were written down with all families at hand"
            )
    return [*said, f"{gap}."]


def _reached(share: Estimate) -> str:
    beyond = Estimate(share.value - 0.5, share.low - 0.5, share.high - 0.5).sign
    return f"{'reached' if share.value >= 0.5 else 'missed'}{'' if beyond else ', but not beyond noise'}"
