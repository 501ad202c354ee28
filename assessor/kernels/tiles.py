"""Sums over the features of a batch, in one order for every kernel, so that all give the same bits.

Features are taken in tiles of 512 and strips of 64: a tile's sum adds its strips lane by lane, then its 64 lanes by
halves (k and k + 32, then k and k + 16, ...); tiles are added from left to right. Logarithms are summed as a product
of mantissas and a sum of exponents, which costs one logarithm a tile and is exact up to the product's rounding.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from assessor.moments import Floats

TILE = 512
STRIP = 64
TINY = float(np.finfo(np.float64).tiny)
"""Variances below the smallest normal float64 count as zero."""
RUN_VALUES = 1 << 14
"""Values whose tiles are summed together: of a single batch, as merges complete, NumPy's calls cost more than sums."""

TILE_SUMS = np.dtype(
    [
        ("n", np.float64),  # features that vary
        ("mean", np.float64),  # sum of m_f
        ("mean_m2", np.float64),  # sum of squared deviations of m_f from the tile's own mean
        ("variance", np.float64),  # sum of v_f
        ("mantissa", np.float64),  # product of v_f = mantissa * 2^exponent
        ("exponent", np.float64),
        ("constant", np.float64),  # over the other features, the sum of m_f^2 as an unevaluated sum of two float64
        ("constant_low", np.float64),
        ("root", np.float64),  # sum of r_f^(1/2), r_f = v_f + (m_f - m)^2, m the mean of all varying m_f
        ("quarter", np.float64),  # sum of r_f^(1/4)
        ("std", np.float64),  # sum of v_f^(1/2)
    ]
)
"""Of one batch and tile, over the features that vary within the batch; integers are exact as float64."""

TileSums = NDArray[np.void]
"""Of dtype TILE_SUMS, shape (batches, tiles)."""


def empty_sums(n_batches: int, n_features: int) -> TileSums:
    """Return the sums to be filled for so many batches."""
    return np.zeros((n_batches, -(-n_features // TILE)), TILE_SUMS)


def pooled_means(sums: TileSums) -> Floats:
    """Return of each batch the mean of m_f over all of its varying features, shape (batches,); 0 where none varies."""
    total: Floats = np.cumsum(sums["mean"], axis=1)[:, -1] / np.maximum(sums["n"].sum(axis=1), 1)
    return total


def sum_tiles(mean: Floats, m2: Floats, count: int, constant: NDArray[np.int64]) -> TileSums:
    """Return the sums of batches given by their moments.

    Args:
        mean, m2: shape (batches, features), float64.
        count: values per feature and batch.
        constant: shape (features,), added to: batches in which the feature is constant.
    """
    sums, n_batches = empty_sums(*mean.shape), len(mean)
    for tiles, features in _tile_runs(*mean.shape):
        m, v, varies = _by_tile(mean[:, features], m2[:, features] / count)
        n = varies.sum(axis=1)
        constant[features] += n_batches - varies.reshape(n_batches, -1).sum(axis=0)
        total = _lane_sum(np.where(varies, m, 0.0))
        centre = total / np.maximum(n, 1)
        d = np.where(varies, m - centre[:, None], 0.0)
        fraction, power = np.frexp(np.where(varies, v, 0.5))
        for name, of_tile in (
            ("n", n),
            ("mean", total),
            ("mean_m2", _lane_sum(d * d)),
            ("variance", _lane_sum(np.where(varies, v, 0.0))),
            ("mantissa", _lane_product(np.where(varies, fraction, 1.0))),
            ("exponent", np.where(varies, power, 0).sum(axis=1, dtype=np.int64)),
        ):
            sums[name][:, tiles] = of_tile.reshape(n_batches, -1)
        if not varies.all():
            high, low = _lane_squares(np.where(varies, 0.0, m))
            sums["constant"][:, tiles] = high.reshape(n_batches, -1)
            sums["constant_low"][:, tiles] = low.reshape(n_batches, -1)
    pooled = pooled_means(sums)[:, None]
    for tiles, features in _tile_runs(*mean.shape):
        d, v, varies = _by_tile(mean[:, features] - pooled, m2[:, features] / count)
        root = np.sqrt(np.where(varies, v + d * d, 0.0))
        sums["root"][:, tiles] = _lane_sum(root).reshape(n_batches, -1)
        sums["quarter"][:, tiles] = _lane_sum(np.sqrt(root)).reshape(n_batches, -1)
        sums["std"][:, tiles] = _lane_sum(np.sqrt(np.where(varies, v, 0.0))).reshape(n_batches, -1)
    return sums


def _tile_runs(n_batches: int, n_features: int) -> Iterator[tuple[slice, slice]]:
    """Yield runs of tiles of one width, with their features: as many whole ones as fit RUN_VALUES, at last the rest."""
    whole, tiles = n_features // TILE, -(-n_features // TILE)
    step = max(1, RUN_VALUES // (TILE * n_batches))
    for start in range(0, whole, step):
        stop = min(whole, start + step)
        yield slice(start, stop), slice(start * TILE, stop * TILE)
    if whole < tiles:
        yield slice(whole, tiles), slice(whole * TILE, n_features)


def _by_tile(m: Floats, v: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return means and variances with a row for each batch's tile, and which features vary."""
    width = min(TILE, m.shape[1])
    m, v = m.reshape(-1, width), v.reshape(-1, width)
    return m, v, v >= TINY


def sum_squares(values: Floats) -> tuple[Floats, Floats]:
    """Return the sum of squares over the last axis of (batches, features), as an unevaluated sum high + low.

    A feature that is constant over the dataset is taken off this sum again; where its square is large (a time stamp),
    float64 alone would leave nothing of the others.

    Source: Dekker 1971, doi:10.1007/BF01397083 (two-product and the addition of doubled numbers).
    """
    parts = [_lane_squares(values[:, start : start + TILE]) for start in range(0, values.shape[1], TILE)]
    return add_doubled(np.stack([high for high, _ in parts], axis=1), np.stack([low for _, low in parts], axis=1))


def add_doubled(high: Floats, low: Floats) -> tuple[Floats, Floats]:
    """Return the sum over the last axis of doubled numbers high + low, from left to right, as one."""
    total, rest = np.zeros(high.shape[:-1]), np.zeros(high.shape[:-1])
    for k in range(high.shape[-1]):
        total, rest = _add_pair(total, rest, high[..., k], low[..., k])
    return total, rest


def sum_rows(x: Floats) -> Floats:
    """Return the sum of each row of x, shape (rows, features) float64, strip by strip."""
    return _lane_sum(x)


def _lane_squares(values: Floats) -> tuple[Floats, Floats]:
    strips = _strips(values, 0.0)
    high, low = np.zeros((len(values), STRIP)), np.zeros((len(values), STRIP))
    for j in range(strips.shape[1]):
        high, low = _add_pair(high, low, *_square(strips[:, j]))
    return add_doubled(high, low)


def _square(x: Floats) -> tuple[Floats, Floats]:
    split = x * 134217729.0  # 2^27 + 1 cuts 53 bits into 26 and 27
    top = split - (split - x)
    rest = x - top
    high = x * x
    return high, ((top * top - high) + 2 * top * rest) + rest * rest


def _add_pair(a: Floats, a_low: Floats, b: Floats, b_low: Floats) -> tuple[Floats, Floats]:
    total = a + b
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow) + (a_low + b_low)
    high = total + error
    return high, error - (high - total)


def _strips(x: Floats, fill: float) -> Floats:
    n, width = x.shape
    if width % STRIP:
        padded = np.full((n, -(-width // STRIP) * STRIP), fill)
        padded[:, :width] = x
        x = padded
    return np.ascontiguousarray(x).reshape(n, x.shape[1] // STRIP, STRIP)


def _lane_sum(x: Floats) -> Floats:
    # + 0.0 turns -0.0 into 0.0, as in kernels that start from zero. One strip is not padded: no lane to add is no sum.
    lanes = (x if x.shape[1] <= STRIP else np.add.reduce(_strips(x, 0.0), axis=1)) + 0.0
    return _halves(lanes, np.add)


def _lane_product(x: Floats) -> Floats:
    lanes = np.multiply.reduce(_strips(x, 1.0), axis=1)
    return _halves(lanes, np.multiply)


def _halves(lanes: Floats, combine: np.ufunc) -> Floats:
    """Return up to 64 lanes combined: k with k + 32, then k with k + 16, and so on; lanes that lack change nothing."""
    width = STRIP
    while width > 1:
        width //= 2
        rest = lanes[:, width:]
        if rest.shape[1]:
            lanes = lanes[:, :width].copy()
            lanes[:, : rest.shape[1]] = combine(lanes[:, : rest.shape[1]], rest)
    return lanes[:, 0]
