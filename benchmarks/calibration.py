"""How often `heterogeneity` flags batches whose features are alike, and finds those whose features are not.

    python -m benchmarks.calibration [--batches 1000] [--method heterogeneity] [--write docs/calibration.md] [--quick]

Alike features of seven distributions; features whose scales are log-normal(0.5), about one mean or (positive values)
about 0, or whose means are spread by one standard deviation, fixed for the dataset or drawn anew for every batch;
datasets of which a tenth, a half or nine tenths of the batches are of the second kind; the law that x -> a x + b
changes no decision; and, for some cells, the best that any test could do.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import laplace, norm, t
from sklearn.datasets import load_digits
from tqdm import tqdm

from assessor import assess

Floats = NDArray[np.float64]
SIZES, FEATURES = (4, 8, 32, 128), (64, 512)
SMALL = ((2, 2), (2, 8), (2, 64), (2, 512), (4, 2), (4, 8), (32, 2), (32, 8))
SHARES = (0.1, 0.5, 0.9)
LOG_SCALE = 0.5
MEAN_SPREAD = 1.0
MAX_FALSE, MIN_FOUND = 0.02, 0.99
MIXED_VALUES = 1 << 26
"""Values of a mixed dataset at most: where it allows, its rarer kind has as many batches as the other datasets."""
NULL_ALPHA = 0.01
BOUNDED = ((4, 64), (8, 64), (4, 512), (2, 64), (4, 8), (2, 8), (32, 8))
"""Sizes and features for which the best test there can be is computed."""
SIMULATED = 4_000_000
"""Features of which the densities of mean and variance are counted: some 2,000 a cell."""


def _pixels() -> Floats:
    values: Floats = load_digits().data.ravel()
    return np.asarray((values - values.mean()) / values.std())


PIXELS = _pixels()
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: (rng.random(shape) - 0.5) * np.sqrt(12),
    "Laplace": lambda rng, shape: rng.laplace(size=shape) / np.sqrt(2),
    "Student t(5)": lambda rng, shape: rng.standard_t(5, shape) / np.sqrt(5 / 3),
    "exponential": lambda rng, shape: rng.standard_exponential(shape) - 1,
    "Bernoulli(0.3)": lambda rng, shape: ((rng.random(shape) < 0.3) - 0.3) / np.sqrt(0.21),
    "pixels": lambda rng, shape: PIXELS[rng.integers(0, len(PIXELS), shape)],
}
"""Mean 0, variance 1 each."""
MEANS = {
    "uniform": np.sqrt(3),
    "exponential": 1.0,
    "Bernoulli(0.3)": 0.3 / np.sqrt(0.21),
    "pixels": load_digits().data.mean() / load_digits().data.std(),
}
"""Of those that are positive by nature, before their mean was taken off: scales move it too."""
SHAPES: dict[str, Any] = {"normal": norm(), "Laplace": laplace(), "Student t(5)": t(5)}
"""Those of known density around 0, for the best test there can be."""


@dataclass(frozen=True)
class Row:
    """Rates of one cell: flagged among alike batches, and among unlike ones of both kinds."""

    distribution: str
    size: int
    features: int
    alike: float
    scales: float
    scales_about_0: float
    """NaN for a distribution that is symmetric about 0 by nature."""
    means: float
    scales_redrawn: float
    means_redrawn: float
    mixed: tuple[tuple[float, float], ...]
    """Per share, scales then means: flagged among the alike, among the unlike."""


def measure(name: str, size: int, features: int, n: int, method: str) -> Row:
    """Return the rates of one cell, over n batches a dataset."""
    rng = np.random.default_rng([size, features, list(DISTRIBUTIONS).index(name)])
    x = DISTRIBUTIONS[name](rng, (n, size, features))
    scale, mean = np.exp(LOG_SCALE * _spread(rng, features)), MEAN_SPREAD * _spread(rng, features)
    redrawn = rng.standard_normal((n, 1, features))
    mixed = []
    for share in SHARES:
        n_mixed = mixed_batches(share, size, features, n)
        unlike = rng.permutation(n_mixed) < round(share * n_mixed)
        base = DISTRIBUTIONS[name](rng, (n_mixed, size, features))
        for factor, shift in ((scale, 0.0), (1.0, mean)):
            y = base.copy()
            y[unlike] = y[unlike] * factor + shift
            flags = decide(y, method)
            mixed.append((float(flags[~unlike].mean()), float(flags[unlike].mean())))

    def rate(y: Floats) -> float:
        return float(decide(y, method).mean())

    return Row(
        distribution=name,
        size=size,
        features=features,
        alike=rate(x),
        scales=rate(x * scale),
        scales_about_0=rate((x + MEANS[name]) * scale) if name in MEANS else float("nan"),
        means=rate(x + mean),
        scales_redrawn=rate(x * np.exp(LOG_SCALE * redrawn)),
        means_redrawn=rate(x + MEAN_SPREAD * redrawn),
        mixed=tuple(mixed),
    )


def mixed_batches(share: float, size: int, features: int, n: int) -> int:
    """Return how many batches a mixed dataset has: n of its rarer kind or as MIXED_VALUES allows, at least n in all."""
    return max(n, min(round(n / min(share, 1 - share)), MIXED_VALUES // (size * features)))


def decide(x: NDArray[Any], method: str) -> NDArray[np.bool_]:
    """Return which of the batches (n, size, features) the method flags."""
    return assess(x.reshape(-1, x.shape[2]), batch_size=x.shape[1], method=method).normalize


def changed_by_affine(method: str, n: int) -> Iterator[str]:
    """Yield one line a case: how many decisions x -> a x + b changes; half of the batches have unlike scales."""
    for dtype in (np.float64, np.float32):
        for a in (1e-6, 1.0, 1e6):
            for b in (0.0, 1e4, 1e6):
                changed = 0
                for name in DISTRIBUTIONS:
                    rng = np.random.default_rng(5)
                    x = DISTRIBUTIONS[name](rng, (n, 8, 64))
                    x[::2] *= np.exp(LOG_SCALE * _spread(rng, 64))
                    moved = (a * x + a * b).astype(dtype)
                    changed += int((decide(moved, method) != decide(x, method)).sum())
                total = n * len(DISTRIBUTIONS)
                yield f"| {np.dtype(dtype).name} | {a:g} | {b:g} std | {changed} of {total} |"


@dataclass(frozen=True)
class Best:
    """Shares that the best tests at 1 % find of unlike batches of each kind; see `best_possible`."""

    scales: float
    scales_from_moments: float
    scales_redrawn: float
    means: float


def best_possible(name: str, size: int, features: int, n: int, n_simulated: int) -> Best:
    """Return what the best tests find: by Neyman and Pearson, those of the likelihood ratio.

    - scales: log-normal(0.5) scales against one scale, with shape, location and common scale known: no method can know
      as much.
    - scales_from_moments: the same, of each feature's mean and variance in the batch alone: all that one pass keeps.
    - scales_redrawn: scales drawn anew for every batch against features that are alike in the shape that such data have
      when pooled, which is all that can be known of a feature's shape where none keeps its scale.
    - means: means spread normally by one standard deviation against one mean.
    """
    shape = SHAPES[name]
    rng = np.random.default_rng([11, size, features])
    x, y = (shape.rvs(size=(n, size, features), random_state=rng) for _ in range(2))
    unlike = np.stack([_spread(rng, features) for _ in range(n)])[:, None]
    scaled = y * np.exp(LOG_SCALE * unlike)
    pooled = x * np.exp(LOG_SCALE * rng.standard_normal(x.shape))
    z = norm.ppf((np.arange(41) + 0.5) / 41)
    scales = np.exp(LOG_SCALE * z)
    spread = MEAN_SPREAD * float(shape.std())

    def log_densities(values: Floats) -> Floats:
        return np.stack([shape.logpdf(values / s) - np.log(s) for s in scales])

    def ratio_of_scales(values: Floats) -> Floats:
        mixed = logsumexp(log_densities(values).sum(axis=2), axis=0) - np.log(len(scales))
        return np.asarray((mixed - shape.logpdf(values).sum(axis=1)).sum(axis=1))

    def ratio_to_pooled(values: Floats) -> Floats:
        each = log_densities(values)
        return np.asarray((logsumexp(each.sum(axis=2), axis=0) - logsumexp(each, axis=0).sum(axis=1)).sum(axis=1))

    def ratio_of_means(values: Floats) -> Floats:
        mixed = logsumexp([shape.logpdf(values - spread * m).sum(axis=1) for m in z], axis=0)
        return np.asarray((mixed - shape.logpdf(values).sum(axis=1)).sum(axis=1))

    from_moments = ratio_of_moments(shape, size, n_simulated, rng)
    return Best(
        scales=_share_found(ratio_of_scales, x, scaled),
        scales_from_moments=_share_found(from_moments, x, scaled),
        scales_redrawn=_share_found(ratio_to_pooled, pooled, scaled),
        means=_share_found(ratio_of_means, x, y + spread * unlike),
    )


def _share_found(ratio: Callable[[Floats], Floats], alike: Floats, unlike: Floats) -> float:
    """Return how many of the unlike batches have a ratio that 1 % of the alike ones have."""
    null, ratios = (
        np.concatenate([ratio(part) for part in np.array_split(x, max(1, x.size >> 15))]) for x in (alike, unlike)
    )
    return float((ratios > np.quantile(null, 1 - NULL_ALPHA)).mean())


def ratio_of_moments(shape: Any, size: int, n: int, rng: np.random.Generator) -> Callable[[Floats], Floats]:
    """Return the log likelihood ratio of log-normal(0.5) scales, of the features' means and variances alone.

    The densities of r = v + m^2 and m^2 / r are those of n simulated features, counted in 100 x 20 cells.
    """
    counts: list[Floats] = []
    edges: list[Floats] = []
    for log_scale in (LOG_SCALE, 0.0):
        values = shape.rvs(size=(n, size), random_state=rng)
        values *= np.exp(log_scale * rng.standard_normal((n, 1)))
        log_r, tilt = _polar(values)
        if not edges:
            # Of equal width far into the tails, where a single feature tells most.
            low, high = np.quantile(log_r, [1e-5, 1 - 1e-5])
            edges = [np.linspace(low, high, 99), np.quantile(tilt, np.arange(1, 20) / 20)]
        cells = np.searchsorted(edges[0], log_r) * 20 + np.searchsorted(edges[1], tilt)
        counts.append(np.bincount(cells, minlength=2000).astype(np.float64) + 0.5)
    log_ratio = np.log(counts[0] / counts[1])

    def ratio(values: Floats) -> Floats:
        log_r, tilt = _polar(np.moveaxis(values, 1, 2))
        return np.asarray(
            log_ratio[np.searchsorted(edges[0], log_r) * 20 + np.searchsorted(edges[1], tilt)].sum(axis=1)
        )

    return ratio


def _polar(values: Floats) -> tuple[Floats, Floats]:
    """Return ln(v + m^2) and m^2 / (v + m^2) of the values on the last axis: all of m and v but the sign of m."""
    mean_square = (values * values).mean(axis=-1)
    return np.log(mean_square), values.mean(axis=-1) ** 2 / mean_square


def best_lines(n: int, n_simulated: int, cells: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield one line a cell of `best_possible`."""
    for size, features in cells:
        for name in SHAPES:
            best = best_possible(name, size, features, n, n_simulated)
            shares = (best.scales, best.scales_from_moments, best.scales_redrawn, best.means)
            yield f"| {name} | {size} | {features} | " + " | ".join(f"{share:.3f}" for share in shares) + " |"


def _spread(rng: np.random.Generator, features: int) -> Floats:
    """Return normal values of mean 0 and standard deviation 1 exactly, so that a cell does not hang on their luck."""
    z = rng.standard_normal(features)
    return np.asarray((z - z.mean()) / z.std())


def rates_table(rows: list[Row]) -> list[str]:
    """Return a Markdown table; a rate that misses its target is bold."""
    lines = [
        "| distribution | B | F | alike | scales | scales about 0 | means | scales, each batch | means, each batch | "
        + " | ".join(f"{kind} in {share:.0%}" for share in SHARES for kind in ("scales", "means"))
        + " |",
        "|---|" + "---:|" * (8 + 2 * len(SHARES)),
    ]
    for row in rows:
        cells = [
            _false(row.alike),
            *map(_found, (row.scales, row.scales_about_0, row.means, row.scales_redrawn, row.means_redrawn)),
            *(f"{_false(false)} / {_found(found)}" for false, found in row.mixed),
        ]
        lines.append(f"| {row.distribution} | {row.size} | {row.features} | " + " | ".join(cells) + " |")
    return lines


def _false(rate: float) -> str:
    return f"{rate:.3f}" if rate <= MAX_FALSE else f"**{rate:.3f}**"


def _found(rate: float) -> str:
    if np.isnan(rate):
        return ""
    return f"{rate:.3f}" if rate >= MIN_FOUND else f"**{rate:.3f}**"


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--method", default="heterogeneity")
    parser.add_argument("--write", type=Path, metavar="PATH", help="a Markdown file for the tables")
    parser.add_argument("--quick", action="store_true", help="B = 4 and 8, F = 64 only")
    arguments = parser.parse_args()
    sizes, features = (SIZES[:2], FEATURES[:1]) if arguments.quick else (SIZES, FEATURES)
    cells = [(name, b, f) for f in features for b in sizes for name in DISTRIBUTIONS]
    small = [] if arguments.quick else [(name, b, f) for b, f in SMALL for name in DISTRIBUTIONS]
    rows = [
        measure(name, b, f, arguments.batches, arguments.method)
        for name, b, f in tqdm(cells + small, desc="cells", unit="cell", disable=None)
    ]
    text = [
        f"# Calibration of the method `{arguments.method}`",
        "",
        f"Written by `python -m benchmarks.calibration --method {arguments.method}`: share of flagged batches, "
        f"{arguments.batches} batches a dataset. Targets: at most {MAX_FALSE:.0%} of the alike ones, at least "
        f"{MIN_FOUND:.0%} of the others; a rate that misses is bold. In mixed datasets: flagged among the alike / "
        f"among the unlike; {arguments.batches} batches of the rarer kind, where that takes no more than "
        f"{MIXED_VALUES / 1e6:.0f} million values.",
        "",
        *rates_table(rows[: len(cells)]),
        "",
        "## Few features, and batches of two",
        "",
        *(rates_table(rows[len(cells) :]) if small else ["Not run."]),
        "",
        "## x -> a x + b",
        "",
        "Decisions that change, B = 8, F = 64, half of the batches with unlike scales; the data come in the dtype. "
        "float32 has 24 bits: at b = 1e6 std its steps are 0.06 std.",
        "",
        "| dtype | a | b | changed |",
        "|---|---:|---:|---:|",
        *changed_by_affine(arguments.method, min(arguments.batches, 200)),
        "",
        "## The best that any test can do",
        "",
        "Share of unlike batches found at 1 % by the likelihood ratio, with shape, location and common scale known: "
        "unlike scales; the same from the features' means and variances alone, which is what one pass keeps; scales "
        "drawn anew for each batch, against alike features of the shape that such data have when pooled; means. "
        "In the batches, as in those above, the spread is one exactly.",
        "",
        "| distribution | B | F | scales | scales, from means and variances | scales, each batch | means |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *best_lines(4 * min(arguments.batches, 1000), SIMULATED, BOUNDED[:1] if arguments.quick else BOUNDED),
        "",
    ]
    print("\n".join(text))
    if arguments.write:
        arguments.write.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
