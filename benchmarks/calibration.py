"""How often `heterogeneity` flags batches whose features are alike, and finds those whose features are not.

    python -m benchmarks.calibration [--batches 1000] [--method heterogeneity] [--write docs/calibration.md] [--quick]

Alike features of seven distributions; features whose scales are log-normal(0.5) or whose means are spread by one
standard deviation, fixed for the dataset or drawn anew for every batch; datasets of which a tenth, a half or nine
tenths of the batches are of the second kind; and the law that x -> a x + b changes no decision.
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
NULL_ALPHA = 0.01
BOUNDED = ((4, 64), (8, 64), (2, 64), (4, 8), (2, 8), (32, 8))
"""Sizes and features for which the best test there can be is computed."""


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
        unlike = rng.permutation(n) < share * n
        where = unlike[:, None, None]
        for y in (np.where(where, x * scale, x), np.where(where, x + mean, x)):
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
        means=rate(x + mean),
        scales_redrawn=rate(x * np.exp(LOG_SCALE * redrawn)),
        means_redrawn=rate(x + MEAN_SPREAD * redrawn),
        mixed=tuple(mixed),
    )


def decide(x: Floats, method: str) -> NDArray[np.bool_]:
    """Return which of the batches (n, size, features) the method flags."""
    return assess(x.reshape(-1, x.shape[2]), batch_size=x.shape[1], method=method).normalize


def changed_by_affine(method: str, n: int) -> Iterator[str]:
    """Yield one line a case: how many decisions x -> a x + b changes; half of the batches have unlike scales."""
    for dtype in (np.float64, np.float32):
        for a in (1e-6, 1.0, 1e6):
            for b in (0.0, 1e4):
                changed = 0
                for name in DISTRIBUTIONS:
                    rng = np.random.default_rng(5)
                    x = DISTRIBUTIONS[name](rng, (n, 8, 64))
                    x[::2] *= np.exp(LOG_SCALE * _spread(rng, 64))
                    moved = (a * x + a * b).astype(dtype).astype(np.float64)
                    changed += int((decide(moved, method) != decide(x, method)).sum())
                total = n * len(DISTRIBUTIONS)
                yield f"| {np.dtype(dtype).name} | {a:g} | {b:g} std | {changed} of {total} |"


def best_possible(name: str, size: int, features: int, n: int) -> tuple[float, float]:
    """Return how many batches of unlike scales, and of unlike means, the best tests at 1 % find.

    By Neyman and Pearson that is the likelihood ratio of log-normal(0.5) scales to one scale, or of means spread
    normally by one standard deviation to one mean, with shape, location and common scale known: no method can know
    as much.
    """
    shape = SHAPES[name]
    rng = np.random.default_rng([11, size, features])
    x, y = (shape.rvs(size=(n, size, features), random_state=rng) for _ in range(2))
    unlike = np.stack([_spread(rng, features) for _ in range(n)])[:, None]
    z = norm.ppf((np.arange(41) + 0.5) / 41)

    def found(changed: Floats, hypotheses: list[tuple[float, float]]) -> float:
        def ratio(values: Floats) -> Floats:
            log_density = [(shape.logpdf((values - m) / s) - np.log(s)).sum(axis=1) for m, s in hypotheses]
            return np.asarray((logsumexp(log_density, axis=0) - shape.logpdf(values).sum(axis=1)).sum(axis=1))

        return float((ratio(changed) > np.quantile(ratio(x), 1 - NULL_ALPHA)).mean())

    scales = found(y * np.exp(LOG_SCALE * unlike), [(0.0, float(s)) for s in np.exp(LOG_SCALE * z)])
    spread = MEAN_SPREAD * float(shape.std())
    return scales, found(y + spread * unlike, [(spread * float(m), 1.0) for m in z])


def best_lines(n: int, cells: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield one line a cell of `best_possible`."""
    for size, features in cells:
        found = (best_possible(name, size, features, n) for name in SHAPES)
        yield f"| {size} | {features} | " + " | ".join(f"{scales:.3f} / {means:.3f}" for scales, means in found) + " |"


def _spread(rng: np.random.Generator, features: int) -> Floats:
    """Return normal values of mean 0 and standard deviation 1 exactly, so that a cell does not hang on their luck."""
    z = rng.standard_normal(features)
    return np.asarray((z - z.mean()) / z.std())


def rates_table(rows: list[Row]) -> list[str]:
    """Return a Markdown table; a rate that misses its target is bold."""
    lines = [
        "| distribution | B | F | alike | scales | means | scales, each batch | means, each batch | "
        + " | ".join(f"{kind} in {share:.0%}" for share in SHARES for kind in ("scales", "means"))
        + " |",
        "|---|" + "---:|" * (7 + 2 * len(SHARES)),
    ]
    for row in rows:
        cells = [
            _false(row.alike),
            *(_found(rate) for rate in (row.scales, row.means, row.scales_redrawn, row.means_redrawn)),
            *(f"{_false(false)} / {_found(found)}" for false, found in row.mixed),
        ]
        lines.append(f"| {row.distribution} | {row.size} | {row.features} | " + " | ".join(cells) + " |")
    return lines


def _false(rate: float) -> str:
    return f"{rate:.3f}" if rate <= MAX_FALSE else f"**{rate:.3f}**"


def _found(rate: float) -> str:
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
        "among the unlike.",
        "",
        *rates_table(rows[: len(cells)]),
        "",
        "## Few features, and batches of two",
        "",
        *(rates_table(rows[len(cells) :]) if small else ["Not run."]),
        "",
        "## x -> a x + b",
        "",
        "Decisions that change, B = 8, F = 64, half of the batches with unlike scales; the data rounded to the dtype.",
        "",
        "| dtype | a | b | changed |",
        "|---|---:|---:|---:|",
        *changed_by_affine(arguments.method, min(arguments.batches, 200)),
        "",
        "## The best that any test can do",
        "",
        "Unlike scales / unlike means found at 1 % by the likelihood ratio, with shape, location and scale known. "
        "In the batches, as in those above, the spread is one exactly.",
        "",
        "| B | F | " + " | ".join(SHAPES) + " |",
        "|---:|---:|" + "---:|" * len(SHAPES),
        *best_lines(min(arguments.batches, 1000), BOUNDED[:1] if arguments.quick else BOUNDED),
        "",
    ]
    print("\n".join(text))
    if arguments.write:
        arguments.write.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
