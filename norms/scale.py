"""Batch norms that divide by an L1, L-infinity or top-k estimate of the standard deviation."""

from math import log, pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from norms.base import RunningNorm
from norms.beside import ALONE, Beside
from norms.distances import mean_of_largest, scaled_norm
from norms.errors import InputError, OptionError
from norms.ranks import Ranks
from norms.statistics import average, compute_dtype, per_channel, snapshot

NUMERATOR = 1 + sqrt(pi * log(4))
L1_FACTOR = sqrt(pi / 2)
"""Standard deviation over mean absolute deviation, for normal data."""


class ScaleBatchNorm(RunningNorm):
    """Batch norm with another estimate of scale: y = gamma (x - mu) / (scale + eps) + beta.

    No value is squared, so deviations up to the largest number of the dtype of computation (float32 at least)
    stay finite, where a variance overflows from about the root of it.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Buffers: running_mean and running_scale of shape (C,), num_batches_tracked. running_scale averages the
    scale itself, not its inverse as in the released code: an average of inverses is dominated by the
    smallest scales.

    Subclasses implement `scale`.

    Raises:
        InputError: in training, one value per channel.

    Source: Hoffer, Banner, Golan & Soudry, arXiv 1803.01814; eladhoffer/norm_matters, models/lp_norm.py.
    """

    running_scale: Tensor | None

    def _running_start(self, device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Tensor]:
        start = super()._running_start(device, dtype)
        start["running_scale"] = start.pop("running_var")
        return start

    largest: int | None = None
    """How many of the largest distances count; None: all."""

    def factor(self, values: int, like: Tensor) -> float | Tensor:
        """Return what the mean of those distances is multiplied by, for `values` a channel."""
        raise NotImplementedError

    def scale(self, distance: Tensor) -> Tensor:
        """Return the scale of each channel, shape (C,), from |x - mu| of shape (C, values)."""
        values = distance.shape[1]
        largest = None if self.largest is None else min(self.largest, values)
        return self.factor(values, distance) * mean_of_largest(distance, largest)

    def shared_scale(self, distance: Tensor, ranks: Ranks) -> Tensor:
        """Return the scale of each channel, shape (C,), from the distances of all ranks."""
        raise NotImplementedError

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized per channel; see ChannelNorm.normalize."""
        self._check(x)
        running = not own and self.running_mean is not None and self.running_scale is not None
        ranks = None if running else self._sharing()
        if not running and ranks is None:
            return self._alone(x, ALONE, update)
        wide = x.to(compute_dtype(x.dtype))
        if ranks is None:
            assert self.running_mean is not None
            assert self.running_scale is not None
            mean = per_channel(snapshot(self.running_mean, wide.dtype), x.ndim)
            scale = snapshot(self.running_scale, wide.dtype)
            centred = wide - mean
        else:
            mean = average(wide, (0, *range(2, x.ndim)), ranks)
            centred = wide - mean
            distance = centred.abs().transpose(0, 1).flatten(1)
            scale = self.shared_scale(distance, ranks)
            if self._follows(x, update):
                self._update(running_mean=mean, running_scale=scale)
        return self._scale_shift(centred / per_channel(scale + self.eps, x.ndim), x.dtype)

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor | None:
        """See ChannelNorm.fused."""
        self._check(x)
        no_kernel = beside.gate is not None and self.largest is not None
        if no_kernel or (not own and self.running_mean is not None) or self._sharing() is not None:
            return None
        return self._alone(x, beside, update)

    def _alone(self, x: Tensor, beside: Beside, update: bool) -> Tensor:
        """Return x normalized by its own mean and scale."""
        self._check_values(x)
        values = x.shape[0] * x.shape[2:].numel()
        y, mean, scale = scaled_norm(
            x,
            self.weight,
            self.bias,
            factor=self.factor(values, self._like(x)),
            largest=None if self.largest is None else min(self.largest, values),
            eps=self.eps,
            kernel=self.kernel,
            beside=beside,
        )
        if self._follows(x, update):
            self._update(beside.gate, running_mean=mean, running_scale=scale)
        return y

    def _like(self, x: Tensor) -> Tensor:
        return x.new_empty((), dtype=compute_dtype(x.dtype))

    def population(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return running mean, squared running scale and the number of batches seen, or None without them."""
        if self.running_mean is None or self.running_scale is None:
            return None
        assert self.num_batches_tracked is not None
        return self.running_mean, self.running_scale.square(), self.num_batches_tracked

    def _check_values(self, x: Tensor) -> None:
        if x.shape[0] * x.shape[2:].numel() < 2:
            raise InputError(
                f"expected more than one value per channel; got shape {tuple(x.shape)}: "
                "use larger batches (drop_last=True), or a norm that takes one sample (batch_layer, group)"
            )


class L1BatchNorm(ScaleBatchNorm):
    """scale = sqrt(pi/2) mean|x - mu|, the standard deviation of normal data.

    >>> round(L1BatchNorm(1).scale(torch.tensor([[1.0, 3.0]])).item(), 4)
    2.5066
    """

    def factor(self, values: int, like: Tensor) -> float | Tensor:
        """Return sqrt(pi/2)."""
        return L1_FACTOR

    def shared_scale(self, distance: Tensor, ranks: Ranks) -> Tensor:
        """Return sqrt(pi/2) times the mean distance over all ranks."""
        return L1_FACTOR * average(distance, (1,), ranks).flatten()


class TopKBatchNorm(ScaleBatchNorm):
    """scale = C(n) times the mean of the k largest |x - mu|, n the values per channel (all of them, if fewer).

    C(n) = (1 + sqrt(pi ln 4)) / (2 sqrt(2 ln n)), which is for the maximum of n normal values; it is the
    published and released factor for every k. On normal data the scale is therefore not quite the standard
    deviation (docs/norms.md); gamma takes up the rest.

    Args:
        k: 10 in the paper.

    Raises:
        OptionError: k < 1.

    >>> round(TopKBatchNorm(1, k=2).scale(torch.tensor([[1.0, 1.0, 3.0]])).item(), 4)
    2.0825
    """

    def __init__(
        self,
        num_features: int,
        *,
        k: int = 10,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        if k < 1:
            raise OptionError(f"expected k >= 1; got {k}: the paper has 10")
        self.k = self.largest = k

    def factor(self, values: int, like: Tensor) -> float | Tensor:
        """Return C(n)."""
        return maximum_factor(values, like)

    def shared_scale(self, distance: Tensor, ranks: Ranks) -> Tensor:
        """Return C(n) times the mean of the k largest distances of all ranks: those among each one's k largest."""
        values = ranks.count(distance.shape[1], distance)
        candidates = distance.topk(min(self.k, distance.shape[1]), dim=1).values
        lacking = self.k - candidates.shape[1]  # filled up with what is below any distance
        every = ranks.gather(F.pad(candidates, (0, lacking), value=-1.0)).transpose(0, 1).flatten(1)
        largest = every.topk(self.k, dim=1).values
        real = (largest >= 0) | largest.isnan()
        mean = torch.where(real, largest, 0.0).sum(1) / values.clamp(max=self.k)
        return maximum_factor(values, distance) * mean

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return f"{super().extra_repr()}, k={self.k}"


class LInfBatchNorm(ScaleBatchNorm):
    """scale = C(n) max|x - mu|, with C(n) as in TopKBatchNorm.

    >>> round(LInfBatchNorm(1).scale(torch.tensor([[1.0, 1.0, 3.0]])).item(), 4)
    3.1238
    """

    largest = 1

    def factor(self, values: int, like: Tensor) -> float | Tensor:
        """Return C(n)."""
        return maximum_factor(values, like)

    def shared_scale(self, distance: Tensor, ranks: Ranks) -> Tensor:
        """Return C(n) times the largest distance of all ranks."""
        values = ranks.count(distance.shape[1], distance)
        return maximum_factor(values, distance) * ranks.gather(distance.amax(1)).amax(0)


def maximum_factor(count: int | Tensor, like: Tensor) -> Tensor:
    """Return C(n) = (1 + sqrt(pi ln 4)) / (2 sqrt(2 ln n)), n >= 2, as a 0-d tensor of dtype and device of `like`.

    >>> round(maximum_factor(100, torch.zeros(1)).item(), 4)
    0.5086
    """
    # In torch: math.log of a dynamic batch size would make a compiler build a graph for each size.
    n = (
        count.to(like.dtype)
        if isinstance(count, Tensor)
        else torch.full((), count, dtype=like.dtype, device=like.device)
    )
    return NUMERATOR / (2 * (2 * n.log()).sqrt())
