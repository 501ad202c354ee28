"""The distribution of the gaussian divergence when all features are alike, whatever their common shape.

Values standardized by their feature's own mean and standard deviation over the dataset are pooled over features;
features of B values are drawn from the pool, and batches of F such features are drawn from those. Draws come from
`hash_rows`, so the null is the same on every machine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assessor.calibration import sampled_features
from assessor.moments import Floats
from assessor.order import hash_rows
from assessor.profile import Profile

SEED = 20260102
N_DRAWS = 4000
"""Batches drawn: the 1 % quantile rests on 40 of them, so its standard error is about 3 % of the null's spread."""
MAX_WIDTH = 4096
"""Features a batch is drawn with at most; for more, deviations from the mean are shrunk by sqrt(MAX_WIDTH / F)."""
MAX_COUNT = 4096
"""Values a feature is drawn with at most; for more, deviations from the mean are shrunk by sqrt(MAX_COUNT / B)."""
MAX_POINTS = 128
"""Numbers of features for which the null is drawn; between them it is interpolated."""


@dataclass(frozen=True, eq=False)
class Null:
    """The divergence of alike features, by number of features.

    Attributes:
        n_features: shape (points,), ascending.
        draws: shape (points, N_DRAWS), sorted along axis 1, nats.
    """

    n_features: NDArray[np.int64]
    draws: Floats

    def mean(self, n_features: NDArray[np.int64]) -> Floats:
        """Return the mean of the divergence for each number of features."""
        return np.asarray(np.interp(n_features, self.n_features, self.draws.mean(axis=1)))

    def quantile(self, n_features: NDArray[np.int64], alpha: float) -> Floats:
        """Return the 1 - alpha quantile of the divergence for each number of features."""
        values = np.quantile(self.draws, 1 - alpha, axis=1)
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


def draw_null(pool: Floats, count: int, n_features: NDArray[np.int64]) -> Null | None:
    """Return the null for batches of `count` values per feature.

    Args:
        pool: residuals, shape (n,).
        count: B >= 2.
        n_features: the numbers of varying features that occur, each >= 1.

    Returns:
        None when the pool is too poor to draw from (fewer than 100 features that vary).
    """
    if len(pool) < 2:
        return None
    mean, variance = _draw_features(pool, count)
    varies = variance > 0
    mean, variance = mean[varies], variance[varies]
    if len(mean) < 100:
        return None
    points = np.unique(n_features)
    if len(points) > MAX_POINTS:
        points = points[np.linspace(0, len(points) - 1, MAX_POINTS).astype(np.int64)]
    width = int(min(points[-1], MAX_WIDTH))
    columns = np.minimum(points, width) - 1
    log_variance = np.log(variance)
    draws = np.empty((len(points), N_DRAWS))
    step = max(1, (1 << 19) // width)
    for start in range(0, N_DRAWS, step):
        stop = min(N_DRAWS, start + step)
        cells = np.arange(start * width, stop * width, dtype=np.int64)
        chosen = (hash_rows(SEED + 1, cells) % np.uint64(len(mean))).astype(np.int64)
        chosen = chosen.reshape(stop - start, width)
        k = np.arange(1, width + 1)
        m = np.cumsum(mean[chosen], axis=1) / k
        m_squared = np.cumsum(mean[chosen] ** 2, axis=1) / k
        v = np.cumsum(variance[chosen], axis=1) / k
        logs = np.cumsum(log_variance[chosen], axis=1) / k
        pooled = v + np.maximum(m_squared - m * m, 0.0)
        draws[:, start:stop] = ((np.log(pooled) - logs) / 2)[:, columns].T
    shrink = np.sqrt(np.minimum(1.0, width / points))[:, None]
    centre = draws.mean(axis=1, keepdims=True)
    return Null(points, np.sort(centre + (draws - centre) * shrink, axis=1))


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
