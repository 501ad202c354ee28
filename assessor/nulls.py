"""The distribution of the gaussian divergence when all features are alike, whatever their common shape.

Values standardized by their feature's own mean and standard deviation over the dataset are pooled over features;
features of B values are drawn from the pool, and batches of F such features are drawn from those. Draws come from
`hash_rows`, so the null is the same on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from assessor.calibration import sampled_features
from assessor.moments import Floats
from assessor.order import hash_rows
from assessor.profile import Profile

SEED = 20260102
N_DRAWS, MIN_DRAWS = 4000, 2000
"""Batches drawn: the 1 % quantile rests on 40 of them, so its standard error is about 3 % of the null's spread."""
MAX_CELLS = 1 << 21
"""Features drawn for a point, where N_DRAWS would take more: at least MIN_DRAWS batches all the same."""
MAX_WIDTH = 4096
"""Features a batch is drawn with at most; for more, deviations from the mean are shrunk by sqrt(MAX_WIDTH / F)."""
MAX_COUNT = 4096
"""Values a feature is drawn with at most; for more, deviations from the mean are shrunk by sqrt(MAX_COUNT / B)."""
MAX_POINTS = 16
"""Numbers of features for which the null is drawn; between them it is interpolated."""


Statistic = Callable[[Floats, Floats], Floats]
"""(mean, variance), shape (draws, features) each, all variances > 0 -> shape (draws,)."""


@dataclass(frozen=True, eq=False)
class Null:
    """A statistic of batches of alike features, by number of features.

    Attributes:
        n_features: shape (points,), ascending.
        draws: one array a point, shape (draws,), ascending.
    """

    n_features: NDArray[np.int64]
    draws: Sequence[Floats]

    def mean(self, n_features: NDArray[np.int64]) -> Floats:
        """Return the mean of the statistic for each number of features."""
        return np.asarray(np.interp(n_features, self.n_features, [float(draws.mean()) for draws in self.draws]))

    def quantile(self, n_features: NDArray[np.int64], alpha: float) -> Floats:
        """Return the 1 - alpha quantile of the statistic for each number of features."""
        values = [float(np.quantile(draws, 1 - alpha)) for draws in self.draws]
        return np.asarray(np.interp(n_features, self.n_features, values))


def residual_pool(profile: Profile) -> Floats:
    """Return the calibration sample's values, each standardized by its feature over the dataset, in one vector.

    Features constant over the dataset are left out. Empty when the profile has no calibration sample.
    """
    values = profile.calibration.values
    if not values.size:
        return np.zeros(0)
    features = sampled_features(profile.n_features)
    moments = profile.moments
    mean: Floats = moments.mean[features]
    variance: Floats = moments.variance[features]
    varies = variance > 0
    residuals: Floats = (values[:, varies] - mean[varies]) / np.sqrt(variance[varies])
    return np.ravel(residuals)


def normal_pool() -> Floats:
    """Return 16,384 values of the standard normal distribution at evenly spaced probabilities."""
    n = 1 << 14
    return np.asarray(ndtri((np.arange(n) + 0.5) / n))


class AlikeFeatures:
    """Features of `count` values each, drawn from a pool: what batches of alike features are made of.

    Args:
        pool: residuals, shape (n,).
        count: B >= 2.
    """

    def __init__(self, pool: Floats, count: int) -> None:
        mean, variance = _draw_features(pool, count) if len(pool) >= 2 else (np.zeros(0), np.zeros(0))
        varies = variance > 0
        self._mean, self._variance = mean[varies], variance[varies]

    @property
    def enough(self) -> bool:
        """Whether at least 100 features vary: below, the pool is too poor to draw from."""
        return len(self._mean) >= 100

    def null(self, n_features: NDArray[np.int64], statistic: Statistic) -> Null:
        """Return the null of a statistic for the numbers of features that occur, each >= 1."""
        points = np.unique(n_features)
        if len(points) > MAX_POINTS:
            places = np.geomspace(1, len(points), MAX_POINTS).round().astype(np.int64) - 1
            points = points[np.unique(len(points) - 1 - places)]
        return Null(points, [self._draw(int(point), statistic) for point in points])

    def _draw(self, n_features: int, statistic: Statistic) -> Floats:
        width = min(n_features, MAX_WIDTH)
        n_draws = int(np.clip(MAX_CELLS // width, MIN_DRAWS, N_DRAWS))
        draws = np.empty(n_draws)
        step = max(1, (1 << 19) // width)
        for start in range(0, n_draws, step):
            stop = min(n_draws, start + step)
            cells = np.arange(start * width, stop * width, dtype=np.int64)
            chosen = (hash_rows(SEED + 1, cells) % np.uint64(len(self._mean))).astype(np.int64)
            chosen = chosen.reshape(stop - start, width)
            draws[start:stop] = statistic(self._mean[chosen], self._variance[chosen])
        centre = draws.mean()
        return np.sort(centre + (draws - centre) * np.sqrt(width / n_features))


def _draw_features(pool: Floats, count: int) -> tuple[Floats, Floats]:
    """Return mean and variance of features of `count` values from the pool, in bounded memory."""
    n_values = min(count, MAX_COUNT)
    n_features = int(np.clip((1 << 22) // n_values, 512, 20_000))
    mean, variance = np.empty(n_features), np.empty(n_features)
    step = max(1, (1 << 19) // n_values)
    for start in range(0, n_features, step):
        stop = min(n_features, start + step)
        cells = np.arange(start * n_values, stop * n_values, dtype=np.int64)
        picks = (hash_rows(SEED, cells) % np.uint64(len(pool))).astype(np.int64)
        x = pool[picks].reshape(stop - start, n_values)
        mean[start:stop] = x.mean(axis=1)
        variance[start:stop] = ((x - mean[start:stop, None]) ** 2).mean(axis=1)
    if count > n_values:
        shrink = np.sqrt(n_values / count)
        mean = mean.mean() + (mean - mean.mean()) * shrink
        variance = variance.mean() + (variance - variance.mean()) * shrink
    return mean, variance
