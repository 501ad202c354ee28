"""FORMULAS 2 read again, in plain Python: loops, `math.fsum`, no code of the assessor."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]

EULER = 0.57721566490153286


def digamma_half(twice: int) -> float:
    """psi(twice / 2) from psi(1) = -gamma, psi(1/2) = -gamma - 2 ln 2 and psi(x + 1) = psi(x) + 1/x."""
    start, value = (2, -EULER) if twice % 2 == 0 else (1, -EULER - 2 * math.log(2))
    return value + math.fsum(2 / k for k in range(start, twice, 2))


def noise(b: int) -> float:
    """2.2: ( ln(B/2) - psi((B-1)/2) ) / 2."""
    return (math.log(b / 2) - digamma_half(b - 1)) / 2


def normal_divergence(b: int, f: int) -> float:
    """2.3: ( psi((BF-1)/2) - ln(BF) - psi((B-1)/2) + ln B ) / 2."""
    return (digamma_half(b * f - 1) - math.log(b * f) - digamma_half(b - 1) + math.log(b)) / 2


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Biased; exactly 0 where all values are one."""
    if all(value == values[0] for value in values):
        return 0.0
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / len(values)


def columns(rows: Rows) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def batches(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def divergence_from_standard(batch: Rows) -> float:
    """2.2: D = mean_f ( v_f + m_f^2 - 1 - ln v_f ) / 2, for features that all vary."""
    terms = []
    for column in columns(batch):
        m, v = mean(column), variance(column)
        terms.append((v + m * m - 1 - math.log(v)) / 2)
    return mean(terms)


class Need:
    """2.2 with the treatment of vanishing variances: scores and decomposition of a dataset of elements.

    Features constant over the complete batches are left out. Where a feature that varies is constant in a batch, its
    ln v_f is the mean of ln V_f over all such pairs of the complete batches, less 2 noise(B).
    """

    def __init__(self, rows: Rows, size: int) -> None:
        self.size = size
        self.batches = batches(rows, size)
        self.complete = [batch for batch in self.batches if len(batch) == size]
        whole = columns([row for batch in (self.complete or self.batches) for row in batch])
        self.active = [f for f, column in enumerate(whole) if variance(column) > 0]
        self.means = {f: mean(whole[f]) for f in self.active}
        self.variances = {f: variance(whole[f]) for f in self.active}
        flat = [value for f in self.active for value in whole[f]]
        self.m, self.v = mean(flat), variance(flat)
        pairs = [
            math.log(self.variances[f])
            for batch in self.complete
            for f, column in enumerate(columns(batch))
            if f in self.variances and variance(column) == 0
        ]
        self.imputed = mean(pairs or [math.log(v) for v in self.variances.values()])

    def log_variances(self, batch: Rows) -> dict[int, float]:
        by_column = columns(batch)
        return {
            f: math.log(v) if (v := variance(by_column[f])) > 0 else self.imputed - 2 * noise(len(batch))
            for f in self.active
        }

    def divergence(self, batch: Rows) -> float:
        by_column, logs = columns(batch), self.log_variances(batch)
        return mean(
            [(variance(by_column[f]) + mean(by_column[f]) ** 2 - 1 - logs[f]) / 2 for f in self.active],
        )

    def scores(self) -> list[float]:
        return [self.divergence(batch) - noise(len(batch)) if len(batch) > 1 else math.nan for batch in self.batches]

    def decomposition(self) -> dict[str, float]:
        logs = mean([math.log(v) for v in self.variances.values()])
        within = mean([mean(list(self.log_variances(batch).values())) for batch in self.complete])
        return {
            "global": (self.v + self.m**2 - 1 - math.log(self.v)) / 2,
            "feature": (math.log(self.v) - logs) / 2,
            "drift": (logs - within) / 2 - noise(self.size),
            "noise": noise(self.size),
        }


def heterogeneity(batch: Rows) -> float:
    """2.3: H = (ln V - mean_f ln v_f) / 2 over the features that vary; V = variance of all their values."""
    varying = [column for column in columns(batch) if variance(column) > 0]
    pooled = variance([value for column in varying for value in column])
    return (math.log(pooled) - mean([math.log(variance(column)) for column in varying])) / 2


def class_means(samples: Sequence[Sequence[float]], labels: Sequence[int]) -> dict[int, float]:
    """2.1: T_c, the mean of a_s over the samples of class c."""
    by_class: dict[int, list[float]] = {}
    for sample, label in zip(samples, labels, strict=True):
        by_class.setdefault(label, []).append(mean(sample))
    return {label: mean(values) for label, values in by_class.items()}


def published_scores(samples: Sequence[Sequence[float]], labels: Sequence[int], size: int) -> list[float]:
    """2.1 as a score: max over the batch of |a_s - T_c| / |T_c|; T_c = 0: 0 where a_s = 0, else infinite."""
    target = class_means(samples, labels)
    scores = []
    for start in range(0, len(samples), size):
        worst = 0.0
        for sample, label in zip(samples[start : start + size], labels[start : start + size], strict=True):
            a, t = mean(sample), target[label]
            deviation = abs(a - t) / abs(t) if t else (0.0 if a == 0 else math.inf)
            worst = max(worst, deviation)
        scores.append(worst)
    return scores


def published_flags(
    images: Sequence[Sequence[Sequence[float]]], labels: Sequence[int], size: int, p: float
) -> list[bool]:
    """2.1 as released: T - pT <= a <= T + pT, a over all but the last row and column of an image."""
    samples = [[value for line in image[:-1] for value in line[:-1]] for image in images]
    target = class_means(samples, labels)
    flags = []
    for start in range(0, len(samples), size):
        inside = all(
            target[label] - p * target[label] <= mean(sample) <= target[label] + p * target[label]
            for sample, label in zip(samples[start : start + size], labels[start : start + size], strict=True)
        )
        flags.append(not inside)
    return flags
