"""What is done to the input cell by cell, on a CPU: a cell is the values of one sample and channel.

Steps that read or write x, and nothing else does: moments (or distances) and apply on the way forward, sums and
gradient on the way back. Everything between them happens on tensors of one value a cell (norms/pools.py). Shapes:
x (N, C, *), in any memory layout; what belongs to cells (N, C, 1, ...), in at least float32.

They go block by block of samples, so that what lies between stays in the cache: a fresh tensor of 50 MB costs a CPU
eight times as much as a copy into an old one, since the system must first give its pages, and on whole tensors these
steps make up to five. In blocks they make one, the result.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from norms.statistics import compute_dtype

# Of float32 a thread. Measured at (64, 64, 56, 56) with 1 MB of level-2 cache a core: 0.8 to 6.4 MB are within a tenth.
# At the end of each operation threads wait for each other, so fewer blocks do better on a machine that others use too.
BLOCK_BYTES = 3_000_000


def blocks(x: Tensor) -> Iterator[slice]:
    """Yield slices of samples, each of about BLOCK_BYTES a thread."""
    sample = max(1, 4 * x.shape[1:].numel())
    size = max(1, BLOCK_BYTES * torch.get_num_threads() // sample)
    return (slice(start, start + size) for start in range(0, x.shape[0], size))


def moments(x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each cell; not centred: zeros and the mean square.

    >>> mean, variance = moments(torch.tensor([[[1.0, 3.0], [5.0, 5.0]]]), True)
    >>> mean.flatten().tolist(), variance.flatten().tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    if x.ndim == 2:
        values = x.to(compute_dtype(x.dtype))
        zeros = torch.zeros_like(values)
        return (values, zeros) if centred else (zeros, values.square())
    dims = tuple(range(2, x.ndim))
    wide, rest = _scratch(x), _scratch(x)
    mean = torch.zeros((*x.shape[:2], *(1,) * len(dims)), dtype=wide.dtype, device=x.device)
    second = torch.empty_like(mean)
    for s in blocks(x):
        part, left = _widened(x[s], wide), rest[: x[s].shape[0]]
        if centred:
            torch.mean(part, dims, keepdim=True, out=mean[s])
            part = torch.sub(part, mean[s], out=left)
        torch.mean(torch.mul(part, part, out=left), dims, keepdim=True, out=second[s])
    return mean, second


def means(x: Tensor) -> Tensor:
    """Return the mean of each cell, (N, C, 1, ...)."""
    if x.ndim == 2:
        return x.to(compute_dtype(x.dtype))
    dims, wide = tuple(range(2, x.ndim)), _scratch(x)
    mean = torch.empty((*x.shape[:2], *(1,) * len(dims)), dtype=wide.dtype, device=x.device)
    for s in blocks(x):
        torch.mean(_widened(x[s], wide), dims, keepdim=True, out=mean[s])
    return mean


def apply(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return scale (x - mean) + shift in the dtype of x."""
    y, wide = torch.empty_like(x), _scratch(x)
    for s in blocks(x):
        out = wide[: x[s].shape[0]]
        last = y[s] if x.dtype == scale.dtype else out
        _affine(torch.sub(_widened(x[s], wide), mean[s], out=out), scale[s], shift[s], out=last)
        if last is out:
            y[s] = out
    return y


def distances(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each cell the mean of |x - mean|, and the sum of the signs of x - mean.

    >>> far, signs = distances(torch.tensor([[[1.0, 4.0, 8.0, 9.0]]]), torch.full((1, 1, 1), 4.0))
    >>> far.item(), signs.item()
    (3.0, 1.0)
    """
    if x.ndim == 2:
        centred = x - mean
        return centred.abs(), centred.sign()
    dims = tuple(range(2, x.ndim))
    rest, other = _scratch(x), _scratch(x)
    far, signs = torch.empty_like(mean), torch.empty_like(mean)
    for s in blocks(x):
        left = rest[: x[s].shape[0]]
        torch.sub(_widened(x[s], rest), mean[s], out=left)
        torch.sum(torch.sign(left, out=other[: left.shape[0]]), dims, keepdim=True, out=signs[s])
        torch.mean(left.abs_(), dims, keepdim=True, out=far[s])
    return far, signs


def sums(g: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each cell the sums of g and of g (x - mean)."""
    if x.ndim == 2:
        values = g.to(mean.dtype)
        return values, values * (x - mean)
    dims = tuple(range(2, x.ndim))
    wide, rest = _scratch(x), _scratch(x)
    plain, along = torch.empty_like(mean), torch.empty_like(mean)
    for s in blocks(x):
        part, left = _widened(g[s], wide), rest[: x[s].shape[0]]
        torch.sum(part, dims, keepdim=True, out=plain[s])
        torch.sum(torch.sub(_widened(x[s], rest), mean[s], out=left).mul_(part), dims, keepdim=True, out=along[s])
    return plain, along


def gradient(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    slope: Tensor,
    shift: Tensor,
    *,
    signs: bool = False,
) -> Tensor:
    """Return scale g + slope (x - mean) + shift in the dtype of x; signs: with the sign of x - mean instead."""
    dx, wide, rest = torch.empty_like(x), _scratch(x), _scratch(x)
    for s in blocks(x):
        left = rest[: x[s].shape[0]]
        last = dx[s] if x.dtype == scale.dtype else wide[: left.shape[0]]
        torch.sub(_widened(x[s], rest), mean[s], out=left)
        _affine(left.sign_() if signs else left, slope[s], shift[s], out=left)
        _affine(_widened(g[s], wide), scale[s], left, out=last)
        if x.dtype != scale.dtype:
            dx[s] = last
    return dx


def _scratch(x: Tensor) -> Tensor:
    """Return a buffer for a block of x, in its memory layout, that is used again for every block."""
    first = x[next(iter(blocks(x)))]
    return torch.empty_like(first, dtype=compute_dtype(x.dtype))


def _widened(x: Tensor, scratch: Tensor) -> Tensor:
    return x if x.dtype == scratch.dtype else scratch[: x.shape[0]].copy_(x)


def _affine(values: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write scale values + shift into out, which may be `values`.

    Where a coefficient belongs to a whole row of values, addcmul takes as long as five multiplications.
    """
    if values.stride(1) == 1:
        torch.addcmul(shift, values, scale, out=out)
    else:
        torch.mul(values, scale, out=out).add_(shift)
