"""Plots of docs/evidence.md with a row a thing, in the report's style: a dot and its interval, one colour a meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from app.report.drawing import CUTOFF, NORMALIZE, SKIP, drawing, set_title, tidy, to_png
from benchmarks.study.intervals import Estimate, Floats

if TYPE_CHECKING:
    from benchmarks.study.predicting import Prediction

WIDTH = 8.6
"""Inches: a page's width."""


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    with drawing():
        return to_png(figure, dpi=100)


def new_figure(height: float, columns: int = 1, **options: object) -> tuple[Figure, list[Axes]]:
    """Return a figure of a page's width, `height` inches, and its panels from left to right."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return figure, list(axes[0])


def draw_dots(
    axes: Axes, names: Sequence[str], estimates: Sequence[Estimate], *, colours: Sequence[str] | None = None
) -> None:
    """Draw one estimate a row, the first on top, each with its interval."""
    rows = np.arange(len(names))[::-1]
    for row, estimate, colour in zip(rows, estimates, colours or [SKIP] * len(names), strict=True):
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.6)
        axes.plot([estimate.value], [row], "o", color=colour, markersize=5)
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)


def draw_predictions(predictions: Sequence[Prediction]) -> Figure:
    """Draw the ROC area and rank correlation of every measure."""
    with drawing():
        figure, (left, right) = new_figure(1.3 + 0.27 * len(predictions), 2, sharey=True)
        names = [p.name for p in predictions]
        colours = [NORMALIZE if name == "standard_divergence" else SKIP for name in names]
        draw_dots(left, names, [p.auc for p in predictions], colours=colours)
        left.axvline(0.5, color=CUTOFF, linewidth=1, linestyle="--")
        left.set_xlim(0, 1.02)
        left.set_xlabel("ROC area (dashed: by chance; red: the default)")
        set_title(left, "batch norm helps by more than a point")
        draw_dots(right, names, [p.rank for p in predictions], colours=colours)
        right.axvline(0, color=CUTOFF, linewidth=1, linestyle="--")
        right.set_xlim(-1.02, 1.02)
        right.set_xlabel("Spearman correlation with the gain")
        set_title(right, "how much it helps")
        return figure


def draw_arms(rows: Sequence[tuple[str, Estimate, str]], label: str, title: str) -> Figure:
    """Draw one estimate an arm: (name, estimate, colour) each."""
    with drawing():
        figure, (axes,) = new_figure(1.2 + 0.23 * len(rows))
        draw_dots(axes, [r[0] for r in rows], [r[1] for r in rows], colours=[r[2] for r in rows])
        axes.axvline(0, color=CUTOFF, linewidth=0.8)
        axes.set_xlabel(label)
        set_title(axes, title)
        return figure


def draw_groups(rows: Sequence[str], groups: Mapping[str, Sequence[Estimate]], label: str) -> Figure:
    """Draw estimates by row (names) in some groups, a panel a group, with a line at 0."""
    with drawing():
        figure, panels = new_figure(1.3 + 0.24 * len(rows), len(groups), sharex=True, sharey=True)
        for axes, (name, estimates) in zip(panels, groups.items(), strict=True):
            colours = ["#999999" if not e.sign else SKIP if e.above else NORMALIZE for e in estimates]
            draw_dots(axes, rows, estimates, colours=colours)
            axes.axvline(0, color=CUTOFF, linewidth=1)
            set_title(axes, name)
        figure.supxlabel(label, fontsize=9)
        return figure


def draw_claims(rows: Sequence[tuple[str, Estimate, str]], alike: float) -> Figure:
    """Draw the differences behind claims: (name, difference in points, verdict) each.

    Args:
        rows: the first on top; one without a number is the title of those below it.
        alike: points within which two arms count as equal; drawn as a band.
    """
    colours = {"reproduced": "#5b9279", "not reproduced": NORMALIZE}
    with drawing():
        figure, (axes,) = new_figure(1.3 + 0.19 * len(rows))
        names, estimates, verdicts = zip(*rows, strict=True)
        titles = {name for name, estimate, _ in rows if np.isnan(estimate.value)}
        axes.axvspan(-alike, alike, color="#eeeeee")
        draw_dots(axes, names, estimates, colours=[colours.get(verdict, "#777777") for verdict in verdicts])
        axes.axvline(0, color=CUTOFF, linewidth=0.8)
        axes.set_xscale("symlog", linthresh=2, linscale=0.8)
        axes.set_xticks([-50, -10, -5, -2, 0, 2, 5, 10, 50])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="y", length=0, labelsize=8)
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in titles else "normal")
        figure.supxlabel(
            "accuracy of the first less that of the second (points); green: reproduced, red: not, grey: undecided\n"
            f"band: within {alike:g} points, alike where the claim is that both are (=)",
            fontsize=9,
        )
        return figure


def draw_table(names: Sequence[str], columns: Sequence[str], values: Floats, label: str, title: str) -> Figure:
    """Draw a table of accuracies in percent as shades with their numbers: rows (names), columns, (rows, columns)."""
    with drawing():
        figure, (axes,) = new_figure(1.3 + 0.24 * len(names))
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        axes.imshow(values, cmap="YlGnBu", aspect="auto", vmin=low, vmax=high + (high - low) * 0.3)
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                dark = value > low + 0.85 * (high - low)
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=8, color="white" if dark else CUTOFF)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0, labelsize=8)
        axes.xaxis.tick_top()
        axes.set_xlabel(label)
        axes.spines[:].set_visible(False)
        set_title(axes, title)
        return figure
