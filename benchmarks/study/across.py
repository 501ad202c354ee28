"""How far a difference holds from one dataset to the next: cells of a dataset share its rows, which are one draw."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.study.intervals import Estimate, Floats, Resampling, mean_of_seeds
from benchmarks.study.wording import interval, number, table


def leaving_out(differences: Floats, datasets: NDArray[np.str_]) -> dict[str, float]:
    """Return the mean over the cells of all other datasets, by the dataset that is left out; with one dataset, nothing.

    Args:
        differences: (cells, seeds).
        datasets: of the cells, (cells,).
    """
    means = mean_of_seeds(differences)
    return {str(d): float(np.nanmean(means[datasets != d])) for d in np.unique(datasets) if (datasets != d).any()}


def drawn(differences: Floats, datasets: NDArray[np.str_]) -> Estimate:
    """Return the mean difference, its interval from draws of datasets and, of those drawn, of cells and seeds."""
    return Resampling.draw_grouped(datasets, differences.shape[1]).mean(differences)


def lines(datasets: NDArray[np.str_], rows: Sequence[tuple[str, Floats]]) -> list[str]:
    """Return the table of some differences in Markdown, (cells, seeds) in points each; nothing of one dataset."""
    names = np.unique(datasets)
    if len(names) < 2:
        return []
    told = []
    for name, differences in rows:
        rest = leaving_out(differences, datasets)
        low, high = min(rest, key=rest.__getitem__), max(rest, key=rest.__getitem__)
        means = mean_of_seeds(differences)
        gained = sum(float(np.nanmean(means[datasets == d])) > 0 for d in names)
        told.append(
            [
                name,
                interval(Resampling.draw(*differences.shape).mean(differences), 1, signed=True),
                interval(drawn(differences, datasets), 1, signed=True),
                f"{number(rest[low], 1, signed=True)} (no {low}) to {number(rest[high], 1, signed=True)} (no {high})",
                f"{gained} of {len(names)}",
            ]
        )
    header = ["difference", "cells drawn", "datasets drawn, then cells", "leaving a dataset out", "above 0 in"]
    return [
        "Do these hold from one dataset to the next? Cells of a dataset share its rows, so here datasets are drawn "
        f"first, with replacement, and then cells of those drawn. Of {len(names)} datasets such an interval is itself "
        "rough.",
        "",
        *table(header, told),
    ]
