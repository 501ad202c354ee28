"""The effect to expect of each choice: the mean over the study's cells, weighted by how near they are.

A cell's place is that of `table.place_of`: whether there is need, how much is left after one scaling, whether batches
are unlike each other, and log2(B) / 4; another network adds 1 to the squared distance d^2. A cell weighs
w = exp( -d^2 / (2 width^2) ) + shrinkage / cells: near cells count, and all of them together count as much as
`shrinkage` cells at no distance. The estimate is the weighted mean of the cells' effects (Nadaraya-Watson, drawn
toward the mean); the interval is that of one more such cell: the 5 % and 95 % quantiles of the cells' effects, weighted
alike, each with the noise of its seeds, by bootstrap over seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from assessor.advice.table import Table, place_of
from assessor.moments import Floats

COVERED = 0.9
LOSS = -0.01
"""An effect below this, a point of accuracy, is a loss."""
DRAWS = 40
NEAR = 2.0
"""Cells within so many widths are near."""
PRESENT = 0.75
"""A choice is compared where the cells that have it carry at least this share of all weight."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """What is to be expected at one place.

    Attributes:
        names: of the choices that can be compared, by name.
        effect: mean test accuracy less that of doing nothing, shape (choices,).
        low, high: ends of the interval, shape (choices,); low <= effect <= high.
        risk: share of such cells that lose, from below LOSS, 0 to 1, shape (choices,).
        cells: near cells that have the choice, shape (choices,).
        near: which cells of the table are near, shape (table's cells,).
    """

    names: tuple[str, ...]
    effect: Floats
    low: Floats
    high: Floats
    risk: Floats
    cells: NDArray[np.int64]
    near: NDArray[np.bool_]


def squared_distances(table: Table, parts: Mapping[str, float], batch_size: int, network: str | None) -> Floats:
    """Return d^2 to every cell, shape (cells,); a network that is not known is at no distance from any."""
    squared = ((table.places - place_of(parts, batch_size)) ** 2).sum(axis=1)
    return np.asarray(squared if network is None else squared + (table.networks != network))


def weigh(squared: Floats, *, width: float, shrinkage: float) -> Floats:
    """Return the weight of every cell, shape (cells,)."""
    return np.exp(-squared / (2 * width**2)) + shrinkage / max(len(squared), 1)


def mean_effects(table: Table, weights: Floats, network: str | None) -> Floats:
    """Return the weighted mean of each choice's effects over the cells that have it, shape (choices,).

    NaN where cells of too little weight have a choice, or none with this network: it may not be possible there.

    Args:
        table: with one cell or more.
        weights: of its cells, above 0.
        network: None where it is not known.
    """
    has = ~np.isnan(table.effects)
    carried = weights @ has
    summed = weights @ np.where(has, table.effects, 0.0)
    enough = carried >= PRESENT * weights.sum()
    if network is not None:
        enough &= has[table.networks == network].any(axis=0)
    return np.where(enough, summed / np.where(enough, carried, 1.0), np.nan)


def estimate(table: Table, parts: Mapping[str, float], batch_size: int, network: str | None) -> Estimate:
    """Return the effect to expect of each choice, with its interval.

    Args:
        table: with one cell or more.
        parts: "global", "feature", "drift" of the data's need, in nats.
        batch_size: samples a batch.
        network: one of `NETWORKS`; None where it is not known.
    """
    squared = squared_distances(table, parts, batch_size, network)
    weights = weigh(squared, width=table.width, shrinkage=table.shrinkage)
    near = squared <= (NEAR * table.width) ** 2
    means = mean_effects(table, weights, network)
    chosen = np.flatnonzero(~np.isnan(means))
    spread = np.array([_spread(table, int(j), weights) for j in chosen]).reshape(len(chosen), 3)
    low, high, risk = spread.T
    names = tuple(table.choices[j] for j in chosen)
    effect = means[chosen]
    counts = (~np.isnan(table.effects[:, chosen]) & near[:, None]).sum(axis=0)
    return Estimate(names, effect, np.minimum(low, effect), np.maximum(high, effect), risk, counts, near)


def _spread(table: Table, choice: int, weights: Floats) -> tuple[float, float, float]:
    """Return the ends of the middle COVERED of the drawn effects, and the risk; a cell's draws share its weight."""
    values, cells = _sorted_draws(table, choice)
    share = np.cumsum(weights[cells])
    share /= share[-1]
    ends = np.searchsorted(share, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    low, high = values[np.minimum(ends, len(values) - 1)]
    lost = int(np.searchsorted(values, LOSS))
    return float(low), float(high), float(share[lost - 1]) if lost else 0.0


def _sorted_draws(table: Table, choice: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the effects of all cells that have a choice, each with its seeds drawn again DRAWS times, ascending.

    Returns:
        The effects and the cells they are of, shape (cells * DRAWS,) each; kept with the table.
    """
    kept: dict[int, tuple[Floats, NDArray[np.int64]]] = table.__dict__.setdefault("_draws", {})
    if choice not in kept:
        name = table.choices[choice]
        drawn = {
            i: np.array(cell.effects[name])[_resamples(len(cell.effects[name]))].mean(axis=1)
            for i, cell in enumerate(table.cells)
            if name in cell.effects
        }
        values = np.concatenate(list(drawn.values()))
        order = np.argsort(values, kind="stable")
        kept[choice] = values[order], np.repeat(list(drawn), DRAWS)[order]
    return kept[choice]


@lru_cache(maxsize=64)
def _resamples(n: int) -> NDArray[np.int64]:
    """Return which of n seeds are drawn, shape (DRAWS, n); of n only, so that cells do not depend on each other."""
    return np.random.default_rng(n).integers(0, n, size=(DRAWS, n))
