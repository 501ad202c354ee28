"""The plots of docs/evidence.md, in the report's style: a dot and its interval, ordered, one colour a meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from app.report.drawing import CUTOFF, NORMALIZE, PALETTE, SKIP, drawing, set_title, tidy, to_png
from benchmarks.study.intervals import Estimate, Floats, Paired, Resampling, mean_of_seeds

if TYPE_CHECKING:
    from benchmarks.study.cutoffs import Cutoff
    from benchmarks.study.gathered import Gathered
    from benchmarks.study.predicting import Prediction

SIZE_COLOURS = {2: "#7a1f0e", 4: "#c8553d", 8: "#e09f3e", 16: "#5b9279", 32: "#3d7ea6", 128: "#1f3f5a"}
WIDTH = 8.6
"""Inches: a page's width."""
SIGNED_LOG_FROM = 0.1
"""Nats within which a score's axis is linear."""


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    with drawing():
        return to_png(figure, dpi=100)


def _figure(height: float, columns: int = 1, **options: object) -> tuple[Figure, list[Axes]]:
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
        figure, (left, right) = _figure(1.3 + 0.27 * len(predictions), 2, sharey=True)
        names = [p.name for p in predictions]
        colours = [NORMALIZE if name == "standard_divergence" else SKIP for name in names]
        draw_dots(left, names, [p.auc for p in predictions], colours=colours)
        left.axvline(0.5, color=CUTOFF, linewidth=1, linestyle="--")
        left.set_xlim(0, 1.02)
        left.set_xlabel("ROC area (dashed: by chance)")
        set_title(left, "batch norm helps by more than a point")
        draw_dots(right, names, [p.rank for p in predictions], colours=colours)
        right.axvline(0, color=CUTOFF, linewidth=1, linestyle="--")
        right.set_xlim(-1.02, 1.02)
        right.set_xlabel("Spearman correlation with the gain")
        set_title(right, "how much it helps")
        return figure


def draw_gains(cells: Gathered, gain: Floats, best: str, default: str) -> Figure:
    """Draw the gain of batch norm against the score of one or two measures, a dot a cell, coloured by batch size."""
    names = list(dict.fromkeys(name for name in (default, best) if name == best or name in cells.scores))
    with drawing():
        figure, panels = _figure(3.7, len(names), sharey=True)
        for axes, name in zip(panels, names, strict=True):
            scores = mean_of_seeds(cells.score(name))
            sizes = cells.batch_sizes
            for size in sorted(set(sizes.tolist())):
                chosen = sizes == size
                colour = SIZE_COLOURS.get(size, "#777777")
                axes.plot(
                    scores[chosen], gain[chosen], "o", color=colour, markersize=5, alpha=0.85, label=f"B = {size}"
                )
            axes.axhline(0, color="#999999", linewidth=0.8)
            axes.set_xscale("symlog", linthresh=SIGNED_LOG_FROM)
            axes.set_xlim(
                min(0.0, 1.5 * float(np.nanmin(scores))), 1.5 * max(float(np.nanmax(scores)), SIGNED_LOG_FROM)
            )
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.set_xlabel(f"{name}, mean over batches")
            tidy(axes)
        panels[0].set_ylabel("gain of batch norm over none (points)")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False
        )
        return figure


def draw_cutoffs(
    cutoffs: Sequence[Cutoff], candidates: Sequence[float], always: Estimate, never: Estimate, best: Estimate
) -> Figure:
    """Draw the mean accuracy of following each measure against its cutoff; squares: the cutoffs in use."""
    with drawing():
        figure, (axes,) = _figure(4.0)
        finite = np.isfinite(candidates)
        x = np.asarray(candidates)[finite]
        styles = ("-", "--", ":", "-.")
        main = [c for c in cutoffs if "/" not in c.measure]
        for i, c in enumerate(cutoffs):
            colour = PALETTE[main.index(c) % len(PALETTE)] if c in main else "#999999"
            style = "-" if c in main else styles[1 + i % 3]
            axes.plot(x, c.curve[finite], style, color=colour, linewidth=1.5, label=c.measure)
            if c in main:
                axes.plot([c.today], [c.at_today.value], "s", color=colour, markersize=7, markeredgecolor="white")
        lines = sorted(((always.value, "always batch norm"), (never.value, "never"), (best.value, "better of both")))
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, lines[0][0]), max(high, lines[-1][0]))
        gap = np.ptp(axes.get_ylim()) * 0.05
        at = -np.inf
        for value, name in lines:
            axes.axhline(value, color="#555555", linewidth=0.9, linestyle=(0, (1, 2)))
            # Labels of lines that are close stand one above the other.
            at = max(value, at + gap)
            axes.annotate(
                name, (1.0, at), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
        axes.set_xscale("symlog", linthresh=0.01)
        axes.set_xlim(0, x.max())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("cutoff (nats; class_deviation: a ratio); squares: in use today")
        axes.set_ylabel("mean test accuracy (%)")
        tidy(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        return figure


def draw_regret(cells: Gathered, regrets: Mapping[str, Floats]) -> Figure:
    """Draw the mean regret of some policies by batch size, with intervals."""
    with drawing():
        figure, (axes,) = _figure(3.4)
        sizes = sorted(set(cells.batch_sizes.tolist()))
        width = 0.8 / len(regrets)
        for i, (name, values) in enumerate(regrets.items()):
            for j, size in enumerate(sizes):
                chosen = cells.batch_sizes == size
                estimate = Resampling.draw(int(chosen.sum()), values.shape[1]).mean(values[chosen])
                x = j - 0.4 + (i + 0.5) * width
                colour = PALETTE[i % len(PALETTE)]
                axes.bar(x, estimate.value, width * 0.9, color=colour, label=name if j == 0 else None)
                axes.plot([x, x], [estimate.low, estimate.high], color=CUTOFF, linewidth=1)
        axes.axhline(0, color=CUTOFF, linewidth=0.8)
        counts = [int((cells.batch_sizes == size).sum()) for size in sizes]
        axes.set_xticks(range(len(sizes)), [f"B = {s}\n{n} cells" for s, n in zip(sizes, counts, strict=True)])
        axes.set_ylabel("mean regret (points)")
        tidy(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8, frameon=False)
        return figure


def draw_cells(cells: Gathered, differences: Paired, marked: set[int]) -> Figure:
    """Draw following the plan less always batch norm in every cell, in order, those beyond noise in colour."""
    with drawing():
        figure, (axes,) = _figure(3.4)
        for place, i in enumerate(np.argsort(differences.mean)):
            colour = "#bbbbbb" if int(i) not in marked else NORMALIZE if differences.mean[i] < 0 else SKIP
            axes.plot([place, place], [differences.low[i], differences.high[i]], color=colour, linewidth=1.2)
            axes.plot([place], [differences.mean[i]], "o", color=colour, markersize=3.5)
        axes.axhline(0, color=CUTOFF, linewidth=0.8)
        axes.set_yscale("symlog", linthresh=2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(f"{len(cells)} cells, in order (red, blue: beyond noise, with allowance for all cells)")
        axes.set_ylabel("plan less always batch norm (points)")
        axes.set_xticks([])
        tidy(axes)
        return figure


def draw_arms(rows: Sequence[tuple[str, Estimate, str]], label: str, title: str) -> Figure:
    """Draw one estimate an arm: (name, estimate, colour) each."""
    with drawing():
        figure, (axes,) = _figure(1.2 + 0.23 * len(rows))
        draw_dots(axes, [r[0] for r in rows], [r[1] for r in rows], colours=[r[2] for r in rows])
        axes.set_xlabel(label)
        set_title(axes, title)
        return figure


def draw_table(names: Sequence[str], columns: Sequence[str], values: Floats, label: str, title: str) -> Figure:
    """Draw a table of accuracies in percent as shades with their numbers: rows (names), columns, (rows, columns)."""
    with drawing():
        figure, (axes,) = _figure(1.3 + 0.24 * len(names))
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
