"""Datasets of several sources, each with its own distortion of the features, in known shares."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.study.splits import apportion
from benchmarks.study.treatments import Rows, Transform, fit, parse


@dataclass(frozen=True)
class Mixture:
    """Which sources a dataset has.

    Attributes:
        shares: of the rows (within) or batches (between) of each source; they add up to 1.
        between: each batch comes from one source; otherwise sources meet within batches.
    """

    shares: tuple[float, ...]
    between: bool

    @classmethod
    def of(cls, treatment: str) -> "Mixture | None":
        """Return the mixture that a treatment names; None where it names none.

        `mixed(k,within)` and `mixed(k,between)` are k equal shares; a third value is the share of every source but
        the first, so `mixed(2,between,0.1)` takes nine batches in ten from source 0.

        Raises:
            ValueError: fewer than 2 sources, an unknown way, or shares that do not leave source 0 anything.
        """
        kind, values = parse(treatment)
        if kind != "mixed":
            return None
        try:
            sources = int(values[0])
            share = float(values[2]) if len(values) == 3 else 1 / sources
            first = 1 - (sources - 1) * share
            known = len(values) in (2, 3) and values[1] in ("within", "between")
        except (IndexError, ValueError, ZeroDivisionError):
            known = False
        if not (known and sources >= 2 and share > 0 and first > 0):
            raise ValueError(
                f"expected mixed(sources,within|between) or mixed(sources,within|between,share of each but the "
                f"first), with 2 or more sources and a share below 1 / (sources - 1), got {treatment!r}"
            )
        return cls((first,) + (share,) * (sources - 1), between=values[1] == "between")

    def counts(self, rows: int, batch_size: int) -> NDArray[np.int64]:
        """Return how many rows (within) or batches (between) each source gets, by largest remainder."""
        return apportion(rows // batch_size if self.between else rows, self.shares)

    def assign(self, rows: int, batch_size: int, rng: Generator) -> NDArray[np.int64]:
        """Return the source of every row, (rows,) int64, in seeded order.

        Raises:
            ValueError: a source would get nothing.
        """
        counts = self.counts(rows, batch_size)
        if counts.min() == 0:
            raise ValueError(
                f"expected a {'batch' if self.between else 'row'} for each of {len(counts)} sources, got {rows} rows "
                f"in batches of {batch_size}: take smaller batches or fewer sources"
            )
        drawn = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        return np.repeat(drawn, batch_size) if self.between else drawn

    def distort(self, rows: Rows, rng: Generator) -> tuple[Transform, ...]:
        """Return what each source does to standardized rows.

        Source 0 leaves them; the others, in turn, spread the features' scales (log-normal, 1 to 2), spread their
        means (1 to 3), or scale and shift everything (3 to 30 times, -3 to 3).
        """
        return tuple(_source(index, rows, rng) for index in range(len(self.shares)))


def _source(index: int, rows: Rows, rng: Generator) -> Transform:
    if index == 0:
        return lambda values: values
    if index % 3 == 1:
        return fit(f"scales({rng.uniform(1, 2)})", rows, rng)
    if index % 3 == 2:
        return fit(f"means({rng.uniform(1, 3)})", rows, rng)
    scale, shift = np.exp(rng.uniform(np.log(3), np.log(30))), rng.uniform(-3, 3)
    return lambda values: scale * (values + shift)
