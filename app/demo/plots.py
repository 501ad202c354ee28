"""Plots of the report, as inline SVG."""

import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.demo.training import ARMS, BATCH_SIZES, SOURCES, Outcome
from app.demo.variants import Variant
from assessor import Plan

NORMALIZE, SKIP, CUTOFF = "#c8553d", "#3d7ea6", "#222222"
COLOURS = {
    "plan": "#c8553d",
    "advice": "#e09f3e",
    "batch": "#3d7ea6",
    "batch_layer": "#5b9279",
    "layer": "#8f6593",
    "none": "#999999",
}
LINEAR_BELOW = 1.0
"""Scores are drawn on a scale that is linear within +-1 and logarithmic beyond."""


def plot_variant(variant: Variant, plans: Sequence[Plan]) -> Markup:
    """Return, for each plan, the histogram of scores with the cutoff, and the decisions along the batches."""
    figure = Figure(figsize=(11, 1.9 * len(plans)), layout="constrained")
    axes = figure.subplots(len(plans), 2, squeeze=False, width_ratios=[2, 3])
    for (left, right), plan in zip(axes, plans, strict=True):
        _histogram(left, plan)
        _decisions(right, plan)
    axes[-1][0].set_xlabel("score (log beyond ±1)")
    axes[-1][1].set_xlabel("batch")
    return _svg(figure, f"scores and decisions of {variant.name}")


def plot_accuracy(outcomes: Sequence[Outcome]) -> Markup:
    """Return test accuracy by arm, a panel for each setting; a dot a seed, a bar the mean."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(len(SOURCES), len(BATCH_SIZES), squeeze=False, sharex=True, sharey=True)
    for row, sources in zip(axes, SOURCES, strict=True):
        for panel, size in zip(row, BATCH_SIZES, strict=True):
            for place, arm in enumerate(reversed(ARMS)):
                runs = [
                    outcome.accuracy
                    for outcome in outcomes
                    if (outcome.cell.sources, outcome.cell.batch_size, outcome.cell.arm) == (sources, size, arm)
                ]
                if not runs:
                    continue
                panel.barh(place, float(np.mean(runs)), height=0.62, color=COLOURS[arm], alpha=0.55)
                panel.plot(runs, [place] * len(runs), "o", color=COLOURS[arm], markeredgecolor="white", markersize=7)
                panel.text(0.02, place, f"{np.mean(runs):.3f}", va="center", fontsize=9)
            panel.set_yticks(range(len(ARMS)), list(reversed(ARMS)))
            panel.set_xlim(0, 1)
            panel.set_title(f"{sources}, batch size {size}", fontsize=10, loc="left")
            _plain(panel)
    for panel in axes[-1]:
        panel.set_xlabel("test accuracy over all sources")
    return _svg(figure, "test accuracy by arm")


def _histogram(axes: Axes, plan: Plan) -> None:
    scores = _squeeze(plan.scores[np.isfinite(plan.scores)])
    cutoff = _squeeze(np.array([np.median(plan.cutoffs)]))[0]
    if len(scores):
        edges = np.linspace(min(scores.min(), cutoff) - 0.05, max(scores.max(), cutoff) + 0.05, 60).tolist()
        axes.hist(scores[scores <= cutoff], edges, color=SKIP, histtype="stepfilled")
        axes.hist(scores[scores > cutoff], edges, color=NORMALIZE, histtype="stepfilled")
    axes.axvline(float(cutoff), color=CUTOFF, linewidth=1, linestyle="--")
    axes.set_title(f"{plan.method}, batch size {plan.batch_size}", fontsize=9, loc="left")
    axes.set_ylabel("batches", fontsize=8)
    _score_ticks(axes, along_x=True)
    _plain(axes)


def _decisions(axes: Axes, plan: Plan) -> None:
    scores = np.where(np.isfinite(plan.scores), plan.scores, np.nan)
    numbers = np.arange(len(plan))
    for chosen, colour, label in ((plan.normalize, NORMALIZE, "normalize"), (~plan.normalize, SKIP, "skip")):
        axes.plot(
            numbers[chosen], _squeeze(scores[chosen]), ".", markersize=3, color=colour, label=label, rasterized=True
        )
    axes.plot(
        numbers, np.where(np.isnan(scores), np.nan, _squeeze(plan.cutoffs)), color=CUTOFF, linewidth=1, linestyle="--"
    )
    axes.set_title(f"{plan.flagged_fraction:.1%} of {len(plan)} batches need normalization", fontsize=9, loc="left")
    _score_ticks(axes, along_x=False)
    _plain(axes)


def _squeeze(
    score: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return scores on the drawn scale: linear within +-LINEAR_BELOW, logarithmic beyond."""
    size = np.abs(score)
    beyond = LINEAR_BELOW * (1 + np.log10(np.maximum(size, LINEAR_BELOW) / LINEAR_BELOW))
    return np.asarray(np.sign(score) * np.where(size <= LINEAR_BELOW, size, beyond))


def _score_ticks(axes: Axes, *, along_x: bool) -> None:
    low, high = axes.get_xlim() if along_x else axes.get_ylim()
    values = [-10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]
    ticks = [(float(_squeeze(np.array([v]))[0]), f"{v:g}") for v in values]
    ticks = [tick for tick in ticks if low <= tick[0] <= high]
    (axes.set_xticks if along_x else axes.set_yticks)([t for t, _ in ticks], [name for _, name in ticks], fontsize=8)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _svg(figure: Figure, description: str) -> Markup:
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "normgauge"}):
        figure.savefig(buffer, format="svg", dpi=90, metadata={"Title": description, "Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
