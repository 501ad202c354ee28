"""What a measure is: from batches to one score each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from assessor.moments import Floats
from assessor.registry import Registry
from assessor.view import BatchView

FOUND = "the cutoff finds about"
"""In every note of a `Reach`, and `found_` begins every one of its columns: they hold for one cutoff only."""


@dataclass(frozen=True, eq=False)
class Reach:
    """What a cutoff finds of what a measure is there to find.

    Attributes:
        details: columns `found_...`, shape (batches,) each, that `Measure.explain` takes beside those of the scores.
        notes: what is not found often enough, in words, with FOUND in each.
    """

    details: Mapping[str, NDArray[Any]]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of all batches.

    Attributes:
        values: shape (batches,), float64; NaN where the measure is undefined.
        details: columns, shape (batches,) each, from which `Measure.explain` words a reason.
        rule: the numbers with which a new batch can be scored, JSON-able; the cutoff is added by the plan.
        notes: what was left out, imputed or approximated.
        decomposition: see `standard_divergence`; None for other measures.
        null_quantile: alpha -> per batch the 1 - alpha quantile of the score when all features are alike; None where
            the measure has no null.
        reach: cutoffs of shape (batches,) -> what they find, on data of this shape; None where that is not known.
    """

    values: Floats
    details: Mapping[str, NDArray[Any]]
    rule: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    decomposition: Mapping[str, float] | None = None
    null_quantile: Callable[[float], Floats] | None = None
    reach: Callable[[Floats], Reach] | None = None


@dataclass(frozen=True)
class Measure:
    """A heterogeneity measure.

    Attributes:
        score: (view, **options) -> Scores.
        explain: details of one batch -> what drives its score, in words; must not raise.
        unit: of the score: "nats" or "" (a ratio).
        options: names of the keyword options that `score` takes.
    """

    score: Callable[..., Scores]
    explain: Callable[[Mapping[str, float]], str]
    unit: str
    options: frozenset[str] = field(default=frozenset())


measures: Registry[Measure] = Registry("measure")


__all__ = ["BatchView", "Measure", "Reach", "Scores", "measures"]
