"""What a threshold is: from the scores of all batches to a cutoff."""

from collections.abc import Callable

from assessor.measures.scores import Scores
from assessor.moments import Floats
from assessor.registry import Registry

Threshold = Callable[[Scores], "Floats | float"]
"""The cutoff of all batches, or one a batch, shape (batches,)."""

thresholds: Registry[Callable[..., Threshold]] = Registry("threshold")
