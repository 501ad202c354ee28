"""Batch norm, ghost batch norm, group norm and what lies between, in one layer."""

import torch
from torch import Tensor

from norms.base import RunningNorm
from norms.beside import ALONE, Beside
from norms.errors import InputError, OptionError
from norms.groups import SharedGroups, group_ranges
from norms.per_sample import usual_groups
from norms.pooled import pooled_norm
from norms.pools import Pool, over_batch
from norms.ranks import Ranks
from norms.statistics import compute_dtype, moments, per_sample_channel, snapshot, standardize


class BatchGroupNorm(RunningNorm):
    """Moments over groups of `examples_per_group` samples and `channels_per_group` channels, and all positions.

    (all samples, 1 channel) is batch norm, (g, 1) ghost batch norm, (1, C/G) group norm, (g > 1, C/G)
    batch/group norm. A last group that is not full is a group of its own; where that would have a
    single value to normalize, it joins the group before it.

    Inference, with a = inference_weight: per channel group, mean = (1-a) EMA[x] + a E_i[x] and the second moment
    likewise, E_i over the current sample; variance = second moment - mean^2, computed as
    (1-a) v + a v_i + a (1-a) (m_i - m)^2, which cannot be negative. a may be set at any time, on a trained
    network too; `fit_inference_weight` chooses it.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Buffers: running_mean, running_var of shape (C,), num_batches_tracked. They follow E[x] and E[x^2] per
    channel over the full batch, so running_var is the biased variance and includes that of the
    batches' means.

    Args:
        num_features: C.
        examples_per_group: samples a group; None: the whole batch.
        channels_per_group: channels a group; None: as many as `group` has.
        inference_weight: a in [0, 1]; None: 1 where a group is one sample (group norm needs no running
            statistics), else 0.
        momentum: weight of the newest batch; the released code has 0.01.

    Raises:
        OptionError: examples_per_group < 1, channels_per_group that does not divide C, a outside [0, 1].
        InputError: groups of a single value.

    Source: Summers & Dinneen, arXiv 1906.03548; ceciliaresearch/four_things_batch_norm.

    >>> ghost = BatchGroupNorm(1, examples_per_group=2, channels_per_group=1)
    >>> ghost(torch.tensor([[1.0], [3.0], [10.0], [30.0]])).round(decimals=3).flatten().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(
        self,
        num_features: int,
        *,
        examples_per_group: int | None = 2,
        channels_per_group: int | None = None,
        inference_weight: float | None = None,
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
        if examples_per_group is not None and examples_per_group < 1:
            raise OptionError(
                f"expected examples_per_group >= 1 or None; got {examples_per_group}: None is the whole batch"
            )
        usual = num_features // usual_groups(num_features)
        channels = usual if channels_per_group is None else channels_per_group
        if channels < 1 or num_features % channels:
            raise OptionError(
                f"expected channels_per_group to divide num_features = {num_features}; got {channels}: {usual} would do"
            )
        self.examples_per_group = examples_per_group
        self.channels_per_group = channels
        alone = 1.0 if examples_per_group == 1 else 0.0
        self.inference_weight = alone if inference_weight is None else inference_weight

    @property
    def inference_weight(self) -> float:
        """How much the current sample counts at inference, in [0, 1]."""
        return self._inference_weight

    @inference_weight.setter
    def inference_weight(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise OptionError(f"expected inference_weight in [0, 1]; got {value}: 0 is running statistics alone")
        self._inference_weight = float(value)

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized per group; see ChannelNorm.normalize."""
        self._check(x)
        if not own and self.running_mean is not None:
            return self._scale_shift(self._with_running(x.to(compute_dtype(x.dtype))), x.dtype)
        ranks = self._sharing()
        ranges = [] if ranks is not None else self._ranges(x)
        if len(ranges) == 1:  # groups of one size, which pools are
            return self._pooled(x, ranges[0][2], ALONE, update)
        wide = x.to(compute_dtype(x.dtype))
        pair = self._group_moments(wide, ranges) if ranks is None else self._shared_moments(wide, ranks)
        mean, variance = (per_sample_channel(values, x.ndim) for values in pair)
        if self._follows(x, update):
            self._learn(*moments(wide.detach(), (0, *range(2, x.ndim)), ranks))
        return self._scale_shift(standardize(wide, mean, variance, self.eps), x.dtype)

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor | None:
        """See ChannelNorm.fused."""
        self._check(x)
        if (not own and self.running_mean is not None) or self._sharing() is not None:
            return None
        ranges = self._ranges(x)
        return self._pooled(x, ranges[0][2], beside, update) if len(ranges) == 1 else None

    def _pooled(self, x: Tensor, examples: int, beside: Beside, update: bool) -> Tensor:
        """Return x normalized per group of so many samples."""
        pools = (Pool(examples, self.channels_per_group),)
        y, *cells = pooled_norm(x, self.weight, self.bias, pools, eps=self.eps, kernel=self.kernel, beside=beside)
        if self._follows(x, update):
            self._learn(*over_batch(*cells), beside.gate)
        return y

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return (
            f"{super().extra_repr()}, examples_per_group={self.examples_per_group}, "
            f"channels_per_group={self.channels_per_group}, inference_weight={self.inference_weight}"
        )

    def _ranges(self, x: Tensor) -> list[tuple[int, int, int]]:
        """Return the group_ranges of x."""
        n = x.shape[0]
        size = n if self.examples_per_group is None else min(self.examples_per_group, n)
        self._check_size(x, size)
        return group_ranges(n, size, self._per_sample(x))

    def _check_size(self, x: Tensor, size: int) -> None:
        if size * self._per_sample(x) < 2:
            raise InputError(
                f"expected more than one value per group; got shape {tuple(x.shape)} in groups of {size} "
                f"samples and {self.channels_per_group} channels: use larger groups or batches"
            )

    def _per_sample(self, x: Tensor) -> int:
        """Return how many values a sample adds to a group."""
        return self.channels_per_group * x.shape[2:].numel()

    def _group_moments(self, x: Tensor, ranges: list[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
        """Return for each sample and channel the moments of its group, shape (N, C)."""
        channel_groups = self.num_features // self.channels_per_group
        found = []
        for start, stop, per_group in ranges:
            shape = ((stop - start) // per_group, per_group, channel_groups, self.channels_per_group)
            pair = moments(x[start:stop].reshape(*shape, -1), (1, 3, 4))
            found.append([values.expand(*shape, 1).reshape(-1, self.num_features) for values in pair])
        mean, variance = (torch.cat(parts) for parts in zip(*found, strict=True))
        return mean, variance

    def _shared_moments(self, x: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
        """Return the same, of groups that may lie on several ranks."""
        groups = SharedGroups(x.shape[0], self.examples_per_group, self._per_sample(x), ranks, x.device)
        self._check_size(x, groups.largest)
        grouped = x.reshape(x.shape[0], self.num_features // self.channels_per_group, -1)
        mean, variance = (
            values[groups.member].repeat_interleave(self.channels_per_group, 1) for values in groups.moments(grouped)
        )
        return mean, variance

    def _with_running(self, x: Tensor) -> Tensor:
        """Return x standardized by running statistics, weighed with each sample's own."""
        assert self.running_mean is not None
        assert self.running_var is not None
        n, channels = x.shape[0], self.channels_per_group
        means = snapshot(self.running_mean, x.dtype).reshape(1, -1, channels, 1)
        variances = snapshot(self.running_var, x.dtype).reshape(1, -1, channels, 1)
        # Moments of a group of channels: the mean within, and the spread of the channels' means.
        spread, mean = torch.var_mean(means, 2, correction=0, keepdim=True)
        variance = variances.mean(2, keepdim=True) + spread
        grouped = x.reshape(n, self.num_features // channels, channels, -1)
        a = self.inference_weight
        if a > 0:
            own_mean, own_variance = moments(grouped, (2, 3))
            distance = own_mean - mean
            variance = (1 - a) * variance + a * own_variance + a * (1 - a) * distance.square()
            mean = mean + a * distance
        return standardize(grouped, mean, variance, self.eps).reshape(x.shape)

    @torch.no_grad()
    def _learn(self, mean: Tensor, variance: Tensor, gate: Tensor | None = None) -> None:
        """Move E[x] and E[x^2] of each channel toward those of a batch of this mean and variance, in centred form."""
        assert self.running_mean is not None
        mean, variance = mean.flatten(), variance.flatten()
        running = self.running_mean.to(mean.dtype)
        t = self._update_factor(mean.dtype, ahead=1)
        # (1-t) v + t v' + t (1-t) (m' - m)^2, written as a step of size t toward a target
        target = variance + (1 - t) * (mean - running).square()
        self._update(gate, running_mean=mean, running_var=target)


class GhostBatchNorm(BatchGroupNorm):
    """Batch norm over groups of `examples_per_group` samples: BatchGroupNorm with one channel a group.

    Source: Hoffer, Hubara & Soudry, arXiv 1705.08741; Summers & Dinneen, arXiv 1906.03548.

    >>> GhostBatchNorm(1, examples_per_group=2)(torch.tensor([[1.0], [3.0]])).round(decimals=3).tolist()
    [[-1.0], [1.0]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        examples_per_group: int = 16,
        inference_weight: float = 0.0,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            examples_per_group=examples_per_group,
            channels_per_group=1,
            inference_weight=inference_weight,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
