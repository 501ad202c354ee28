"""Scores of one plan: along the batches, and as a histogram, with the cutoff."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import EngFormatter, MaxNLocator

from app.report.drawing import CUTOFF, NORMALIZE, SKIP, set_title, tidy
from app.report.scale import ScoreScale
from assessor import Plan
from assessor.moments import Floats

MAX_DOTS = 2_000
"""A plan of more batches is drawn as the range of scores in each of COLUMNS runs of batches."""
COLUMNS = 240
BARS = 50
PALE = "#9dbfd3"
_SHARES = LinearSegmentedColormap.from_list("shares", [SKIP, NORMALIZE])


def describe_scores(plan: Plan) -> str:
    """Return the plan's scores in one sentence, for those who do not see the plot."""
    defined = plan.scores[~np.isnan(plan.scores)]
    unit = f" {plan.unit}" if plan.unit else ""
    flagged = f"{int(plan.normalize.sum()):,} of {len(plan):,} batches ({plan.flagged_fraction:.1%}) are above"
    if not len(defined):
        return f"no batch of {len(plan):,} has a defined score"
    return (
        f"scores from {defined.min():.4g} to {defined.max():.4g}{unit}; {flagged} the cutoff "
        f"{np.median(plan.cutoffs):.4g}{unit}"
    )


def draw_scores(axes: Axes, plan: Plan) -> None:
    """Draw the scores along the batches, with the cutoff: dots, or ranges where there are many."""
    scale = ScoreScale.of(plan)
    scores = scale.place(_drawable(plan.scores))
    cutoffs = scale.place(plan.cutoffs)
    if len(plan) <= MAX_DOTS:
        # A batch without a score is compared with nothing.
        _draw_dots(axes, plan, scores, np.where(np.isnan(plan.scores), np.nan, cutoffs))
    else:
        _draw_ranges(axes, plan, scores, cutoffs)
    axes.set_xlabel("batch")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylabel(scale.label(plan))
    axes.margins(x=0.01)
    set_title(axes, "score of each batch" if len(plan) <= MAX_DOTS else "scores along the batches")
    scale.set_ticks(axes, along_x=False)
    tidy(axes)


def draw_histogram(axes: Axes, plan: Plan) -> None:
    """Draw how many batches have which score, those above the cutoff in the colour of normalizing."""
    scale = ScoreScale.of(plan)
    placed = scale.place(_drawable(plan.scores))
    defined = ~np.isnan(placed)
    cutoff = float(scale.place(np.array([np.median(plan.cutoffs)]))[0])
    if defined.any():
        low, high = min(float(placed[defined].min()), cutoff), max(float(placed[defined].max()), cutoff)
        room = (high - low) * 0.02 or 0.5
        edges = np.linspace(low - room, high + room, BARS + 1)
        skipped, _ = np.histogram(placed[defined & ~plan.normalize], edges)
        flagged, _ = np.histogram(placed[defined & plan.normalize], edges)
        axes.stairs(skipped, edges, fill=True, color=SKIP, label="skip")
        axes.stairs(skipped + flagged, edges, baseline=skipped, fill=True, color=NORMALIZE, label="normalize")
    cutoff_label = "cutoff" if float(np.ptp(plan.cutoffs)) == 0 else "median cutoff"
    axes.axvline(cutoff, color=CUTOFF, linewidth=1.2, linestyle="--", label=cutoff_label)
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel(scale.label(plan))
    axes.set_ylabel("batches")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    set_title(axes, "how many batches have which score")
    scale.set_ticks(axes, along_x=True)
    tidy(axes)


def _draw_dots(axes: Axes, plan: Plan, scores: Floats, cutoffs: Floats) -> None:
    numbers = np.arange(len(plan))
    for chosen, colour in ((~plan.normalize, SKIP), (plan.normalize, NORMALIZE)):
        size = 5.0 if len(plan) < 300 else 3.0
        axes.plot(numbers[chosen], scores[chosen], ".", markersize=size, color=colour, rasterized=True)
    defined = cutoffs[~np.isnan(cutoffs)]
    if len(defined) and float(np.ptp(defined)) == 0:
        axes.axhline(float(defined[0]), color=CUTOFF, linewidth=1.2, linestyle="--")
    else:
        axes.plot(numbers, cutoffs, color=CUTOFF, linewidth=1.2, linestyle="--")


def _draw_ranges(axes: Axes, plan: Plan, scores: Floats, cutoffs: Floats) -> None:
    edges = np.linspace(0, len(plan), COLUMNS + 1).astype(int)
    middles = (edges[:-1] + edges[1:]) / 2
    quantiles = np.full((5, COLUMNS), np.nan)
    shares = np.empty(COLUMNS)
    for i, (start, stop) in enumerate(pairwise(edges)):
        part = scores[start:stop]
        part = part[~np.isnan(part)]
        shares[i] = plan.normalize[start:stop].mean()
        if len(part):
            quantiles[:, i] = np.quantile(part, [0, 0.25, 0.5, 0.75, 1])
    axes.fill_between(middles, quantiles[0], quantiles[4], color=PALE, linewidth=0, label="lowest to highest")
    axes.fill_between(middles, quantiles[1], quantiles[3], color=SKIP, alpha=0.55, linewidth=0, label="middle half")
    axes.plot(middles, quantiles[2], color=SKIP, linewidth=1, label="median")
    drawn_cutoffs = cutoffs[np.minimum(middles.astype(int), len(plan) - 1)]
    axes.plot(middles, drawn_cutoffs, color=CUTOFF, linewidth=1.2, linestyle="--", label="cutoff")
    # A strip below: the share of flagged batches in each run, from blue (none) to red (all).
    axes.bar(
        edges[:-1],
        0.04,
        np.diff(edges),
        align="edge",
        color=_SHARES(shares),
        transform=axes.get_xaxis_transform(),
        rasterized=True,
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high)
    axes.legend(fontsize=8, frameon=False, ncols=2)


def _drawable(scores: Floats) -> Floats:
    """Return the scores with infinite ones moved to just beyond the finite ones."""
    infinite = np.isinf(scores)
    if not infinite.any():
        return scores
    finite = scores[np.isfinite(scores)]
    edge = 1.1 * float(np.abs(finite).max()) if len(finite) else 1.0
    return np.where(infinite, np.sign(scores) * (edge or 1.0), scores)
