"""The steps of norms/blocks.py as torch operators that launch Triton programs, with what is done beside a norm.

All are functional: statistics are returned, buffers are updated outside. Shapes and fake versions make them visible to
torch.compile and torch.export; `cell_moments` and `cell_apply` have gradients of their own for use there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from norms.errors import InputError
from norms.kernels.launch import Launch, View, launch, view
from norms.kernels.programs import apply_program, distances_program, gradient_program, moments_program, sums_program


@torch.library.custom_op("normgauge::cell_moments", mutates_args=())
def cell_moments(x: Tensor, centred: bool, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each cell, (N, C), float32; where `gate` is false, zeros."""
    seen = _view(x)
    how = launch(seen)
    span = _span(seen, how)
    parts = _divide(seen.positions, span)
    mean = torch.empty((parts, seen.samples, seen.channels), dtype=torch.float32, device=x.device)
    m2 = torch.empty_like(mean)
    _run(
        moments_program, seen, how, parts, (x, mean, m2, x if gate is None else gate), span,
        CENTRED=centred, GATED=gate is not None,
    )  # fmt: skip
    if parts == 1:
        return mean[0], m2[0] / seen.positions
    ends = torch.arange(1, parts + 1, device=x.device).mul_(span).clamp_(max=seen.positions)
    counts = torch.diff(ends, prepend=ends.new_zeros(1)).to(torch.float32)[:, None, None]
    whole = (mean * counts).sum(0) / seen.positions
    spread = (mean - whole).square() * counts if centred else torch.zeros_like(m2)
    return whole, (m2 + spread).sum(0) / seen.positions


@torch.library.custom_op("normgauge::cell_apply", mutates_args=())
def cell_apply(
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None = None,
    relu: bool = False,
    gate: Tensor | None = None,
) -> Tensor:
    """Return scale (x - mean) + shift, or x where `gate` is false, plus residual, then relu; statistics are (N, C)."""
    seen = _view(x)
    how = launch(seen)
    y = torch.empty_like(x)
    beside = x if residual is None else _alike(residual, y)
    _run(
        apply_program, seen, how, _divide(seen.positions, how.positions),
        (x, y, beside, mean, scale, shift, x if gate is None else gate), None, y,
        RESIDUAL=residual is not None, RELU=relu, GATED=gate is not None,
    )  # fmt: skip
    return y


@torch.library.custom_op("normgauge::cell_sums", mutates_args=())
def cell_sums(
    g: Tensor, x: Tensor, mean: Tensor, y: Tensor | None = None, gate: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return for each cell, (N, C), the sums of g and g (x - mean), where y > 0; zeros where `gate` is false."""
    seen = _view(x)
    how = launch(seen)
    span = _span(seen, how)
    parts = _divide(seen.positions, span)
    plain = torch.empty((parts, seen.samples, seen.channels), dtype=torch.float32, device=x.device)
    along = torch.empty_like(plain)
    like = torch.empty_like(x, device="meta")
    _run(
        sums_program, seen, how, parts,
        (_alike(g, like), x, x if y is None else y, mean, plain, along, x if gate is None else gate), span, like,
        RELU=y is not None, GATED=gate is not None,
    )  # fmt: skip
    return plain.sum(0), along.sum(0)


@torch.library.custom_op("normgauge::cell_gradient", mutates_args=())
def cell_gradient(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    slope: Tensor,
    shift: Tensor,
    y: Tensor | None = None,
    gate: Tensor | None = None,
    signs: bool = False,
) -> Tensor:
    """Return scale g + slope (x - mean) + shift, or g where `gate` is false; with y, g where y > 0 alone.

    signs: take the sign of x - mean instead.
    """
    seen = _view(x)
    how = launch(seen)
    dx = torch.empty_like(x)
    _run(
        gradient_program, seen, how, _divide(seen.positions, how.positions),
        (_alike(g, dx), x, x if y is None else y, dx, mean, scale, slope, shift, x if gate is None else gate), None, dx,
        RELU=y is not None, GATED=gate is not None, SIGNS=signs,
    )  # fmt: skip
    return dx


@torch.library.custom_op("normgauge::cell_distances", mutates_args=())
def cell_distances(x: Tensor, mean: Tensor, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return for each cell, (N, C), the mean of |x - mean| and the sum of its signs; zeros where `gate` is false."""
    seen = _view(x)
    how = launch(seen)
    span = _span(seen, how)
    parts = _divide(seen.positions, span)
    far = torch.empty((parts, seen.samples, seen.channels), dtype=torch.float32, device=x.device)
    signs = torch.empty_like(far)
    _run(
        distances_program, seen, how, parts, (x, mean, far, signs, x if gate is None else gate), span,
        GATED=gate is not None,
    )  # fmt: skip
    return far.sum(0) / seen.positions, signs.sum(0)


@cell_moments.register_fake
def _(x: Tensor, centred: bool, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    shape = x.shape[:2]
    return x.new_empty(shape, dtype=torch.float32), x.new_empty(shape, dtype=torch.float32)


@cell_apply.register_fake
def _(x: Tensor, *unused: Any) -> Tensor:
    return torch.empty_like(x)


@cell_sums.register_fake
def _(g: Tensor, x: Tensor, mean: Tensor, y: Tensor | None = None, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(mean), torch.empty_like(mean)


@cell_distances.register_fake
def _(x: Tensor, mean: Tensor, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(mean), torch.empty_like(mean)


@cell_gradient.register_fake
def _(g: Tensor, x: Tensor, *unused: Any) -> Tensor:
    return torch.empty_like(x)


def _keep_moments(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.centred, gate = inputs
    ctx.save_for_backward(x, output[0], gate)


def _moments_backward(ctx: Any, dmean: Tensor, dvariance: Tensor) -> tuple[Tensor | None, ...]:
    """d mean = 1/P and d variance = 2 (x - mean) / P at each value; nothing where the gate is false."""
    x, mean, gate = ctx.saved_tensors
    positions = x.shape[2:].numel()
    slope = dvariance * (2 / positions)
    shift = dmean / positions if ctx.centred else torch.zeros_like(dmean)
    if gate is not None:
        slope, shift = (torch.where(gate, v, 0.0) for v in (slope, shift))
    zero = torch.zeros_like(mean)
    return cell_gradient(torch.zeros_like(x), x, mean, zero, slope, shift), None, None


def _keep_apply(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mean, scale, _shift, residual, relu, gate = inputs
    ctx.has_residual = residual is not None
    ctx.save_for_backward(x, mean, scale, output if relu else None, gate)


def _apply_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, mean, scale, y, gate = ctx.saved_tensors
    plain, along = cell_sums(g, x, mean, y, gate)
    zero = torch.zeros_like(mean)
    dx = cell_gradient(g, x, mean, scale, zero, zero, y, gate)
    dresidual = None
    if ctx.has_residual:
        dresidual = g if y is None else torch.where(y > 0, g, 0.0)
    return dx, -scale * plain, along, plain, dresidual, None, None


def _keep_distances(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, mean, gate = inputs
    ctx.save_for_backward(x, mean, output[1], gate)


def _distances_backward(ctx: Any, dfar: Tensor, unused: Tensor) -> tuple[Tensor | None, ...]:
    """d |x - mean| = sign(x - mean) at each value; nothing where the gate is false, whose signs are zeros."""
    x, mean, signs, gate = ctx.saved_tensors
    slope = dfar / x.shape[2:].numel()
    if gate is not None:
        slope = torch.where(gate, slope, 0.0)
    zero = torch.zeros_like(mean)
    return cell_gradient(torch.zeros_like(x), x, mean, zero, slope, zero, signs=True), -slope * signs, None


cell_distances.register_autograd(_distances_backward, setup_context=_keep_distances)
cell_moments.register_autograd(_moments_backward, setup_context=_keep_moments)
cell_apply.register_autograd(_apply_backward, setup_context=_keep_apply)
# autocast: none, since every operator computes in float32 whatever comes and returns the dtype of x


def moments(x: Tensor, centred: bool, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See cell_moments; results are (N, C, 1, ...)."""
    mean, variance = cell_moments(x, centred, gate)
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
    return mean.reshape(shape), variance.reshape(shape)


def means(x: Tensor, gate: Tensor | None = None) -> Tensor:
    """Return the mean of each cell, (N, C, 1, ...)."""
    return moments(x, True, gate)[0]


def apply(
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None = None,
    relu: bool = False,
    gate: Tensor | None = None,
) -> Tensor:
    """See cell_apply; statistics are (N, C, 1, ...)."""
    y: Tensor = cell_apply(x, *map(_flat, (mean, scale, shift)), residual, relu, gate)
    return y


def sums(g: Tensor, x: Tensor, mean: Tensor, y: Tensor | None, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See cell_sums; results are (N, C, 1, ...)."""
    plain, along = cell_sums(g, x, _flat(mean), y, gate)
    return plain.reshape(mean.shape), along.reshape(mean.shape)


def distances(x: Tensor, mean: Tensor, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See cell_distances; results are (N, C, 1, ...)."""
    far, signs = cell_distances(x, _flat(mean), gate)
    return far.reshape(mean.shape), signs.reshape(mean.shape)


def gradient(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    slope: Tensor,
    shift: Tensor,
    y: Tensor | None,
    gate: Tensor | None = None,
    *,
    signs: bool = False,
) -> Tensor:
    """See cell_gradient; statistics are (N, C, 1, ...)."""
    dx: Tensor = cell_gradient(g, x, *map(_flat, (mean, scale, slope, shift)), y, gate, signs)
    return dx


def _flat(cells: Tensor) -> Tensor:
    return cells.reshape(cells.shape[:2]).contiguous()


def _view(x: Tensor) -> View:
    seen = view(x)
    if seen is None:
        raise InputError(
            f"expected an input whose positions have one stride; got shape {tuple(x.shape)}, strides {x.stride()}: "
            "use the path 'plain', or x.contiguous()"
        )
    return seen


def _alike(g: Tensor, like: Tensor) -> Tensor:
    """Return g in the memory layout of `like`; a copy only where it has another."""
    return g if g.stride() == like.stride() else torch.empty_like(like, dtype=g.dtype, device=g.device).copy_(g)


def _divide(a: int, b: int) -> int:
    return -(-a // b)


def _span(seen: View, how: Launch) -> int:
    """Return how many positions a split covers: whole tiles."""
    return _divide(_divide(seen.positions, how.positions), how.splits) * how.positions


def _run(
    program: Any,
    seen: View,
    how: Launch,
    last: int,
    tensors: tuple[Tensor, ...],
    span: int | None,
    like: Tensor | None = None,
    **flags: bool,
) -> None:
    """Start a program on x as it is seen; like: what has the layout of the tensors beside x."""
    grid = (seen.samples, _divide(seen.channels, how.channels), last)
    sizes = (seen.channels, seen.positions, *(() if span is None else (span,)))
    views = (seen,) if like is None else (seen, _view(like))
    strides = (stride for v in views for stride in (v.by_sample, v.by_channel, v.by_position))
    start: Callable[..., Any] = program[grid]
    start(*tensors, *sizes, *strides, **flags, CHANNELS=how.channels, POSITIONS=how.positions, num_warps=how.warps)
