"""Moments of a tensor over chosen axes, and running averages that stay finite."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from norms.ranks import Ranks


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which statistics of `dtype` are taken: float32 at least.

    >>> compute_dtype(torch.bfloat16), compute_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def per_channel(values: Tensor, rank: int) -> Tensor:
    """Return `values` of shape (C,) as a view (1, C, 1, ...) of `rank` axes; any other shape as it is.

    >>> per_channel(torch.zeros(3), 4).shape
    torch.Size([1, 3, 1, 1])
    """
    return values.reshape(1, -1, *(1,) * (rank - 2)) if values.ndim == 1 else values


def per_sample_channel(values: Tensor, rank: int) -> Tensor:
    """Return `values` of shape (N, C) as a view (N, C, 1, ...) of `rank` axes.

    >>> per_sample_channel(torch.zeros(2, 3), 4).shape
    torch.Size([2, 3, 1, 1])
    """
    return values.reshape(*values.shape, *(1,) * (rank - 2))


@torch.library.custom_op("normgauge::copied", mutates_args=())
def copied(x: Tensor) -> Tensor:
    """Return a copy of x, which a compiler cannot see through."""
    return x.clone()


@copied.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _copied_backward(ctx: Any, g: Tensor) -> Tensor:
    found: Tensor = copied(g)
    return found


copied.register_autograd(_copied_backward)


def snapshot(running: Tensor, dtype: torch.dtype, *, moves: bool = False) -> Tensor:
    """Return a buffer in `dtype`, as a copy where autograd might save it: the next batch updates it in place.

    Args:
        running: the buffer.
        dtype: of the result.
        moves: whether this very batch updates it. torch 2.13's compiler takes a clone of a buffer anew in the backward
            pass, when the buffer has moved, and so gives gamma another gradient; it leaves a custom operator alone.
    """
    if moves and torch.compiler.is_compiling():
        kept: Tensor = copied(running)
        return kept.to(dtype)
    return running.to(dtype, copy=torch.is_grad_enabled())


def average(x: Tensor, dims: Sequence[int], ranks: Ranks | None = None) -> Tensor:
    """Return the mean over `dims`, kept as axes of length 1; with `ranks`, over the batches of all of them.

    The axes at the end go first: they lie together in memory, and on a CPU a single reduction over (0, 2, 3) takes
    nine times as long.

    >>> average(torch.arange(12.0).reshape(2, 3, 2), (0, 2)).flatten().tolist()
    [3.5, 5.5, 7.5]
    """
    if ranks is not None:
        return ranks.total(average(x, dims) * share_of_rank(x, dims, ranks))
    inner = [dim for dim in dims if set(range(dim, x.ndim)) <= set(dims)]
    outer = [dim for dim in dims if dim not in inner]
    for group in (inner, outer):
        if group:
            x = x.mean(group, keepdim=True)
    return x


def values_per_channel(x: Tensor, dims: Sequence[int]) -> int:
    """Return how many values are reduced over `dims`."""
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return count


def share_of_rank(x: Tensor, dims: Sequence[int], ranks: Ranks) -> Tensor:
    """Return this rank's part, 0-d, of the values that all ranks reduce over `dims`."""
    values = values_per_channel(x, dims)
    return values / ranks.count(values, x).to(x.dtype)


def unbiased(variance: Tensor, values: int, ranks: Ranks | None = None) -> Tensor | None:
    """Return the biased `variance` of `values` values (on this rank) times n / (n - 1); None for a single one.

    >>> unbiased(torch.tensor([1.0]), 2), unbiased(torch.tensor([0.0]), 1)
    (tensor([2.]), None)
    """
    if ranks is None:
        return variance * (values / (values - 1)) if values > 1 else None
    n = ranks.count(values, variance).to(variance.dtype)  # two at least, one from each rank
    return variance * (n / (n - 1))


def moments(x: Tensor, dims: Sequence[int], ranks: Ranks | None = None) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over `dims`, kept as axes of length 1; with `ranks`, over all their batches.

    In two passes, never E[x^2] - E[x]^2, which at mean 4096 and standard deviation 1 returns a variance of -1 in
    float32; and not by torch.var_mean, which takes 10 to 20 times as long on a CPU.

    >>> mean, variance = moments(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), (0,))
    >>> mean.tolist(), variance.tolist()
    ([[2.0, 5.0]], [[1.0, 0.0]])
    """
    mean = average(x, dims, ranks)
    return mean, average((x - mean).square(), dims, ranks)


def standardize(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps)."""
    return (x - mean) * torch.rsqrt(variance + eps)


@torch.no_grad()
def update_running(running: Tensor, new: Tensor, factor: float | Tensor, gate: Tensor | None = None) -> None:
    """Move `running` in place by `factor` of the way to `new`; elements of `new` that are not finite are left out.

    Args:
        running: a buffer.
        new: as many elements; what the last batch showed.
        factor: weight of `new`, in [0, 1]; a 0-d tensor costs no host-device synchronization.
        gate: 0-d bool; where it is false nothing moves.
    """
    new = new.reshape(running.shape).to(running.dtype)
    moved = torch.lerp(running, new, factor)
    follows = torch.isfinite(new) if gate is None else torch.isfinite(new) & gate
    torch.where(follows, moved, running, out=running)
