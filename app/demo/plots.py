"""The demonstration's own plot: test accuracy, as inline SVG."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from app.demo.training import ARMS, BATCH_SIZES, SOURCES, Outcome
from app.report.drawing import tidy, to_svg

COLOURS = {
    "plan": "#c8553d",
    "advice": "#e09f3e",
    "batch": "#3d7ea6",
    "batch_layer": "#5b9279",
    "layer": "#8f6593",
    "none": "#999999",
}


def plot_accuracy(outcomes: Sequence[Outcome]) -> Markup:
    """Return test accuracy by arm, a panel for each setting (a dot a seed, a bar the mean); call within `drawing()`."""
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
            tidy(panel)
    for panel in axes[-1]:
        panel.set_xlabel("test accuracy over all sources")
    return to_svg(figure, describe_accuracy(outcomes), name="accuracy")


def describe_accuracy(outcomes: Sequence[Outcome]) -> str:
    """Return the mean accuracies in words."""
    means: dict[str, list[float]] = {}
    for outcome in outcomes:
        cell = outcome.cell
        means.setdefault(f"{cell.sources}, batch size {cell.batch_size}, {cell.arm}", []).append(outcome.accuracy)
    return "test accuracy: " + "; ".join(f"{name} {np.mean(values):.3f}" for name, values in means.items())
