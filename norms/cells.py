"""What is done to whole tensors, cell by cell: a cell is the values of one sample and channel.

Four steps that read or write x, and nothing else does: moments and apply on the way forward, sums and gradient on the
way back. Everything between them happens on tensors of one value a cell (norms/pools.py). Shapes: x (N, C, *), in any
memory layout; what belongs to cells (N, C, 1, ...), in at least float32.
"""

import torch
from torch import Tensor

from norms.statistics import compute_dtype


def moments(x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each cell; not centred: zeros and the mean square.

    >>> mean, variance = moments(torch.tensor([[[1.0, 3.0], [5.0, 5.0]]]), True)
    >>> mean.flatten().tolist(), variance.flatten().tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    dims = tuple(range(2, x.ndim))
    wide = x.to(compute_dtype(x.dtype))
    if not centred:
        squares = wide.square()
        second = squares.mean(dims, keepdim=True) if dims else squares
        return torch.zeros_like(second), second
    if not dims:
        return wide, torch.zeros_like(wide)
    mean = wide.mean(dims, keepdim=True)
    return mean, (wide - mean).square().mean(dims, keepdim=True)


def apply(
    x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None = None, relu: bool = False
) -> Tensor:
    """Return scale (x - mean) + shift (+ residual), then relu where asked for, in the dtype of x."""
    y = torch.addcmul(shift, x - mean, scale)
    if residual is not None:
        y = y + residual
    return (y.relu() if relu else y).to(x.dtype)


def distances(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each cell the mean of |x - mean|, and the sum of the signs of x - mean.

    >>> far, signs = distances(torch.tensor([[[1.0, 4.0, 8.0, 9.0]]]), torch.full((1, 1, 1), 4.0))
    >>> far.item(), signs.item()
    (3.0, 1.0)
    """
    dims, rest = tuple(range(2, x.ndim)), x - mean
    far, signs = rest.abs(), rest.sign()
    return (far.mean(dims, keepdim=True), signs.sum(dims, keepdim=True)) if dims else (far, signs)


def sums(g: Tensor, x: Tensor, mean: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return for each cell the sums of g and of g (x - mean); with y, the output of a relu, where y > 0 alone."""
    dims = tuple(range(2, x.ndim))
    wide = _behind_relu(g.to(mean.dtype), y)
    product = wide * (x - mean)
    return (wide.sum(dims, keepdim=True), product.sum(dims, keepdim=True)) if dims else (wide, product)


def gradient(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    slope: Tensor,
    shift: Tensor,
    y: Tensor | None,
    *,
    signs: bool = False,
) -> Tensor:
    """Return scale g + slope (x - mean) + shift in the dtype of x; with y, g where y > 0 alone.

    signs: take the sign of x - mean instead.
    """
    wide, rest = _behind_relu(g.to(mean.dtype), y), x - mean
    rest = rest.sign() if signs else rest
    return torch.addcmul(torch.addcmul(shift, rest, slope), wide, scale).to(x.dtype)


def _behind_relu(g: Tensor, y: Tensor | None) -> Tensor:
    return g if y is None else torch.where(y > 0, g, 0.0)
