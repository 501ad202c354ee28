"""Norms that divide by a scale of the distances |x - mu|: plain, and in closed form by the steps of norms/cells.py.

y = gamma (x - mu) / (s + eps) + beta, mu the mean of the channel, and s = f sum_i w_i |x_i - mu|: w_i = 1/n for all
values (L1), or 1/k for the k largest (top k; the largest alone is L-infinity). The gradient of s toward x_i is
f w_i sign(x_i - mu) less its mean. Of several values that are the k-th largest, as many count as make k.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from norms.beside import ALONE, Beside, masked
from norms.blocks import blocks
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
        beside: residual, relu, gate. Where the gate is shut mean and scale are zeros, and the L1 kernels sum nothing.
        kernel: a path of norms/dispatch.py.

    >>> scaled_norm(torch.tensor([[1.0], [3.0]]), None, None, factor=1.0, largest=None, eps=0.0).y.tolist()
    [[-1.0], [1.0]]
    """
    path = choose(x, kernel).path
    way = Way(factor, largest, eps, beside.relu)
    if beside.gate is not None and (path != "triton" or largest is not None):

        def norm(safe: Tensor) -> Scaled:
            return scaled_norm(safe, weight, bias, factor=factor, largest=largest, eps=eps, kernel=path)

        return Scaled(*masked(norm, x, beside))
    if path == "plain":
        return _plain(x, weight, bias, beside.residual, way)
    return Scaled(*_ScaledNorm.apply(x, weight, bias, beside.residual, beside.gate, way, path))  # type: ignore[no-untyped-call]  # torch has no types here


def mean_of_largest(distance: Tensor, largest: int | None) -> Tensor:
    """Return the mean of the `largest` values of each row, (C, values) to (C,); None: of all.

    >>> mean_of_largest(torch.tensor([[1.0, 5.0, 3.0]]), 2).item()
    4.0
    """
    if largest is None:
        return distance.mean(1)
    return distance.amax(1) if largest == 1 else distance.topk(largest, dim=1, sorted=False).values.mean(1)


def _plain(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, way: Way) -> Scaled:
    wide, dims = x.to(compute_dtype(x.dtype)), (0, *range(2, x.ndim))
    mean = average(wide, dims)
    rest = wide - mean
    if way.largest is None:
        distance = average(rest.abs(), dims)
    elif way.largest == 1:
        distance = rest.abs().amax(dims, keepdim=True)
    else:
        top = _largest(x.detach(), mean.detach(), way.largest, (slice(None),))
        distance = per_channel((wide[top] - mean.reshape(-1, 1)).abs().mean(1), x.ndim)
    scale = way.factor * distance
    y = rest / (scale + way.eps)
    y = y if weight is None else y * per_channel(weight.to(y.dtype), x.ndim)
    y = y if bias is None else y + per_channel(bias.to(y.dtype), x.ndim)
    y = Beside(residual, way.relu).behind(y)
    return Scaled(y.to(x.dtype), mean.detach().flatten(), scale.detach().flatten())


def _largest(x: Tensor, mean: Tensor, largest: int, parts: Iterable[slice]) -> tuple[Tensor, ...]:
    """Return where in x the largest distances of each channel are: a tensor for each axis, (C, k) or (C, 1).

    The k largest are in the k rows (along the last axis) with the largest maxima, so x is read once, a part of the
    samples at a time, and little is sorted: topk of all distances takes four times as long as all else together.
    """
    rows = torch.cat([_peaks((x[s].to(mean.dtype) - mean).abs()) for s in parts])
    sizes = (rows.shape[0], *rows.shape[2:])
    of_channel = rows.transpose(0, 1).flatten(1)
    chosen = of_channel.topk(min(largest, of_channel.shape[1]), dim=1, sorted=False).indices
    row = _unravel(chosen, sizes)
    channel = torch.arange(x.shape[1], device=x.device)[:, None]
    near = x[(row[0], channel, *row[1:])].flatten(1)
    best = (near.to(mean.dtype) - mean.reshape(-1, 1)).abs().topk(largest, dim=1, sorted=False).indices
    if x.ndim == 2:
        return row[0].gather(1, best), channel
    width = x.shape[-1]
    sample, *middle = (axis.gather(1, best // width) for axis in row)
    return sample, channel, *middle, best % width


def _peaks(distance: Tensor) -> Tensor:
    return distance if distance.ndim == 2 else distance.amax(-1)


def _unravel(index: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Return the place of a flat index along each axis."""
    found = []
    for size in reversed(sizes[1:]):
        found.append(index % size)
        index = index // size
    return [index, *reversed(found)]


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
        does, gated = steps(path), () if gate is None else (gate,)
        cells = does.moments(x, True, *gated)[0]
        mean = cells.mean(0, keepdim=True)
        centre = mean.expand_as(cells)
        top: tuple[Tensor, ...] = ()
        if way.largest is None:
            # sums over cells of the mean distances, and of the signs
            distance, signs = (v.sum(0, keepdim=True) for v in does.distances(x, centre, *gated))
            distance = distance / x.shape[0]
        else:
            top = _largest(x, mean, way.largest, blocks(x) if path == "blocks" else (slice(None),))
            rest = x[top].to(mean.dtype) - mean.reshape(-1, 1)
            distance, signs = (per_channel(v, x.ndim) for v in (rest.abs().mean(1), rest.sign().sum(1)))
        scale = way.factor * distance
        gain = 1 / (scale + way.eps)
        if weight is not None:
            gain = gain * per_channel(weight.to(mean.dtype), x.ndim)
        shift = torch.zeros_like(mean) if bias is None else per_channel(bias.to(mean.dtype), x.ndim)
        y = does.apply(x, centre, gain.expand_as(cells), shift.expand_as(cells), residual, way.relu, *gated)
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
            return (*_differentiable(wanted, x, weight, bias, residual, gate, way, g), None, None, None)
        does, gated = steps(ctx.path), () if gate is None else (gate,)
        shape = (*x.shape[:2], *mean.shape[2:])
        plain, along = (v.sum(0, keepdim=True) for v in does.sums(g, x, mean.expand(shape), y, *gated))
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
            dx = does.gradient(g, x, mean.expand(shape), gain, slope, shift, y, *gated, signs=True)
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


def _differentiable(
    wanted: tuple[bool, ...],
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    gate: Tensor | None,
    way: Way,
    g: Tensor,
) -> tuple[Tensor | None, ...]:
    """Return the gradients by autograd through `_plain`, so that they have gradients themselves."""
    four = [t if needed else None for t, needed in zip((x, weight, bias, residual), wanted, strict=False)]
    if gate is None:
        y = _plain(x, weight, bias, residual, way).y
    else:
        beside = Beside(residual, way.relu, gate)
        y = masked(lambda safe: _plain(safe, weight, bias, None, way._replace(relu=False)), x, beside)[0]
    found = iter(torch.autograd.grad(y, [t for t in four if t is not None], g, create_graph=True))
    return tuple(None if t is None else next(found) for t in four)
