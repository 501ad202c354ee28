"""Norms that divide by a scale of the distances |x - mu|: plain, and in closed form by the steps of norms/blocks.py.

y = gamma (x - mu) / (s + eps) + beta, mu the mean of the channel, and s = f sum_i w_i |x_i - mu|: w_i = 1/n for all
values (L1), or 1/k for the k largest (top k; the largest alone is L-infinity). The gradient of s toward x_i is
f w_i sign(x_i - mu) less its mean. Of several values that are the k-th largest, as many count as make k;
only the plain path shares the gradient of equal maxima among them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from norms.beside import ALONE, Beside, gradients
from norms.dispatch import Path, choose, steps
from norms.statistics import average, compute_dtype, per_channel


class Scaled(NamedTuple):
    """The normalized input, and mean and scale of each channel, (C,), without a gradient."""

    y: Tensor
    mean: Tensor
    scale: Tensor


class Way(NamedTuple):
    """What the norm does: f, k (None: all), eps, a relu behind it."""

    factor: float | Tensor
    largest: int | None
    eps: float
    relu: bool


def scaled_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    factor: float | Tensor,
    largest: int | None,
    eps: float,
    beside: Beside = ALONE,
    kernel: str | None = None,
) -> Scaled:
    """Return gamma (x - mu) / (s + eps) + beta with s = factor times the mean of the `largest` distances.

    Args:
        x: shape (N, C, *).
        weight: gamma of shape (C,), or None for 1.
        bias: beta of shape (C,), or None for 0.
        factor: f; a tensor has no gradient.
        largest: k; None: all distances.
        eps: added to s.
        beside: residual, relu and gate, for the path "triton" only, whose kernels do them in the same readings; a gate
            with all distances only: where it is shut they sum nothing, and mean and scale are zeros.
        kernel: a path of norms/dispatch.py.

    >>> scaled_norm(torch.tensor([[1.0], [3.0]]), None, None, factor=1.0, largest=None, eps=0.0).y.tolist()
    [[-1.0], [1.0]]
    """
    path = choose(x, kernel).path
    assert path == "triton" or beside.nothing
    assert largest is None or beside.gate is None
    way = Way(factor, largest, eps, beside.relu)
    if path == "plain":
        return _plain(x, weight, bias, way)
    return Scaled(*_ScaledNorm.apply(x, weight, bias, beside.residual, beside.gate, way, path))  # type: ignore[no-untyped-call]  # torch has no types here


def mean_of_largest(distance: Tensor, largest: int | None) -> Tensor:
    """Return the mean of the `largest` values of each row, (C, values) to (C,); None: of all.

    >>> mean_of_largest(torch.tensor([[1.0, 5.0, 3.0]]), 2).item()
    4.0
    """
    if largest is None:
        return distance.mean(1)
    return distance.amax(1) if largest == 1 else distance.topk(largest, dim=1, sorted=False).values.mean(1)


def _plain(x: Tensor, weight: Tensor | None, bias: Tensor | None, way: Way) -> Scaled:
    dims = (0, *range(2, x.ndim))
    picks = torch.compiler.is_compiling() and not torch.compiler.is_exporting() and (way.largest or 1) > 1
    if picks:
        start = x.detach()
        top = _largest(start, average(start.to(compute_dtype(x.dtype)), dims), cast(int, way.largest))
        x, picked = _Picked.apply(x, *top)  # type: ignore[no-untyped-call]  # torch has no types here
    wide = x.to(compute_dtype(x.dtype))
    mean = average(wide, dims)
    rest = wide - mean
    if way.largest is None:
        distance = average(rest.abs(), dims)
    elif way.largest == 1:
        distance = rest.abs().amax(dims, keepdim=True)
    else:
        if not picks:
            picked = wide[_largest(x.detach(), mean.detach(), way.largest)]
        distance = per_channel((picked.to(wide.dtype) - mean.reshape(-1, 1)).abs().mean(1), x.ndim)
    scale = way.factor * distance
    y = rest / (scale + way.eps)
    y = y if weight is None else y * per_channel(weight.to(y.dtype), x.ndim)
    y = y if bias is None else y + per_channel(bias.to(y.dtype), x.ndim)
    return Scaled(y.to(x.dtype), mean.detach().flatten(), scale.detach().flatten())


class _Picked(torch.autograd.Function):
    """x, and its values at `top`, whose gradients are added to that of x where it lies.

    A compiler would fill a tensor with zeros, write them into it and add the two.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *top: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*top)
        return x.view_as(x), x[top]

    @staticmethod
    def backward(ctx: Any, g: Tensor, of_picked: Tensor) -> tuple[Tensor | None, ...]:
        top = ctx.saved_tensors
        return (g.index_put(top, of_picked, accumulate=True), *(None for _ in top))


def _largest(x: Tensor, mean: Tensor, largest: int) -> tuple[Tensor, ...]:
    """Return where in x the largest distances of each channel are: a tensor for each axis, (C, k) or (C, 1).

    The k largest are in the k cells with the largest peaks, and a peak is that of the cell's extremes, so x is read
    as it is and little is sorted: topk of all distances takes longer than all else together, and maxima along the
    last axis eight times as long as those of cells.
    """
    dims, centre = tuple(range(2, x.ndim)), mean.reshape(1, -1)
    high, low = (x.amax(dims), x.amin(dims)) if dims else (x, x)
    peaks = torch.maximum(high - centre, centre - low).transpose(0, 1).contiguous()
    cell = peaks.topk(min(largest, x.shape[0]), dim=1, sorted=False).indices
    channel = torch.arange(x.shape[1], device=x.device)[:, None]
    near = x[cell, channel].flatten(1)
    best = (near.to(mean.dtype) - mean.reshape(-1, 1)).abs().topk(largest, dim=1, sorted=False).indices
    positions = x.shape[2:].numel()
    return cell.gather(1, best // positions), channel, *_unravel(best % positions, x.shape[2:])


def _unravel(index: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the place of a flat index along each axis."""
    found = []
    for size in reversed(sizes):
        found.append(index % size)
        index = index // size
    return found[::-1]


class _ScaledNorm(torch.autograd.Function):
    """The closed form. A gradient that is itself to be differentiated is taken from `_plain` instead."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        gate: Tensor | None,
        way: Way,
        path: Path,
    ) -> tuple[Tensor, Tensor, Tensor]:
        does, kernels = steps(path), path == "triton"
        gated = (gate,) if kernels else ()
        cells = does.means(x, *gated)
        mean = cells.mean(0, keepdim=True)
        centre = mean.expand_as(cells)
        top: tuple[Tensor, ...] = ()
        if way.largest is None:
            # sums over cells of the mean distances, and of the signs
            distance, signs = (v.sum(0, keepdim=True) for v in does.distances(x, centre, *gated))
            distance = distance / x.shape[0]
        else:
            top = _largest(x, mean, way.largest)
            rest = x[top].to(mean.dtype) - mean.reshape(-1, 1)
            distance, signs = (per_channel(v, x.ndim) for v in (rest.abs().mean(1), rest.sign().sum(1)))
        scale = way.factor * distance
        gain = 1 / (scale + way.eps)
        if weight is not None:
            gain = gain * per_channel(weight.to(mean.dtype), x.ndim)
        shift = torch.zeros_like(mean) if bias is None else per_channel(bias.to(mean.dtype), x.ndim)
        beside = (residual, way.relu, gate) if kernels else ()
        y = does.apply(x, centre, gain.expand_as(cells), shift.expand_as(cells), *beside)
        behind = y if way.relu else None
        ctx.save_for_backward(x, weight, bias, residual, gate, mean, scale, signs, behind, *top)
        ctx.way, ctx.path = way, path
        ctx.mark_non_differentiable(mean, scale)
        return y, mean.flatten(), scale.flatten()

    @staticmethod
    def backward(ctx: Any, g: Tensor, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, residual, gate, mean, scale, signs, y, *top = ctx.saved_tensors
        way, wanted = ctx.way, ctx.needs_input_grad
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            behind = Beside(residual, way.relu, gate)
            found = gradients(lambda a, w, b: _plain(a, w, b, way).y, x, weight, bias, behind, wanted, g)
            return (*found, None, None, None)
        does, beside = steps(ctx.path), (y, gate) if ctx.path == "triton" else ()
        shape = (*x.shape[:2], *mean.shape[2:])
        plain, along = (v.sum(0, keepdim=True) for v in does.sums(g, x, mean.expand(shape), *beside))
        inverse = 1 / (scale + way.eps)
        dx = dweight = dbias = dresidual = None
        if weight is not None and wanted[1]:
            dweight = (along * inverse).flatten().to(weight.dtype)
            if gate is not None:  # with eps = 0 the inverse of a shut gate is infinite
                dweight = torch.where(gate, dweight, 0.0)
        if bias is not None and wanted[2]:
            dbias = plain.flatten().to(bias.dtype)
        if wanted[0]:
            gamma = 1.0 if weight is None else per_channel(weight.to(mean.dtype), x.ndim)
            values = x.shape[0] * x.shape[2:].numel()
            pull = -gamma * along * inverse.square() * (way.factor / (way.largest or values))
            shift = -(gamma * inverse * plain + pull * signs) / values
            gain, pull, shift = ((v * torch.ones_like(mean)).expand(shape) for v in (gamma * inverse, pull, shift))
            slope = pull if way.largest is None else torch.zeros_like(pull)
            dx = does.gradient(g, x, mean.expand(shape), gain, slope, shift, *beside, signs=True)
            if top:
                _pull(dx, g, x, mean, gain, pull, shift, y, tuple(top))
        if residual is not None and wanted[3]:
            dresidual = (g if y is None else torch.where(y > 0, g, 0.0)).to(residual.dtype)
        return dx, dweight, dbias, dresidual, None, None, None


def _pull(
    dx: Tensor,
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    gain: Tensor,
    pull: Tensor,
    shift: Tensor,
    y: Tensor | None,
    top: tuple[Tensor, ...],
) -> None:
    """Write the gradients of the largest values, gain g + pull sign(x - mean) + shift, into dx."""
    per_row = [v[0].reshape(-1, 1) for v in (mean, gain, pull, shift)]
    at = g[top] if y is None else torch.where(y[top] > 0, g[top], 0.0)
    sign = (x[top].to(mean.dtype) - per_row[0]).sign()
    dx[top] = (per_row[1] * at + per_row[2] * sign + per_row[3]).to(dx.dtype)
