"""Plots of docs/evidence.md over cells: by score, by cutoff, by batch size, one by one in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from app.report.drawing import CUTOFF, NORMALIZE, PALETTE, SKIP, drawing, set_title, tidy
from benchmarks.study.intervals import Estimate, Floats, Paired, Resampling, mean_of_seeds
from benchmarks.study.plots import WIDTH, new_figure

if TYPE_CHECKING:
    from benchmarks.study.cutoffs import Cutoff
    from benchmarks.study.gathered import Gathered

SIZE_COLOURS = {2: "#7a1f0e", 4: "#c8553d", 8: "#e09f3e", 16: "#5b9279", 32: "#3d7ea6", 128: "#1f3f5a"}
SIGNED_LOG_FROM = 0.1
"""Nats within which a score's axis is linear."""


def draw_gains(cells: Gathered, gain: Paired, default: str) -> Figure:
    """Draw the gain of batch norm in every cell, by the score of the default measure and by batch size."""
    with drawing():
        figure, (left, right) = new_figure(3.9, 2, sharey=True)
        scores, sizes = mean_of_seeds(cells.score(default)), cells.batch_sizes
        known = sorted(set(sizes.tolist()))
        for place, size in enumerate(known):
            colour = SIZE_COLOURS.get(size, "#777777")
            chosen = np.flatnonzero(sizes == size)
            chosen = chosen[np.argsort(gain.mean[chosen])]
            beside = place + np.linspace(-0.3, 0.3, len(chosen)) if len(chosen) > 1 else np.array([float(place)])
            for axes, x in ((left, scores[chosen]), (right, beside)):
                axes.vlines(x, gain.low[chosen], gain.high[chosen], color=colour, linewidth=1, alpha=0.6)
                axes.plot(x, gain.mean[chosen], "o", color=colour, markersize=4, label=f"B = {size}")
        for axes in (left, right):
            axes.axhline(0, color="#999999", linewidth=0.8)
            tidy(axes)
        lowest, highest = (float(f(scores)) if len(scores) else 0.0 for f in (np.nanmin, np.nanmax))
        left.set_xscale("symlog", linthresh=SIGNED_LOG_FROM)
        left.set_xlim(min(-0.02, 1.5 * lowest), 2 * max(highest, SIGNED_LOG_FROM))
        left.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        left.set_xlabel(f"{default}, mean over batches (nats)")
        left.set_ylabel("gain of batch norm over none (points)")
        right.set_xticks(range(len(known)), [str(size) for size in known])
        right.set_xlabel("batch size; its cells in order")
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
        return figure


def draw_cutoffs(cutoffs: Sequence[Cutoff], candidates: Sequence[float], never: Estimate, best: Estimate) -> Figure:
    """Draw what following each measure gains over always batch norm, by its cutoff, a panel a measure.

    The band is the interval, the square the cutoff in use. Other treatments of vanishing variances are drawn in grey
    into the panel of the measure that they are of.
    """
    with drawing():
        main = [c for c in cutoffs if "/" not in c.measure]
        figure = Figure(figsize=(WIDTH, 1.1 + 2.3 * ((len(main) + 1) // 2)), layout="constrained")
        panels = figure.subplots((len(main) + 1) // 2, 2, squeeze=False, sharex=True, sharey=True).ravel()
        finite = np.isfinite(candidates)
        x = np.asarray(candidates)[finite]
        for axes, c in zip(panels, main, strict=False):
            low, high = (np.array([getattr(e, end) for e in c.gains])[finite] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=SKIP, alpha=0.2, linewidth=0)
            for other in (o for o in cutoffs if o.measure.startswith(f"{c.measure}/")):
                style = (":", "--")["left_out" in other.measure]
                values = np.array([e.value for e in other.gains])[finite]
                axes.plot(x, values, style, color="#555555", linewidth=1.1, label=other.measure.partition("/")[2])
            axes.plot(x, np.array([e.value for e in c.gains])[finite], color=SKIP, linewidth=1.6)
            axes.plot([c.today], [c.today_gain.value], "s", color=NORMALIZE, markersize=6, markeredgecolor="white")
            for line, name in ((0.0, "always batch norm"), (never.value, "never"), (best.value, "better of both")):
                axes.axhline(line, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
                axes.annotate(
                    name, (0.99, line), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
                    ha="right", va="bottom", fontsize=7, color="#555555",
                )  # fmt: skip
            axes.set_xscale("symlog", linthresh=0.01)
            axes.set_xlim(0, x.max())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            set_title(axes, c.measure)
            tidy(axes)
            if axes.get_legend_handles_labels()[1]:
                axes.legend(fontsize=7, frameon=False, loc="lower left")
        for axes in panels[len(main) :]:
            axes.set_visible(False)
        figure.supxlabel("cutoff (nats; class_deviation: a ratio); square: in use today; band: 95 %", fontsize=9)
        figure.supylabel("accuracy less always batch norm (points)", fontsize=9)
        return figure


def draw_regret(cells: Gathered, regrets: Mapping[str, Floats]) -> Figure:
    """Draw the mean regret of some policies by batch size, with intervals."""
    with drawing():
        figure, (axes,) = new_figure(3.4)
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
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(regrets), fontsize=8, frameon=False
        )
        return figure


def draw_cells(policies: Sequence[tuple[str, Paired, set[int]]]) -> Figure:
    """Draw policies less always batch norm in every cell, a panel each, in order, those beyond noise in colour.

    Args:
        policies: name, differences, and the indices of the cells beyond noise.
    """
    with drawing():
        figure, panels = new_figure(3.6, len(policies), sharey=True)
        for axes, (name, differences, marked) in zip(panels, policies, strict=True):
            for place, i in enumerate(np.argsort(differences.mean)):
                colour = "#bbbbbb" if int(i) not in marked else NORMALIZE if differences.mean[i] < 0 else SKIP
                axes.plot([place, place], [differences.low[i], differences.high[i]], color=colour, linewidth=1)
                axes.plot([place], [differences.mean[i]], "o", color=colour, markersize=2.8)
            axes.axhline(0, color=CUTOFF, linewidth=0.8)
            axes.set_yscale("symlog", linthresh=2)
            axes.set_yticks([-50, -10, -5, -1, 0, 1, 5, 10, 50])
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylim(-110, 110)
            axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.set_xticks([])
            set_title(axes, name)
            tidy(axes)
        panels[0].set_ylabel("less always batch norm (points)")
        figure.supxlabel(
            f"{len(policies[0][1].mean)} cells, each panel in its own order; red, blue: beyond noise, with allowance "
            "for all cells",
            fontsize=9,
        )
        return figure
