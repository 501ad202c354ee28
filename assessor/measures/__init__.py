"""Heterogeneity measures: one file a measure, each a pure function of batches."""

from assessor.measures import (  # noqa: F401 - they register themselves
    bartlett,
    class_deviation,
    gaussian_divergence,
    location_share,
    population_divergence,
    scale_dispersion,
    spread_divergence,
    standard_divergence,
)
from assessor.measures.scores import Measure, Scores, measures

__all__ = ["Measure", "Scores", "measures"]
