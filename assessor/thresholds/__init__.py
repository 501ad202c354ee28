"""Threshold methods: from scores to a cutoff. A batch needs normalization when its score is above it; a tie is skipped.

A threshold is written as a call, `fixed(1.2)`, `otsu()` or `max(fixed(0.1), null(0.01))`, and stands so in the plan.
"""

from assessor.thresholds import given, of_scores, two_groups  # noqa: F401 - they register themselves
from assessor.thresholds.registered import Threshold, thresholds
from assessor.thresholds.text import parse_threshold

__all__ = ["Threshold", "parse_threshold", "thresholds"]
