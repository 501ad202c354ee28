"""Norms over pools of cells: forward and backward in two readings of the input each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from norms.beside import ALONE, Beside, gradients
from norms.dispatch import Path, choose, steps
from norms.pools import Pool, coefficients, slopes, standards
from norms.statistics import compute_dtype, copied, moments, per_channel

LARGE_SAMPLE = 2**16


class Way(NamedTuple):
    """What the norm does: over which pools, with eps, taking means off, a relu behind it."""

    pools: tuple[Pool, ...]
    eps: float
    centred: bool
    relu: bool


class Pooled(NamedTuple):
    """The normalized input, and mean and biased variance of each cell, (N, C, 1, ...), without a gradient."""

    y: Tensor
    mean: Tensor
    variance: Tensor


def pooled_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    pools: Sequence[Pool],
    *,
    eps: float,
    centred: bool = True,
    given: tuple[Tensor, Tensor] | None = None,
    beside: Beside = ALONE,
    kernel: str | None = None,
) -> Pooled:
    """Return gamma sum_k s_k (x - m_k) / sqrt(v_k + eps) + beta, with moments over pools.

    Forward x is read twice and y written once; backward x and its gradient are read twice and one is written.

    Args:
        x: shape (N, C, *), floating; any memory layout, which the result has too.
        weight: gamma of shape (C,), or None for 1.
        bias: beta of shape (C,), or None for 0.
        pools: see norms/pools.py; their sizes must divide N and C.
        eps: added to the variance.
        centred: False takes no mean off and divides by the root mean square.
        given: m_0 and s_0, (C,), add gamma s_0 (x - m_0): running statistics, without a gradient.
        beside: residual, relu and gate, for the path "triton" only, whose kernels do them in the same readings; where
            the gate is shut they sum nothing and the moments are zeros.
        kernel: a path of norms/dispatch.py; None: what it chooses.

    Source: the gradient of batch normalization, Ioffe & Szegedy, arXiv 1502.03167, section 3, pool by pool.

    >>> x = torch.tensor([[1.0, 5.0], [3.0, 9.0]])
    >>> pooled_norm(x, None, None, (Pool(None, 1),), eps=0.0).y.tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """
    path = choose(x, kernel, pools=True).path
    assert path == "triton" or beside.nothing
    way = Way(tuple(pools), eps, centred, beside.relu)
    m0, s0 = (None, None) if given is None else (per_channel(v.to(compute_dtype(x.dtype)), x.ndim) for v in given)
    if path == "plain":
        return _plain(x, weight, bias, m0, s0, way)
    y, mean, variance = _PooledNorm.apply(  # type: ignore[no-untyped-call]  # torch has no types here
        x, weight, bias, beside.residual, m0, s0, beside.gate, way, path
    )
    return Pooled(y, mean, variance)


@torch.no_grad()
def cell_moments(x: Tensor, kernel: str | None = None) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each cell, (N, C, 1, ...), without a gradient."""
    path = choose(x, kernel).path
    if path == "plain":
        return moments(x.to(compute_dtype(x.dtype)), tuple(range(2, x.ndim)))
    found: tuple[Tensor, Tensor] = steps(path).moments(x, True)
    return found


def _plain(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    m0: Tensor | None,
    s0: Tensor | None,
    way: Way,
) -> Pooled:
    """The same under autograd, exact to any order. A compiler makes of it what `_PooledNorm` does by hand.

    x is centred by a constant close to its mean: were the constant the mean itself, its gradient, which is zero,
    would cost a compiler two more readings.
    """
    wide, dims = x.to(compute_dtype(x.dtype)), tuple(range(2, x.ndim))
    if not dims:
        return _of_rows(x, wide, weight, bias, m0, s0, way)
    centre = wide.detach().mean(dims, keepdim=True)
    if not way.centred:
        centre = torch.zeros_like(centre)
    rest = wide - centre
    error = rest.mean(dims, keepdim=True) if way.centred else torch.zeros_like(centre)
    mean, variance = centre + error, rest.square().mean(dims, keepdim=True) - error.square()
    rest = rest - error
    apart = _keep_apart(x, way.pools)
    if apart:
        mean, variance = copied(mean), copied(variance)
    scale, shift = coefficients(standards(mean, variance, way.pools, way.eps), way.pools, mean, m0, s0)
    scale, shift = _affine(scale, shift, weight, bias)
    if apart:
        scale, shift = copied(scale), copied(shift)
    return Pooled(torch.addcmul(shift, rest, scale).to(x.dtype), mean.detach(), variance.detach())


def _keep_apart(x: Tensor, pools: Sequence[Pool]) -> bool:
    """Return whether a compiler is to be kept from fusing what is done on cells with what is done on values.

    Of groups of channels it would work out the coefficients anew for each value, and where channels are what lies
    together in memory, value by value: batch/group norm in channels_last took three times as long. A copy costs some
    20 us, so small samples go without.
    """
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting() or x.stride(1) != 1:
        return False
    grouped = any(pool.channels not in (None, 1, x.shape[1]) for pool in pools)
    return grouped and x.shape[1:].numel() >= LARGE_SAMPLE


def _of_rows(
    x: Tensor,
    wide: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    m0: Tensor | None,
    s0: Tensor | None,
    way: Way,
) -> Pooled:
    """The same of x (N, C), whose cells are single values: coefficients of each would cost more than the norm."""
    y = None if m0 is None or s0 is None else (wide - m0) * s0
    for pool in way.pools:
        rest = pool.split(wide)
        rest = rest - rest.mean((1, 3), keepdim=True) if way.centred else rest
        inverse = torch.rsqrt(rest.square().mean((1, 3), keepdim=True) + way.eps)
        part = (rest * (inverse * pool.share)).reshape(x.shape)
        y = part if y is None else y + part
    assert y is not None
    if weight is not None:
        y = y * weight.to(y.dtype)
    if bias is not None:
        y = y + bias.to(y.dtype)
    cells, zeros = wide.detach(), torch.zeros_like(wide)
    return Pooled(y.to(x.dtype), *((cells, zeros) if way.centred else (zeros, cells.square())))


def _affine(scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    if weight is not None:
        gamma = per_channel(weight.to(scale.dtype), scale.ndim)
        scale, shift = scale * gamma, shift * gamma
    return scale, shift if bias is None else shift + per_channel(bias.to(shift.dtype), shift.ndim)


class _PooledNorm(torch.autograd.Function):
    """The closed form. A gradient that is itself to be differentiated is taken from `_plain` instead."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        m0: Tensor | None,
        s0: Tensor | None,
        gate: Tensor | None,
        way: Way,
        path: Path,
    ) -> tuple[Tensor, Tensor, Tensor]:
        does, kernels = steps(path), path == "triton"
        mean, variance = does.moments(x, way.centred, *((gate,) if kernels else ()))
        scale, shift = coefficients(standards(mean, variance, way.pools, way.eps), way.pools, mean, m0, s0)
        scale, shift = _affine(scale, shift, weight, bias)
        y = does.apply(x, mean, scale, shift, *((residual, way.relu, gate) if kernels else ()))
        ctx.save_for_backward(x, weight, bias, residual, m0, s0, gate, mean, variance, y if way.relu else None)
        ctx.way, ctx.path = way, path
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 9
        x, weight, bias, residual, m0, s0, gate, mean, variance, y = ctx.saved_tensors
        way, wanted = ctx.way, ctx.needs_input_grad
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            beside = Beside(residual, way.relu, gate)
            found = gradients(lambda a, w, b: _plain(a, w, b, m0, s0, way).y, x, weight, bias, beside, wanted, g)
            return (*found, None, None, None, None, None)
        does, behind = steps(ctx.path), (y, gate) if ctx.path == "triton" else ()
        standard = standards(mean, variance, way.pools, way.eps)
        scale, shift = coefficients(standard, way.pools, mean, m0, s0)
        plain, along = does.sums(g, x, mean, *behind)
        dims = (0, *range(2, x.ndim))
        dx = dweight = dbias = dresidual = None
        if weight is not None and wanted[1]:
            dweight = (scale * along + shift * plain).sum(dims).to(weight.dtype)
            if gate is not None:  # with eps = 0 the scale of a shut gate is infinite
                dweight = torch.where(gate, dweight, 0.0)
        if bias is not None and wanted[2]:
            dbias = plain.sum(dims).to(bias.dtype)
        if wanted[0]:
            if weight is not None:
                gamma = per_channel(weight.to(mean.dtype), x.ndim)
                scale, plain, along = scale * gamma, plain * gamma, along * gamma
            slope, offset = slopes(standard, way.pools, plain, along, x.shape[2:].numel(), way.centred)
            dx = does.gradient(g, x, mean, scale, slope, offset, *behind)
        if residual is not None and wanted[3]:
            dresidual = (g if y is None else torch.where(y > 0, g, 0.0)).to(residual.dtype)
        return (dx, dweight, dbias, dresidual, None, None, None, None, None)
