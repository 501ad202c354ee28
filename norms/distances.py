"""Norms that divide by a scale of the distances |x - mu|: plain, and on a CPU in closed form, block by block.

y = gamma (x - mu) / (s + eps) + beta, mu the mean of the channel, and s = f sum_i w_i |x_i - mu|: w_i = 1/n for all
values (L1), or 1/k for the k largest (top k; the largest alone is L-infinity). The gradient of s toward x_i is
f w_i sign(x_i - mu) less its mean. Where several values are the k-th largest they share what is left of the weight.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from norms.blocks import apply, blocks, moments, sums
from norms.dispatch import choose
from norms.statistics import average, compute_dtype, per_channel


class Scaled(NamedTuple):
    """The normalized input, and mean and scale of each channel, (C,), without a gradient."""

    y: Tensor
    mean: Tensor
    scale: Tensor


def scaled_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    factor: float | Tensor,
    largest: int | None,
    eps: float,
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
        kernel: a path of norms/dispatch.py; there is no Triton kernel, "triton" takes the plain path.

    >>> scaled_norm(torch.tensor([[1.0], [3.0]]), None, None, factor=1.0, largest=None, eps=0.0).y.tolist()
    [[-1.0], [1.0]]
    """
    if choose(x, kernel).path != "blocks":
        return _plain(x, weight, bias, factor, largest, eps)
    y, mean, scale = _ScaledNorm.apply(x, weight, bias, factor, largest, eps)  # type: ignore[no-untyped-call]  # torch has no types here
    return Scaled(y, mean, scale)


def mean_of_largest(distance: Tensor, largest: int | None) -> Tensor:
    """Return the mean of the `largest` values of each row, (C, values) to (C,); None: of all.

    >>> mean_of_largest(torch.tensor([[1.0, 5.0, 3.0]]), 2).item()
    4.0
    """
    if largest is None:
        return distance.mean(1)
    return distance.amax(1) if largest == 1 else distance.topk(largest, dim=1, sorted=False).values.mean(1)


def _plain(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, factor: float | Tensor, largest: int | None, eps: float
) -> Scaled:
    wide, dims = x.to(compute_dtype(x.dtype)), (0, *range(2, x.ndim))
    mean = average(wide, dims)
    rest = wide - mean
    distance = rest.abs()
    if largest is None:
        scale = average(distance, dims)
    elif largest == 1:
        scale = distance.amax(dims, keepdim=True)
    else:
        cells = distance.reshape(*distance.shape[:2], -1)
        if cells.shape[2] > largest:  # the largest of a channel are among the largest of its cells
            cells = cells.topk(largest, dim=2, sorted=False).values
        scale = per_channel(mean_of_largest(cells.transpose(0, 1).flatten(1), largest), x.ndim)
    scale = factor * scale
    y = rest / (scale + eps)
    y = y if weight is None else y * per_channel(weight.to(y.dtype), x.ndim)
    y = y if bias is None else y + per_channel(bias.to(y.dtype), x.ndim)
    return Scaled(y.to(x.dtype), mean.detach().flatten(), scale.detach().flatten())


class _ScaledNorm(torch.autograd.Function):
    """The closed form. A gradient that is itself to be differentiated is taken from `_plain` instead."""

    @staticmethod
    def backward(ctx: Any, g: Tensor, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale, threshold = ctx.saved_tensors
        if torch.is_grad_enabled():
            inputs = [t if n else None for t, n in zip((x, weight, bias), ctx.needs_input_grad, strict=False)]
            y = _plain(x, weight, bias, ctx.factor, ctx.largest, ctx.eps).y
            found = iter(torch.autograd.grad(y, [t for t in inputs if t is not None], g, create_graph=True))
            return (*(None if t is None else next(found) for t in inputs), None, None, None)
        cells = mean.expand(x.shape[0], *mean.shape[1:])
        plain, along = (v.sum(0, keepdim=True) for v in sums(g, x, cells, None))
        inverse = 1 / (scale + ctx.eps)
        dx = dweight = dbias = None
        if weight is not None and ctx.needs_input_grad[1]:
            dweight = (along * inverse).flatten().to(weight.dtype)
        if bias is not None and ctx.needs_input_grad[2]:
            dbias = plain.flatten().to(bias.dtype)
        if ctx.needs_input_grad[0]:
            gamma = 1.0 if weight is None else per_channel(weight.to(mean.dtype), x.ndim)
            values = x.shape[0] * x.shape[2:].numel()
            pull = -gamma * along * inverse.square() * (ctx.factor / (ctx.largest or values))
            tied, signs = _shares(x, mean, threshold, ctx.largest)
            shift = -(gamma * inverse * plain + pull * signs) / values
            dx = _gradient(g, x, mean, gamma * inverse, pull, shift, threshold, tied)
        return dx, dweight, dbias, None, None, None

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        factor: float | Tensor,
        largest: int | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = moments(x, True)[0].mean(0, keepdim=True)
        distance, threshold = _reduced(x, mean, largest)
        scale = factor * distance
        gain = 1 / (scale + eps)
        if weight is not None:
            gain = gain * per_channel(weight.to(mean.dtype), x.ndim)
        shift = torch.zeros_like(mean) if bias is None else per_channel(bias.to(mean.dtype), x.ndim)
        centre, gain, shift = (v.expand(x.shape[0], *mean.shape[1:]) for v in (mean, gain, shift))
        y = apply(x, centre, gain, shift)
        ctx.save_for_backward(x, weight, bias, mean, scale, threshold)
        ctx.factor, ctx.largest, ctx.eps = factor, largest, eps
        ctx.mark_non_differentiable(mean, scale)
        return y, mean.flatten(), scale.flatten()


def _reduced(x: Tensor, mean: Tensor, largest: int | None) -> tuple[Tensor, Tensor | None]:
    """Return for each channel, (1, C, 1, ...), the mean of its largest distances, and the smallest of these."""
    dims, found = tuple(range(2, x.ndim)), []
    for s in blocks(x):
        distance = (x[s].to(mean.dtype) - mean).abs()
        if largest is None:
            found.append(distance.mean(dims, keepdim=True) if dims else distance)
        else:
            flat = distance.reshape(*distance.shape[:2], -1)
            found.append(flat.amax(2, keepdim=True) if largest == 1 else flat.topk(min(largest, flat.shape[2])).values)
    every = torch.cat(found)
    if largest is None:
        return every.mean(0, keepdim=True), None
    top = every.transpose(0, 1).flatten(1).topk(largest, dim=1).values
    return per_channel(top.mean(1), x.ndim), per_channel(top[:, -1], x.ndim)


def _shares(x: Tensor, mean: Tensor, threshold: Tensor | None, largest: int | None) -> tuple[Tensor | None, Tensor]:
    """Return the weight of a distance at the threshold, and the sum of the weighed signs, both (1, C, 1, ...)."""
    dims = (0, *range(2, x.ndim))
    signs = above = tied = tied_signs = torch.zeros_like(mean)
    for s in blocks(x):
        rest = x[s].to(mean.dtype) - mean
        sign = rest.sign()
        if threshold is None:
            signs = signs + sign.sum(dims, keepdim=True)
            continue
        distance = rest.abs_()
        over, at = distance > threshold, distance == threshold
        above, tied = above + over.sum(dims, keepdim=True), tied + at.sum(dims, keepdim=True)
        signs = signs + (sign * over).sum(dims, keepdim=True)
        tied_signs = tied_signs + (sign * at).sum(dims, keepdim=True)
    if threshold is None or largest is None:
        return None, signs
    share = (largest - above) / tied
    return share, signs + share * tied_signs


def _gradient(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    pull: Tensor,
    shift: Tensor,
    threshold: Tensor | None,
    tied: Tensor | None,
) -> Tensor:
    """Return scale g + pull w sign(x - mean) + shift, w the weight of the distance."""
    dx = torch.empty_like(x)
    for s in blocks(x):
        rest = x[s].to(compute_dtype(x.dtype)) - mean
        sign = rest.sign()
        if threshold is not None and tied is not None:
            distance = rest.abs_()
            sign.mul_((distance > threshold) + (distance == threshold) * tied)
        dx[s] = torch.addcmul(shift, sign, pull).addcmul_(g[s].to(sign.dtype), scale)
    return dx
