"""What is done to a dataset before it is assessed and trained on.

A treatment is a name, in brackets its numbers: `raw`, `scales(2)`, `mixed(4,between)`. `fit` reads the training rows
and draws what is random, then gives a function of rows, so that validation and test rows are treated as training rows
were and nothing of them is used. Mixtures of sources are in mixtures.py.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""Samples with their axes flattened, (N, F) float64."""

Transform = Callable[[Rows], Rows]

DEAD_SHARE = 0.3
"""Share of the features that `dead_features` replaces."""

DEAD_SCALE = 1e-3
"""Standard deviation of what is left in them, where living features have 1."""

_NAMES = (
    "raw",
    "standardized",
    "shifted(10)",
    "scaled(100)",
    "scaled(0.01)",
    "scales(0.5)",
    "scales(1)",
    "scales(2)",
    "means(1)",
    "means(3)",
    "heavy_tails",
    "dead_features",
    "mixed(2,within)",
    "mixed(4,within)",
    "mixed(8,within)",
    "mixed(2,between)",
    "mixed(4,between)",
    "mixed(8,between)",
    "mixed(2,between,0.1)",
    "sorted",
)


def treatments() -> tuple[str, ...]:
    """Return the names of the study's treatments; `load` takes others of the same form, such as `scales(3)`."""
    return _NAMES


def parse(treatment: str) -> tuple[str, tuple[str, ...]]:
    """Return a treatment's kind and what its brackets hold: `mixed(2,between)` is ("mixed", ("2", "between")).

    Raises:
        ValueError: the name has not that form.
    """
    found = re.fullmatch(r"([a-z_]+)(?:\(([^()]+)\))?", treatment)
    if found is None:
        raise ValueError(f"expected a treatment such as scales(2), got {treatment!r}: {', '.join(_NAMES)}")
    return found[1], tuple(part.strip() for part in found[2].split(",")) if found[2] else ()


def standardize(rows: Rows) -> Transform:
    """Return the function that gives every feature mean 0 and variance 1 over `rows`; constant ones become 0."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    # Not `scale == 0`: the mean of equal values is rounded, which leaves a standard deviation of about 1e-17.
    constant = (rows == rows[0]).all(axis=0)
    mean, scale = np.where(constant, rows[0], mean), np.where(constant, 1.0, scale)
    return lambda values: (values - mean) / scale


def fit(treatment: str, rows: Rows, rng: Generator) -> Transform:
    """Return what a treatment does to the values of rows; random numbers are drawn from `rng`.

    Args:
        treatment: a name that is no mixture. Rows of `raw`, `standardized` and `sorted` keep their values.
        rows: training rows, standardized unless they are to stay raw, (N, F).
        rng: of the treatment; `dead_features` draws from it at every call too.

    Raises:
        ValueError: no such treatment, or numbers that it does not take.
    """
    kind, numbers = parse(treatment)
    try:
        return _FITS[kind](rows, rng, *(float(number) for number in numbers))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected one of {', '.join(_NAMES)}, or other numbers in one, got {treatment!r}") from error


def _unchanged(_rows: Rows, _rng: Generator) -> Transform:
    return lambda values: values


def _shifted(_rows: Rows, _rng: Generator, by: float) -> Transform:
    return lambda values: values + by


def _scaled(_rows: Rows, _rng: Generator, by: float) -> Transform:
    return lambda values: values * by


def _scales(rows: Rows, rng: Generator, spread: float) -> Transform:
    scale = np.exp(rng.normal(0.0, spread, rows.shape[1]))
    return lambda values: values * scale


def _means(rows: Rows, rng: Generator, spread: float) -> Transform:
    mean = rng.normal(0.0, spread, rows.shape[1])
    return lambda values: values + mean


def _heavy_tails(rows: Rows, _rng: Generator) -> Transform:
    # A signed square loses nothing, and takes the kurtosis of normal values from 3 to E z^8 / (E z^4)^2 = 105 / 9.
    again = standardize(rows * np.abs(rows))
    return lambda values: again(values * np.abs(values))


def _dead_features(rows: Rows, rng: Generator) -> Transform:
    features = rows.shape[1]
    dead = rng.permutation(features)[: max(1, round(DEAD_SHARE * features))]

    def kill(values: Rows) -> Rows:
        values = values.copy()
        values[:, dead] = rng.normal(0.0, DEAD_SCALE, (len(values), len(dead)))
        return values

    return kill


_FITS: Mapping[str, Callable[..., Transform]] = {
    "raw": _unchanged,
    "standardized": _unchanged,
    "sorted": _unchanged,
    "shifted": _shifted,
    "scaled": _scaled,
    "scales": _scales,
    "means": _means,
    "heavy_tails": _heavy_tails,
    "dead_features": _dead_features,
}
