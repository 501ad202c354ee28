"""What a norm does beside normalizing, in the same readings of its input: residual sum, relu, gate."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from norms.errors import InputError


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

    @property
    def nothing(self) -> bool:
        """Whether the norm stands alone."""
        return self.residual is None and not self.relu and self.gate is None

    def behind(self, y: Tensor) -> Tensor:
        """Return y plus the residual, then the relu, in the dtype of y.

        >>> Beside(torch.ones(2), relu=True).behind(torch.tensor([-3.0, 3.0])).tolist()
        [0.0, 4.0]
        """
        if self.residual is None:
            return y.relu() if self.relu else y
        total = (y + self.residual).to(y.dtype)
        return total.relu_() if self.relu else total  # nobody else holds the sum


ALONE = Beside()


def after(x: Tensor, residual: Tensor | None, relu: bool) -> Beside:
    """Return what is done after a norm of x.

    Raises:
        InputError: a residual of another shape than x.
    """
    if residual is not None and residual.shape != x.shape:
        raise InputError(
            f"expected a residual of the input's shape {tuple(x.shape)}; got {tuple(residual.shape)}: expand it, or "
            "add it to the result"
        )
    return Beside(residual, relu)


def around(norm: Callable[[Tensor], Tensor], x: Tensor, beside: Beside) -> Tensor:
    """Return norm(x) and what is beside it by torch's operations.

    Where the gate is shut the norm sees zeros, so that nothing non-finite in x reaches a gradient.

    >>> around(torch.sqrt, torch.tensor([-4.0, 9.0]), Beside(relu=True, gate=torch.tensor(False))).tolist()
    [0.0, 9.0]
    """
    if beside.gate is None:
        return beside.behind(norm(x))
    return beside.behind(torch.where(beside.gate, norm(torch.where(beside.gate, x, 0.0)), x))


def gradients(
    norm: Callable[[Tensor, Tensor | None, Tensor | None], Tensor],
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    beside: Beside,
    wanted: Sequence[bool],
    g: Tensor,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, weight, bias and residual, as far as `wanted`, so that they have gradients themselves.

    Args:
        norm: of x, weight and bias, by operations that autograd differentiates any number of times.
        x: the input of it.
        weight: gamma.
        bias: beta.
        beside: what is done beside it.
        wanted: which of the four; further values are left out.
        g: the gradient of the result.
    """
    # Views, so that one tensor given as two of the four has a gradient for each.
    leaf = x.view_as(x)
    w, b, r = (None if t is None else t.view_as(t) for t in (weight, bias, beside.residual))
    y = around(lambda safe: norm(safe, w, b), leaf, beside._replace(residual=r))
    inputs = [t if needed else None for t, needed in zip((leaf, w, b, r), wanted, strict=False)]
    found = iter(torch.autograd.grad(y, [t for t in inputs if t is not None], g, create_graph=True))
    return tuple(None if t is None else next(found) for t in inputs)
