"""What a norm does beside normalizing, in the same readings of its input: residual sum, relu, gate."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Beside(NamedTuple):
    """What is done beside the norm.

    Attributes:
        residual: shape of x; added to the normalized input, before the relu.
        relu: apply max(0, .) last.
        gate: 0-d bool on the device of x; where it is false the norm passes x on (residual and relu still act), and
            running statistics do not move.
    """

    residual: Tensor | None = None
    relu: bool = False
    gate: Tensor | None = None

    def behind(self, y: Tensor) -> Tensor:
        """Return y plus the residual, then the relu.

        >>> Beside(torch.ones(2), relu=True).behind(torch.tensor([-3.0, 3.0])).tolist()
        [0.0, 4.0]
        """
        if self.residual is None:
            return y.relu() if self.relu else y
        y = y + self.residual
        return y.relu_() if self.relu else y  # of the sum, which nobody else holds


ALONE = Beside()


def masked(
    norm: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], x: Tensor, beside: Beside
) -> tuple[Tensor, Tensor, Tensor]:
    """Return norm(x) where the gate is open, else x, and what is behind it; then what else the norm returns.

    Where the gate is shut the norm sees zeros, so that nothing non-finite in x reaches a gradient.
    """
    assert beside.gate is not None
    y, *rest = norm(torch.where(beside.gate, x, 0.0))
    return beside.behind(torch.where(beside.gate, y, x)), rest[0], rest[1]
