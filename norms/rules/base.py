"""What all rules share."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule(ABC):
    """What all rules share. `rule(x)`: x of shape (N, *), any rank >= 2 -> 0-d bool tensor.

    A batch whose score is undefined (fewer than two samples, values that are not finite) is not flagged.
    """

    measure: ClassVar[str]
    cutoff: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return whether the batch x needs normalization: its score is above the cutoff.

        Raises:
            RuleError: the batch does not have the features that the rule was made for.
        """
        with torch.no_grad():
            return self.score(x) > self.cutoff

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """Return the batch's score, a 0-d float tensor; NaN where it is undefined."""

    def to_dict(self) -> dict[str, Any]:
        """Return the dict from which `rule_from_dict` makes this rule."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"measure": self.measure, **values}
