"""Heterogeneity measures: one file a measure, each a pure function of batches."""

from assessor.measures import (  # noqa: F401 - they register themselves
    class_deviation,
    gaussian_divergence,
    spread_divergence,
    standard_divergence,
)
from assessor.measures.scores import Measure, Scores, measures

__all__ = ["Measure", "Scores", "measures"]
