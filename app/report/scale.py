"""The axis on which scores are drawn: linear, or logarithmic beyond the cutoff where scores are far from it."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from assessor import Plan
from assessor.moments import Floats

FAR = 50.0
"""Beyond so many cutoffs a linear axis would press the cutoff to the edge."""


@dataclass(frozen=True)
class ScoreScale:
    """Where scores are drawn.

    Attributes:
        unit: scores within +-unit are drawn linearly, beyond it logarithmically; None: linearly everywhere.
    """

    unit: float | None

    @classmethod
    def of(cls, plan: Plan) -> "ScoreScale":
        """Return the scale for a plan's scores."""
        finite = np.abs(plan.scores[np.isfinite(plan.scores)])
        unit = abs(float(np.median(plan.cutoffs))) or 1.0
        return cls(unit if len(finite) and float(finite.max()) > FAR * unit else None)

    def place(self, scores: Floats) -> Floats:
        """Return where on the axis the scores are drawn."""
        if self.unit is None:
            return scores
        size = np.abs(scores) / self.unit
        with np.errstate(divide="ignore"):
            return np.asarray(np.sign(scores) * np.where(size <= 1, size, 1 + np.log10(np.maximum(size, 1))))

    def set_ticks(self, axes: Axes, *, along_x: bool) -> None:
        """Label the axis with scores; call it after everything is drawn."""
        if self.unit is None:
            return
        low, high = axes.get_xlim() if along_x else axes.get_ylim()
        first = int(np.ceil(np.log10(self.unit)))
        powers = 10.0 ** np.arange(first, first + 12)
        values = np.concatenate([-powers[::-1], [0.0], powers])
        places = self.place(values)
        shown = (places >= low) & (places <= high)
        axis = axes.xaxis if along_x else axes.yaxis
        axis.set_major_locator(FixedLocator(places[shown].tolist()))
        axis.set_minor_locator(NullLocator())
        axis.set_ticklabels([f"{value:g}" for value in values[shown]])

    def label(self, plan: Plan) -> str:
        """Return the axis's label."""
        unit = f" in {plan.unit}" if plan.unit else ""
        beyond = "" if self.unit is None else f" (log beyond ±{self.unit:g})"
        return f"score{unit}{beyond}"
