"""Readings of the formulas in NumPy, float64, written from the papers and released codes alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]


def normalized(x: Floats, axes: tuple[int, ...], eps: float) -> Floats:
    centred = x - x.mean(axes, keepdims=True)
    y: Floats = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + eps)
    return y


def channels(values: Floats, rank: int) -> Floats:
    return values.reshape((1, -1) + (1,) * (rank - 2))


def batch_layer(x: Floats, gamma: Floats, beta: Floats, eps: float = 1e-5) -> Floats:
    """arXiv 2209.08898: gamma ((1/m) x_f + (1 - 1/m) x_b) + beta."""
    m = len(x)
    x_b = normalized(x, (0, *range(2, x.ndim)), eps)
    x_f = normalized(x, tuple(range(1, x.ndim)), eps)
    y = x_f / m + (1 - 1 / m) * x_b
    return channels(gamma, x.ndim) * y + channels(beta, x.ndim)


class ReleasedBatchLayer:
    """The released layer, channels last, with sums that are divided at the end of the epoch."""

    def __init__(self, gamma: Floats, beta: Floats) -> None:
        self.gamma, self.beta = gamma, beta
        self.sums: list[Any] = [0.0, 0.0, 0.0, 0.0]
        self.batches = 0

    def moments(self, x: Floats) -> list[Floats]:
        return [
            x.mean(0, keepdims=True),
            x.var(0, keepdims=True),
            x.mean(-1, keepdims=True),
            x.var(-1, keepdims=True),
        ]

    def output(self, x: Floats, four: list[Floats]) -> Floats:
        m = len(x)
        x_b = (x - four[0]) / np.sqrt(four[1] + 0.001)
        x_f = (x - four[2]) / np.sqrt(four[3] + 0.001)
        both = x_f * (1 / m - 0.0001) + x_b * (1 - (1 / m + 0.0001))
        y: Floats = self.gamma * (both / np.sqrt(x.shape[-1])) + self.beta
        return y

    def train(self, x: Floats) -> Floats:
        four = self.moments(x)
        self.sums = [s + v for s, v in zip(self.sums, four, strict=True)]
        self.batches += 1
        return self.output(x, four)

    def infer(self, x: Floats, population: Sequence[bool]) -> Floats:
        m, own = len(x), self.moments(x)
        scale = [1, m / (m - 1), 1, m / (m - 1)]
        moving = [s * k / self.batches for s, k in zip(self.sums, scale, strict=True)]
        return self.output(x, [p if use else o for use, p, o in zip(population, moving, own, strict=True)])


def noise(b: int) -> float:
    return float((np.log(b / 2) - digamma((b - 1) / 2)) / 2)


def need(x: Floats, constant: set[int], constant_log_variance: float) -> float:
    """The plan's need: D - noise(B), feature by feature."""
    b, f = x.shape
    total, count = 0.0, 0
    for j in set(range(f)) - constant:
        column = x[:, j]
        v = 0.0 if np.ptp(column) == 0 else float(column.var())
        log_v = np.log(v) if v > 0 else constant_log_variance - 2 * noise(b)
        total += (v + float(column.mean()) ** 2 - 1 - log_v) / 2
        count += 1
    return total / count - noise(b)


def heterogeneity(x: Floats) -> float:
    """H - E0[H] over the features that vary."""
    varying = x[:, np.ptp(x, axis=0) > 0]
    b, k = varying.shape
    v = varying.var(0)
    pooled = v.mean() + varying.mean(0).var()
    h = (np.log(pooled) - np.log(v).mean()) / 2
    expected = digamma((b * k - 1) / 2) - np.log(b * k) - digamma((b - 1) / 2) + np.log(b)
    return float(h - expected / 2)


def outside_every_band(x: Floats, class_means: list[float], p: float) -> bool:
    """The published rule on samples of any shape."""
    for sample in x:
        a = sample.mean()
        if not any(t - p * abs(t) <= a <= t + p * abs(t) for t in class_means):
            return True
    return False
