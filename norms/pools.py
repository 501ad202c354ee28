"""Norms as sums over pools of cells: the algebra between the steps that touch the input.

Most norms are y = gamma sum_k s_k (x - m_k) / sqrt(v_k + eps) + beta, with moments m_k, v_k over pools of
`examples` samples, `channels` channels and all positions: batch (N, 1), layer (1, C), group (1, C/G), instance (1, 1),
ghost (g, 1); batch layer norm is batch with the share 1 - 1/N and layer with 1/N. All of it is an affine map of each
cell whose coefficients follow from the cells' moments, and so is the gradient, from two sums a cell.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Pool(NamedTuple):
    """Moments over `examples` samples (None: the batch) and `channels` channels (None: all), counting for `share`."""

    examples: int | None
    channels: int | None
    share: float = 1.0

    def split(self, cells: Tensor) -> Tensor:
        """Return cells (N, C, 1, ...) as (N / examples, examples, C / channels, channels)."""
        n, c = cells.shape[:2]
        examples, channels = self.examples or n, self.channels or c
        return cells.reshape(n // examples, examples, c // channels, channels)


class Standard(NamedTuple):
    """What a pool makes of the cells: their means less the pool's, (N/e, e, C/c, c), and 1/sqrt(v + eps), pooled."""

    offset: Tensor
    inverse: Tensor


def standards(mean: Tensor, second: Tensor, pools: Sequence[Pool], eps: float) -> list[Standard]:
    """Return for each pool what it makes of the cells.

    Args:
        mean: of each cell, (N, C, 1, ...).
        second: the biased variance of each cell; with a mean of 0, the mean square.
        pools: must divide N and C.
        eps: added to the variance.
    """
    found = []
    for pool in pools:
        means = pool.split(mean)
        offset = means - means.mean((1, 3), keepdim=True)
        variance = (pool.split(second) + offset.square()).mean((1, 3), keepdim=True)
        found.append(Standard(offset, torch.rsqrt(variance + eps)))
    return found


def coefficients(
    found: Sequence[Standard], pools: Sequence[Pool], mean: Tensor, m0: Tensor | None, s0: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return a and b, shaped (N, C, 1, ...): before gamma and beta, y = a (x - mean) + b.

    Args:
        found: what the pools make of the cells.
        pools: the same as there.
        mean: of each cell, (N, C, 1, ...).
        m0: means m_0 of a further part s_0 (x - m_0), (1, C, 1, ...); None: no such part.
        s0: factors s_0 of it.
    """
    if m0 is None or s0 is None:
        scale, shift = torch.zeros_like(mean), torch.zeros_like(mean)
    else:
        scale, shift = s0.expand_as(mean), s0 * (mean - m0)
    for standard, pool in zip(found, pools, strict=True):
        weighed = standard.inverse * pool.share
        shift = shift + (standard.offset * weighed).reshape(mean.shape)
        scale = scale + weighed.expand_as(standard.offset).reshape(mean.shape)
    return scale, shift


def over_batch(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel over the batch, (1, C, 1, ...), from those of the cells.

    >>> mean, variance = over_batch(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))
    >>> mean.item(), variance.item()
    (2.0, 1.0)
    """
    whole = mean.mean(0, keepdim=True)
    return whole, (variance + (mean - whole).square()).mean(0, keepdim=True)


def over_sample(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each sample over its channels, (N, 1, 1, ...), from those of the cells."""
    whole = mean.mean(1, keepdim=True)
    return whole, (variance + (mean - whole).square()).mean(1, keepdim=True)


def slopes(
    found: Sequence[Standard], pools: Sequence[Pool], g: Tensor, gx: Tensor, positions: int, centred: bool
) -> tuple[Tensor, Tensor]:
    """Return p and q, (N, C, 1, ...): the gradient through the moments is p (x - mean of the cell) + q.

    Args:
        found: what the pools make of the cells.
        pools: the same as there.
        g: for each cell the sum of gamma times the gradient of y.
        gx: the same, times x less the mean of the cell.
        positions: values a cell.
        centred: whether the norm takes means off.
    """
    slope, shift = torch.zeros_like(g), torch.zeros_like(g)
    for (offset, inverse), pool in zip(found, pools, strict=True):
        sums = pool.split(g)
        along = (pool.split(gx) + offset * sums).mean((1, 3), keepdim=True)
        bend = along * inverse**3 * (pool.share / positions)
        slope = slope - bend.expand_as(offset).reshape(g.shape)
        if centred:
            pull = sums.mean((1, 3), keepdim=True) * inverse * (pool.share / positions)
            shift = shift - (pull + bend * offset).reshape(g.shape)
    return slope, shift
