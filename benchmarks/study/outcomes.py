"""What every arm got in the grid beside accuracy: steps to a loss, divergence, spread over seeds, time."""

from dataclasses import dataclass

import numpy as np

from benchmarks.study.gathered import Gathered
from benchmarks.study.intervals import Estimate, Floats, Resampling, mean_of_cells, mean_of_seeds
from benchmarks.study.plots import draw_arms
from benchmarks.study.regret import PLAN
from benchmarks.study.wording import Section, interval, number, table

HIGHLIGHT = {"none": "#202122", "batch": "#c8553d", PLAN.removeprefix("plan: "): "#5b9279"}


@dataclass(frozen=True, eq=False)
class Outcome:
    """One arm's outcomes.

    Attributes:
        arm: its name.
        cells: it was run in.
        accuracy: mean over its cells, percent.
        less_none: the same less that of `none`.
        reached: share of the runs whose training loss fell below the mark.
        steps: ratio of the steps this took to those of `none`: geometric mean over the runs in which both did.
        diverged: share of the runs.
        spread: standard deviation over seeds, in points, root mean square over cells.
        time: ratio of training time to that of `none`: geometric mean.
    """

    arm: str
    cells: int
    accuracy: Estimate
    less_none: Estimate
    reached: float
    steps: Estimate
    diverged: float
    spread: float
    time: Estimate


def geometric_mean(logs: Floats) -> Floats:
    """Return exp of the mean over cells: (n, cells) -> (n,)."""
    return np.asarray(np.exp(mean_of_cells(logs)))


def outcomes(gathered: Gathered) -> tuple[Outcome, ...]:
    """Return the outcomes of all arms, the highest gain over `none` first."""
    return tuple(sorted((_outcome(gathered, arm) for arm in gathered.arms), key=lambda o: -o.less_none.value))


def _outcome(gathered: Gathered, arm: str) -> Outcome:
    cells = gathered.with_arms((arm, "none"))
    resampling = Resampling.draw(len(cells), len(cells.seeds))
    accuracy = cells.accuracy(arm)

    def log_ratio(values: Floats, base: Floats) -> Floats:
        fine = (values > 0) & (base > 0)
        return np.where(fine, np.log(np.where(fine, values, 1.0) / np.where(fine, base, 1.0)), np.nan)

    steps, base_steps = (cells.of_runs(a, lambda run: run.steps_to_loss) for a in (arm, "none"))
    seconds, base_seconds = (cells.of_runs(a, lambda run: run.seconds) for a in (arm, "none"))
    diverged = cells.of_runs(arm, lambda run: float(run.diverged))
    squares = (accuracy - mean_of_seeds(accuracy)[:, None]) ** 2
    n = accuracy.shape[1]
    return Outcome(
        arm,
        len(cells),
        resampling.mean(accuracy),
        resampling.mean(accuracy - cells.accuracy("none")),
        float((~np.isnan(steps)).sum() / max((~np.isnan(accuracy)).sum(), 1)),
        resampling.estimate(geometric_mean, log_ratio(steps, base_steps)),
        float(np.nanmean(diverged)) if diverged.size else float("nan"),
        float(np.sqrt(np.nanmean(squares) * n / (n - 1))) if n > 1 and squares.size else float("nan"),
        resampling.estimate(geometric_mean, log_ratio(seconds, base_seconds)),
    )


def section(gathered: Gathered) -> Section | None:
    """Return the table of outcomes; None where nothing was run."""
    if not len(gathered) or "none" not in gathered.arms:
        return None
    found = outcomes(gathered)
    rows = [
        [
            o.arm,
            str(o.cells),
            interval(o.accuracy, 1),
            interval(o.less_none, 1, signed=True),
            f"{number(100 * o.reached, 0)} %",
            interval(o.steps),
            f"{number(100 * o.diverged, 1)} %",
            number(o.spread, 1),
            interval(o.time),
        ]
        for o in found
    ]
    header = [
        "arm", "cells", "accuracy, %", "less none", "reached", "steps, ratio", "diverged", "spread", "time, ratio",
    ]  # fmt: skip
    lines = [
        "Each arm on the cells that allow it. Reached: share of the runs whose averaged training loss fell below "
        "half of ln(classes); steps: how many that took, as a ratio to `none` where both did; spread: standard "
        "deviation over seeds, in points; time: of training, as a ratio to `none`, on a machine with other work, so "
        "a rough figure. Arms whose trainings are the same (a plan that flags nothing trains as `none`) were "
        "trained and timed once.",
        "",
        *table(header, rows),
        "![Gain of every arm over no normalization](evidence/arms.png)",
        "",
    ]
    # Arms that only some cells allow are compared on those alone.
    best = next(o for o in found if o.cells == len(gathered))
    answer = (
        f"Of the arms run in all cells `{best.arm}` gains most over no normalization, "
        f"{interval(best.less_none, 1, signed=True)} points."
    )
    names = {o.arm: o.arm if o.cells == len(gathered) else f"{o.arm} ({o.cells} cells)" for o in found}
    dots = [(names[o.arm], o.less_none, HIGHLIGHT.get(o.arm, "#3d7ea6")) for o in found if o.arm != "none"]
    figure = draw_arms(
        dots,
        "test accuracy less that of none (points); red: batch norm everywhere, green: the plan, batch by batch",
        f"every arm against no normalization, {len(gathered)} cells",
    )
    return Section("All arms", answer, lines, {"arms": (figure, "gain of every arm over no normalization")})
