"""Intervals: a bootstrap over cells and seeds, and differences cell by cell from few seeds.

Values stand in arrays of shape (cells, seeds), NaN where a run is missing. All quantities of one table are resampled
by the same draws, so that differences between them are paired.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
ZERO_VARIANCE = 0.05**2
"""Squared standard deviation, in points, below which one seed's spread is not believed: five runs that agree to the
last test sample do not show that a sixth would."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval at LEVEL; NaN where nothing was measured."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0

    @property
    def sign(self) -> int:
        """1 where the interval is above 0, -1 where it is below, 0 where it holds 0 or is not known."""
        return int(self.above) - int(self.below)


@dataclass(frozen=True, eq=False)
class Resampling:
    """Draws of cells with replacement and, within each drawn cell, of seeds with replacement.

    Drawing seeds as well counts their noise a second time, since it is in the spread over cells too: intervals are
    a little too wide rather than too narrow.

    Attributes:
        cells: (resamples, cells) int.
        seeds: (resamples, cells, seeds) int.
    """

    cells: NDArray[np.intp]
    seeds: NDArray[np.intp]

    @staticmethod
    @lru_cache(maxsize=8)
    def draw(n_cells: int, n_seeds: int, *, resamples: int = RESAMPLES, seed: int = 0) -> "Resampling":
        """Return seeded draws for arrays of shape (n_cells, n_seeds)."""
        generator = np.random.default_rng(seed)
        return Resampling(
            generator.integers(0, max(n_cells, 1), (resamples, n_cells)),
            generator.integers(0, max(n_seeds, 1), (resamples, n_cells, n_seeds)),
        )

    @staticmethod
    def draw_grouped(
        groups: NDArray[np.str_], n_seeds: int, *, resamples: int = RESAMPLES, seed: int = 0
    ) -> "Resampling":
        """Return draws of groups with replacement and, from the cells of those drawn, of as many cells as there are.

        Args:
            groups: what each cell is of, (cells,).
            n_seeds: of each cell.
            resamples, seed: as for `draw`.
        """
        generator = np.random.default_rng(seed)
        members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        cells = np.empty((resamples, len(groups)), np.intp)
        for row in cells:
            there = np.concatenate([members[k] for k in generator.integers(0, len(members), len(members))])
            row[:] = generator.choice(there, len(groups))
        return Resampling(cells, generator.integers(0, max(n_seeds, 1), (*cells.shape, n_seeds)))

    def means(self, values: Floats) -> Floats:
        """Return the drawn cells' means over their drawn seeds, (resamples, cells); missing runs are left out."""
        return mean_of_seeds(values[self.cells[:, :, None], self.seeds])

    def estimate(self, statistic: Callable[..., Floats], *values: Floats) -> Estimate:
        """Return a statistic of some quantities, with its percentile interval.

        Args:
            statistic: takes as many arrays of shape (n, cells), gives (n,).
            values: the quantities, (cells, seeds) each.
        """
        if not values[0].size:
            return Estimate(np.nan, np.nan, np.nan)
        value = statistic(*(mean_of_seeds(v)[None] for v in values))[0]
        drawn = statistic(*(self.means(v) for v in values))
        return percentiles(float(value), drawn)

    def mean(self, values: Floats) -> Estimate:
        """Return the mean over cells of the mean over seeds; cells without any run are left out."""
        if np.isnan(values).any() or not values.size:
            return self.estimate(mean_of_cells, values)
        return percentiles(float(values.mean()), self._weights @ values.ravel())

    @cached_property
    def _weights(self) -> Floats:
        """How much each run counts in the mean of each draw, (resamples, cells * seeds)."""
        n_draws, n_cells, n_seeds = self.seeds.shape
        size = n_cells * n_seeds
        runs = np.arange(n_draws)[:, None, None] * size + self.cells[:, :, None] * n_seeds + self.seeds
        return np.asarray(np.bincount(runs.ravel(), minlength=n_draws * size).reshape(n_draws, size) / size, np.float64)


def mean_of_seeds(values: Floats) -> Floats:
    """Return the mean over the last axis without missing values; NaN where all are missing."""
    there = ~np.isnan(values)
    count = there.sum(-1)
    total = np.where(there, values, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


mean_of_cells = mean_of_seeds


def percentiles(value: float, drawn: Floats) -> Estimate:
    """Return the interval between the outer percentiles of what was drawn; undefined draws are left out."""
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences between two choices, cell by cell; (cells,) each.

    Attributes:
        mean: over seeds.
        low, high: interval at LEVEL of one cell by itself.
        p_below: chance of a difference as far below 0, were it 0.
        p_above: the same above 0.
    """

    mean: Floats
    low: Floats
    high: Floats
    p_below: Floats
    p_above: Floats


def paired(differences: Floats) -> Paired:
    """Return the differences of every cell with intervals from its seeds, its variance shrunk toward all cells'.

    Five seeds tell little of a cell's variance. So the variances of all cells are taken as drawn from one scaled
    inverse chi-squared distribution, fitted to them, and each is shrunk toward it ("moderated t").

    Args:
        differences: (cells, seeds), in points.

    Source: Smyth 2004, doi 10.2202/1544-6115.1027, sections 3 and 6.2.
    """
    count = (~np.isnan(differences)).sum(1).astype(np.float64)
    mean = mean_of_seeds(differences)
    degrees = np.maximum(count - 1, 0.0)
    squares = mean_of_seeds((differences - mean[:, None]) ** 2) * count / np.maximum(degrees, 1)
    squares = np.maximum(squares, ZERO_VARIANCE)
    usable = degrees > 0
    if not usable.any():
        unknown = np.full(len(mean), np.nan)
        return Paired(mean, unknown, unknown, unknown, unknown)
    prior_degrees, prior = _prior(squares[usable], degrees[usable])
    if np.isinf(prior_degrees):
        shrunk, total = np.full(len(mean), prior), np.full(len(mean), 1e6)
    else:
        total = prior_degrees + degrees
        shrunk = (prior_degrees * prior + degrees * squares) / total
    error = np.where(usable, np.sqrt(shrunk / np.maximum(count, 1)), np.nan)
    half = stats.t.ppf((1 + LEVEL) / 2, total) * error
    t = mean / error
    below, above = (np.asarray(p(t, total), np.float64) for p in (stats.t.cdf, stats.t.sf))
    return Paired(mean, mean - half, mean + half, below, above)


def _prior(squares: Floats, degrees: Floats) -> tuple[float, float]:
    """Return the prior's degrees of freedom and variance (equations of section 6.2)."""
    e = np.log(squares) - special.digamma(degrees / 2) + np.log(degrees / 2)
    centre = float(e.mean())
    if len(e) < 3:
        return np.inf, float(squares.mean())
    excess = float(e.var(ddof=1) - special.polygamma(1, degrees / 2).mean())
    if excess <= 0:
        return np.inf, float(np.exp(centre))
    half = _inverse_trigamma(excess)
    return 2 * half, float(np.exp(centre + special.digamma(half) - np.log(half)))


def _inverse_trigamma(x: float) -> float:
    """Return y with trigamma(y) = x > 0, by Newton's method on 1 / trigamma, which is nearly straight."""
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / x) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-9:
            break
    return y


def holm(p: Floats) -> Floats:
    """Return p-values made larger so that, of many cells without a difference, one at 5 % is enough to be rare.

    Source: Holm 1979; NaN stays NaN and counts for nothing.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0) if len(order) else 0.0
    return adjusted
