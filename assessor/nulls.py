"""The distribution of a divergence when all features are alike, whatever their common shape.

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
MEAN_DRAWS = 500
"""Batches drawn where only the mean is asked for: its standard error is about 4 % of the null's spread."""
MAX_CELLS = 1 << 21
"""Features drawn for a point, where N_DRAWS would take more: at least MIN_DRAWS batches all the same."""
MAX_WIDTH = 4096
"""Features a batch is drawn with at most; for more, deviations from the mean are shrunk by sqrt(MAX_WIDTH / F)."""
MAX_COUNT = 4096
"""Values a feature is drawn with at most; for more, deviations from the mean are shrunk by sqrt(MAX_COUNT / B)."""
MAX_POINTS = 16
"""Numbers of features for which the null is drawn; between them it is interpolated."""


MAX_REPEATED = 0.5
"""Share of repeated values above which a drawn feature takes its values from one feature."""
MIN_APART = 32
"""Sampled rows at which such a feature does not have its usual value, for half of the features at least: of fewer its
spread is not known, and alike batches would look unlike (a nonzero in fifty, 128 rows: all of them)."""
MIN_GROUP = 100
"""Sampled rows from which the smaller kind of batches takes its own means and scales: fewer lighten its tails (51 rows
of Laplace data in a tenth of the batches, B = 4, F = 512: 4 % of the alike batches flagged instead of 1 %)."""


Statistic = Callable[[Floats, Floats], Floats]
"""(mean, variance), shape (draws, features) each, all variances > 0 -> shape (draws,)."""

Change = Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]
"""(mean, variance, z) -> (mean, variance), all of shape (draws, features); z is standard normal."""
FOUND_DRAWS = 1000
"""Batches drawn to tell how many are found: a share of .95 is then known to about .007."""


@dataclass(frozen=True, eq=False)
class Null:
    """A statistic of batches of alike features, by number of features.

    Attributes:
        n_features: shape (points,), ascending.
        draws: one array a point, shape (draws,).
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


@dataclass(frozen=True, eq=False)
class Pool:
    """Residuals from which alike features are drawn.

    Attributes:
        values: shape (n,).
        begins: shape (parts,): where in `values` each part begins. A drawn feature has all of its values from one part.
    """

    values: Floats
    begins: NDArray[np.int64]

    @classmethod
    def whole(cls, values: Floats) -> "Pool":
        """Return the pool of one part."""
        return cls(values, np.zeros(1, np.int64))

    @classmethod
    def by_feature(cls, tables: Sequence[Floats]) -> "Pool":
        """Return the pool with a part for every column of the tables, shape (rows, features) each."""
        sizes = np.concatenate([np.full(table.shape[1], len(table)) for table in tables])
        values = np.concatenate([table.T.ravel() for table in tables])
        return cls(values, np.cumsum(sizes) - sizes)

    def draw(self, n_features: NDArray[np.int64], count: int) -> Floats:
        """Return the values of some drawn features, those of these numbers: shape (features, count)."""
        cells = n_features[:, None] * count + np.arange(count)
        picks = hash_rows(SEED, cells.ravel()).reshape(cells.shape)
        if len(self.begins) == 1:
            return np.asarray(self.values[(picks % np.uint64(len(self.values))).astype(np.int64)])
        part = (hash_rows(SEED + 3, n_features) % np.uint64(len(self.begins))).astype(np.int64)
        ends = np.append(self.begins[1:], len(self.values))
        sizes = (ends - self.begins)[part].astype(np.uint64)
        return np.asarray(self.values[self.begins[part][:, None] + (picks % sizes[:, None]).astype(np.int64)])


def residual_pool(profile: Profile, group: NDArray[np.bool_] | None = None) -> Pool:
    """Return the calibration sample's values, each standardized by its feature over the dataset.

    Features constant over the dataset are left out. Empty when the profile has no calibration sample.

    Where most values repeat others (counts, pixels, zeros) a drawn feature has all of its values from one feature.
    Those of several would lie close to each other but not on each other, and have a variance near 0 where those of a
    batch have 0 and are left out. (Pixels, B = 2, F = 64: unlike scales found .44 -> .96.)

    Args:
        group: shape (sampled rows,): in which of two kinds of batches each row lies. Values are then standardized
            by their feature over the sampled rows of their own kind, since over both kinds a feature has two
            locations or scales and its residuals another shape than either. The smaller kind is left out where it has
            fewer than MIN_GROUP rows.
    """
    values = profile.calibration.values.astype(np.float64, copy=False)
    if not values.size:
        return Pool.whole(np.zeros(0))
    if group is None:
        features = sampled_features(profile.n_features)
        moments = profile.moments
        tables = [_standardized(values, moments.mean[features], moments.variance[features])]
    else:
        kinds = sorted((values[group == kind] for kind in (False, True)), key=len)
        # Around the first row, so that what is constant has a variance of 0 and no rounding.
        moved = [x - x[:1] for x in kinds if len(x) >= MIN_GROUP or x is kinds[-1]]
        tables = [_standardized(x, x.mean(axis=0), x.var(axis=0)) for x in moved]
    if all(map(_repeats, tables)):
        return Pool.by_feature(tables)
    return Pool.whole(np.concatenate([table.ravel() for table in tables]))


def _standardized(values: Floats, mean: Floats, variance: Floats) -> Floats:
    # Rounding gives a constant feature a variance of about 1e-32 of its mean squared.
    varies = variance > 1e-28 * mean * mean
    return np.asarray((values[:, varies] - mean[varies]) / np.sqrt(variance[varies]))


def _repeats(table: Floats) -> bool:
    """Return whether features, shape (rows, features), repeat most values and are each known well by themselves."""
    if len(table) < 2 * MIN_APART or not table.shape[1]:
        return False
    ordered = np.sort(table, axis=0)
    same = ordered[1:] == ordered[:-1]
    varying = ~same.all(axis=0)
    if not varying.any():
        return False
    # Where one value is more than half of them it is the middle one too.
    apart = (ordered != ordered[len(ordered) // 2]).sum(axis=0)
    return bool(same[:, varying].mean() > MAX_REPEATED and np.median(apart[varying]) >= MIN_APART)


def normal_pool() -> Pool:
    """Return 16,384 values of the standard normal distribution at evenly spaced probabilities."""
    n = 1 << 14
    return Pool.whole(np.asarray(ndtri((np.arange(n) + 0.5) / n)))


class AlikeFeatures:
    """Features of `count` values each, drawn from a pool: what batches of alike features are made of.

    Args:
        pool: residuals.
        count: B >= 2.
    """

    def __init__(self, pool: Pool, count: int) -> None:
        mean, variance = _draw_features(pool, count) if len(pool.values) >= 2 else (np.zeros(0), np.zeros(0))
        varies = variance > 0
        self._mean, self._variance = mean[varies], variance[varies]

    @property
    def enough(self) -> bool:
        """Whether at least 100 features vary: below, the pool is too poor to draw from."""
        return len(self._mean) >= 100

    def null(self, n_features: NDArray[np.int64], statistic: Statistic) -> Null:
        """Return the null of a statistic for the numbers of features that occur, each >= 1."""
        return self.nulls(n_features, [statistic])[0]

    def means(self, n_features: int, statistics: Sequence[Statistic]) -> list[float]:
        """Return the null means of several statistics, from MEAN_DRAWS draws: for means fewer will do."""
        return [float(draws.mean()) for draws in self._values(min(n_features, MAX_WIDTH), MEAN_DRAWS, statistics, None)]

    def nulls(self, n_features: NDArray[np.int64], statistics: Sequence[Statistic]) -> list[Null]:
        """Return the nulls of several statistics, on the same draws."""
        points = np.unique(n_features)
        if len(points) > MAX_POINTS:
            places = np.geomspace(1, len(points), MAX_POINTS).round().astype(np.int64) - 1
            points = points[np.unique(len(points) - 1 - places)]
        drawn = [self._draw(int(point), statistics) for point in points]
        return [Null(points, list(column)) for column in zip(*drawn, strict=True)]

    def found(self, n_features: int, statistic: Statistic, cutoff: float, change: Change | None) -> float:
        """Return the share of FOUND_DRAWS drawn batches whose statistic is above the cutoff.

        Args:
            change: makes the drawn features unlike; None leaves them alike.
        """
        return float((self._values(min(n_features, MAX_WIDTH), FOUND_DRAWS, [statistic], change)[0] > cutoff).mean())

    def _draw(self, n_features: int, statistics: Sequence[Statistic]) -> list[Floats]:
        width = min(n_features, MAX_WIDTH)
        drawn = self._values(width, int(np.clip(MAX_CELLS // width, MIN_DRAWS, N_DRAWS)), statistics, None)
        centres = [draws.mean() for draws in drawn]
        shrink = np.sqrt(width / n_features)
        return [centre + (draws - centre) * shrink for centre, draws in zip(centres, drawn, strict=True)]

    def _values(self, width: int, n_draws: int, statistics: Sequence[Statistic], change: Change | None) -> list[Floats]:
        drawn = [np.empty(n_draws) for _ in statistics]
        step = max(1, (1 << 19) // width)
        for start in range(0, n_draws, step):
            stop = min(n_draws, start + step)
            cells = np.arange(start * width, stop * width, dtype=np.int64)
            chosen = (hash_rows(SEED + 1, cells) % np.uint64(len(self._mean))).astype(np.int64)
            chosen = chosen.reshape(stop - start, width)
            mean, variance = self._mean[chosen], self._variance[chosen]
            if change is not None:
                mean, variance = change(mean, variance, _spread(cells.reshape(chosen.shape)))
            for draws, statistic in zip(drawn, statistics, strict=True):
                draws[start:stop] = statistic(mean, variance)
        return drawn


def scales_unlike(mean: Floats, variance: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Return the moments of features whose values are multiplied by exp(z / 2): scales log-normal(0.5)."""
    return mean * np.exp(z / 2), variance * np.exp(z)


def means_unlike(mean: Floats, variance: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Return the moments of features of standard deviation 1 moved by z: means one standard deviation apart."""
    return mean + z, variance


def _spread(cells: NDArray[np.int64]) -> Floats:
    """Return normal values, in each row of mean 0 and standard deviation 1 exactly where it has several."""
    uniform = (hash_rows(SEED + 2, cells.ravel()) >> np.uint64(11)).astype(np.float64)
    z = ndtri((uniform + 0.5) * 2.0**-53).reshape(cells.shape)
    if cells.shape[-1] < 2:
        return np.asarray(z)
    z = z - z.mean(axis=1, keepdims=True)
    return np.asarray(z / z.std(axis=1, keepdims=True))


def _draw_features(pool: Pool, count: int) -> tuple[Floats, Floats]:
    """Return mean and variance of features of `count` values from the pool, in bounded memory."""
    n_values = min(count, MAX_COUNT)
    n_features = int(np.clip((1 << 22) // n_values, 512, 20_000))
    mean, variance = np.empty(n_features), np.empty(n_features)
    step = max(1, (1 << 19) // n_values)
    for start in range(0, n_features, step):
        stop = min(n_features, start + step)
        x = pool.draw(np.arange(start, stop, dtype=np.int64), n_values)
        # Around the first value, so that equal values have a variance of 0 and no rounding.
        moved = x - x[:, :1]
        mean[start:stop] = x[:, 0] + moved.mean(axis=1)
        variance[start:stop] = moved.var(axis=1)
    if count > n_values:
        shrink = np.sqrt(n_values / count)
        mean = mean.mean() + (mean - mean.mean()) * shrink
        variance = variance.mean() + (variance - variance.mean()) * shrink
    return mean, variance
