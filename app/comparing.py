"""Two plans compared: the same batches, the same decisions?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor import Plan

LAYOUT = ("batch_size", "drop_last", "n_rows", "order")
SETTINGS = ("method", "threshold", *LAYOUT, "source_order")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What differs between two plans.

    Attributes:
        a, b: the plans.
        settings: those that differ, by name: (of a, of b).
        same_batches: whether both decide on the same samples laid out into the same batches; where only one plan tells
            the order of its sources, the other's is taken to be the same.
        differing: numbers of the batches that are decided differently; None where the batches are others.
        largest_score_change: largest |score of a - score of b|; None where the batches or the measures are others, NaN
            where no batch has a finite score in both.
    """

    a: Plan
    b: Plan
    settings: dict[str, tuple[Any, Any]]
    same_batches: bool
    differing: NDArray[np.int64] | None
    largest_score_change: float | None

    @property
    def same(self) -> bool:
        """Whether every batch is the same and decided alike."""
        return self.differing is not None and not len(self.differing)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {
            "same": self.same,
            "same_batches": self.same_batches,
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "differing": None if self.differing is None else self.differing.tolist(),
            "largest_score_change": self.largest_score_change,
            "batches": [len(plan) for plan in (self.a, self.b)],
            "flagged": [int(plan.normalize.sum()) for plan in (self.a, self.b)],
            "flagged_fraction": [plan.flagged_fraction for plan in (self.a, self.b)],
            "cutoff": [float(np.median(plan.cutoffs)) for plan in (self.a, self.b)],
        }


def compare_plans(a: Plan, b: Plan) -> Comparison:
    """Return what differs between two plans.

    >>> import numpy as np
    >>> from assessor import assess
    >>> x = np.random.default_rng(0).normal(size=(64, 8)) * np.repeat([[1], [9]], 32, axis=0)
    >>> compare_plans(assess(x, batch_size=16), assess(x, batch_size=16, threshold=1e6)).differing
    array([2, 3])
    """
    both_settings = {name: (_setting(a, name), _setting(b, name)) for name in SETTINGS}
    settings = {name: pair for name, pair in both_settings.items() if pair[0] != pair[1]}
    other_sources = None not in settings.get("source_order", (None,))
    same_batches = settings.keys().isdisjoint(LAYOUT) and not other_sources
    change = None
    if same_batches and a.measure == b.measure:
        both = np.isfinite(a.scores) & np.isfinite(b.scores)
        change = float(np.abs(a.scores[both] - b.scores[both]).max()) if both.any() else float("nan")
    return Comparison(
        a,
        b,
        settings=settings,
        same_batches=same_batches,
        differing=np.flatnonzero(a.normalize != b.normalize) if same_batches else None,
        largest_score_change=change,
    )


def _setting(plan: Plan, name: str) -> Any:
    return plan.order.to_dict() if name == "order" else getattr(plan, name)
