"""The steps of norms/blocks.py for half precision on a CPU, by those of torch's operators that read it as it is.

torch's batch norm reads halves, computes in float32 and returns float32 statistics, in a third to a half of the time
that blocks take, which convert first. To it a cell is a channel: contiguous x is seen as one sample of N C channels,
and x in channels_last goes sample by sample. For distances, and for gradients with coefficients of one's own, torch
has no such operator, and blocks serve.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from norms import blocks
from norms.blocks import distances, gradient

__all__ = ["apply", "distances", "fits", "gradient", "means", "moments", "sums", "takes"]

HALVES = (torch.float16, torch.bfloat16)
# Values that the operators add one after the other in float32: in channels_last the positions of a cell, else a
# sixteenth of them. At mean 200 and standard deviation 1 a mean is then off by 3e-4 at most and a variance by 1e-4 of
# itself; float16 holds x to 0.06 there.
MOST = 2**14
# Fewer values are faster in blocks: of a cell, and in channels_last of a sample, which there is a call of some 12 us.
LEAST = 512
LEAST_A_SAMPLE = 2**16
# The mean of a cell over its standard deviation up to which scale x + (shift - scale mean) is as good as
# scale (x - mean): float32 is then off by 2^-12. Beyond, where a channel hardly varies, blocks take the mean off first.
FAR = 2.0**12


def takes(x: Tensor) -> bool:
    """Return whether x, (N, C, *), can be seen as these steps see it.

    >>> x = torch.zeros(2, 4, 3, 3, dtype=torch.bfloat16)
    >>> takes(x), takes(x.contiguous(memory_format=torch.channels_last)), takes(x.float()), takes(x[..., 1:])
    (True, True, False, False)
    """
    return x.dtype in HALVES and x.ndim > 2 and x.numel() > 0 and (x.is_contiguous() or _is_channels_last(x))


def fits(x: Tensor) -> bool:
    """Return whether x can be, and has a size for which it is as exact as blocks, and faster.

    >>> fits(torch.zeros(2, 4, 32, 32, dtype=torch.bfloat16)), fits(torch.zeros(2, 4, 3, 3, dtype=torch.bfloat16))
    (True, False)
    """
    if not takes(x):
        return False
    positions = x.shape[2:].numel()
    if x.is_contiguous():
        return LEAST <= positions <= 16 * MOST
    return positions <= MOST and x.shape[1:].numel() >= LEAST_A_SAMPLE


def moments(x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each cell; not centred: zeros and the mean square."""
    mean, variance = _cells(x), _cells(x)
    for seen, to_mean, to_variance in _channels((x,), (mean, variance)):
        unused = torch.zeros_like(to_mean), torch.ones_like(to_mean)  # running ones, which make the result float32
        found = torch.ops.aten.batch_norm_update_stats(seen, *unused, 0.0)
        to_mean.copy_(found[0])
        to_variance.copy_(found[1])
    return (mean, variance) if centred else (torch.zeros_like(mean), variance + mean.square())


def means(x: Tensor) -> Tensor:
    """Return the mean of each cell, (N, C, 1, ...)."""
    return moments(x, True)[0]


def apply(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return scale (x - mean) + shift in the dtype of x."""
    if not bool((mean * scale).abs().amax() < FAR):  # or not a number
        return blocks.apply(x, mean, scale, shift)
    y, unused = torch.empty_like(x), (mean.new_empty(0), mean.new_empty(0))
    for seen, out, m, a, b in _channels((x, y), (mean, scale, shift)):
        torch.native_batch_norm(seen, a, b, m, torch.ones_like(m), False, 0.0, 0.0, out=(out, *unused))
    return y


def sums(g: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each cell the sums of g and of g (x - mean)."""
    if g.stride() != x.stride():
        return blocks.sums(g, x, mean)
    plain, along = _cells(x), _cells(x)
    for slope, seen, m, to_plain, to_along in _channels((g, x), (mean, plain, along)):
        one = torch.ones_like(m)
        _, weight, bias = torch.ops.aten.native_batch_norm_backward(
            slope, seen, one, m, one, m, one, True, 0.0, [False, True, True]
        )
        to_plain.copy_(bias)
        to_along.copy_(weight)
    return plain, along


def _cells(x: Tensor) -> Tensor:
    return torch.empty((*x.shape[:2], *(1,) * (x.ndim - 2)), dtype=torch.float32)


def _channels(tensors: tuple[Tensor, ...], cells: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of one layout as (1, channels, *), and with them cells, (N, C, 1, ...), as (channels,)."""
    n, c = tensors[0].shape[:2]
    rows = [cell.reshape(n, c) for cell in cells]
    if tensors[0].is_contiguous():
        yield *(t.view(1, n * c, -1) for t in tensors), *(row.reshape(-1) for row in rows)
        return
    for i in range(n):
        yield *(t[i : i + 1] for t in tensors), *(row[i] for row in rows)


def _is_channels_last(x: Tensor) -> bool:
    form = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return form is not None and x.is_contiguous(memory_format=form)
