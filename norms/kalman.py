"""Kalman normalization: moments fused with a prior that the layer before hands on."""

from math import log

import torch
from torch import Tensor, nn

from norms.base import RunningNorm
from norms.beside import after
from norms.errors import InputError, OptionError
from norms.groups import SharedGroups, group_ranges
from norms.kalman_state import State
from norms.pooled import pooled_norm
from norms.pools import Pool
from norms.ranks import Ranks
from norms.statistics import (
    compute_dtype,
    moments,
    per_channel,
    per_sample_channel,
    snapshot,
    standardize,
)

PRIORS = ("sampled", "moments")
"""As released, by drawing an image; and in closed form."""


class KalmanNorm(RunningNorm):
    """Batch norm whose moments are fused with a prior (m_pre, v_pre), here with p = `gain`:

    mean = p m_pre + (1-p) m_obs,  var = p v_pre + (1-p) v_obs + p (1-p) (m_obs - m_pre)^2.

    The fused pair normalizes x and is the state handed on. Moments, priors and states are per group of
    `examples_per_group` samples (the "batch size 2" of the paper is a batch of 128 in 64 groups). The prior of
    the whole batch is ignored where mean(v_pre / v_obs) >= `guard`. Called with x alone the layer has no prior
    and is batch norm over groups; `carry_priors(model)` lets the layers of a model hand theirs on. Inference
    uses running statistics and no prior.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Buffers: running_mean, running_var (biased), num_batches_tracked: averages of the fused moments, over all
    groups of a batch weighed by their samples; the released code follows the first group alone.

    Args:
        num_features: C.
        gain: p in [0, 1]; 0.9 for micro-batches and 0.05 for large ones in the paper.
        learnable_gain: learn p (as `gain_logit`, one number a layer).
        examples_per_group: samples a group; None: the whole batch.
        guard: 100 in the released code.
        prior: how `carry_priors` makes the prior of the state that comes: "sampled" or "moments"; None leaves it to
            `carry_priors`. `convert` calls that where it is given one.

    Raises:
        OptionError: gain outside [0, 1] (or at an end, if learned), examples_per_group < 1, guard <= 0, another prior.
        InputError: in training, one value per channel and group; a prior of another shape.

    Source: Wang, Peng, Luo, Wang & Lin, arXiv 1802.03133; wanggrun/Kalman-Normalization, kalman_norm.py.

    >>> prior = State(mean=torch.tensor([[2.0]]), variance=torch.tensor([[3.0]]))
    >>> y, state = KalmanNorm(1, gain=0.5)(torch.tensor([[3.0], [5.0]]), prior, with_state=True)
    >>> state.mean.item(), state.variance.item()  # 0.5 * 2 + 0.5 * 4;  0.5 * 3 + 0.5 * 1 + 0.25 * 4
    (3.0, 3.0)
    """

    gain_logit: Tensor | None

    def __init__(
        self,
        num_features: int,
        *,
        gain: float = 0.9,
        learnable_gain: bool = False,
        examples_per_group: int | None = None,
        guard: float = 100.0,
        prior: str | None = None,
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
        if not 0 <= gain <= 1 or (learnable_gain and not 0 < gain < 1):
            raise OptionError(f"expected gain in [0, 1], inside it if learnable; got {gain}: 0.9 for micro-batches")
        if examples_per_group is not None and examples_per_group < 1:
            raise OptionError(
                f"expected examples_per_group >= 1 or None; got {examples_per_group}: None is the whole batch"
            )
        if not guard > 0:
            raise OptionError(f"expected guard > 0; got {guard}: the released code has 100")
        if prior not in (None, *PRIORS):
            raise OptionError(f"expected prior 'sampled' or 'moments'; got {prior!r}")
        self.gain = gain
        self.learnable_gain = learnable_gain
        self.examples_per_group = examples_per_group
        self.guard = guard
        self.prior = prior
        logit = torch.tensor(log(gain / (1 - gain)), device=device, dtype=dtype) if learnable_gain else None
        self.register_parameter("gain_logit", None if logit is None else nn.Parameter(logit))

    def forward(  # type: ignore[override]  # a state beside the result, where it is asked for
        self,
        x: Tensor,
        prior: State | None = None,
        *,
        with_state: bool = False,
        residual: Tensor | None = None,
        relu: bool = False,
    ) -> Tensor | tuple[Tensor, State | None]:
        """Return x normalized, plus `residual`, then the relu; with_state: also the norm's state, None at inference.

        Args:
            x: shape (N, C, *).
            prior: of x's groups, mean and variance of shape (groups, C); None: no prior.
            with_state: return a pair.
            residual: as in ChannelNorm; the state does not know of it.
            relu: as in ChannelNorm; the state does not know of it.
        """
        beside = after(x, residual, relu)
        if not self.training:
            y, state = self.normalize(x, own=False, update=False), None
        elif prior is None and not with_state:
            y, state = self.normalize(x, own=True, update=True), None
        else:
            y, state = self._filter(x, prior, update=True)
        y = beside.behind(y)
        return (y, state) if with_state else y

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized without a prior; see ChannelNorm.normalize."""
        if own or self.running_mean is None or self.running_var is None:
            return self._without_prior(x, update)
        self._check(x)
        wide = x.to(compute_dtype(x.dtype))
        mean = per_channel(snapshot(self.running_mean, wide.dtype), x.ndim)
        variance = per_channel(snapshot(self.running_var, wide.dtype), x.ndim)
        return self._scale_shift(standardize(wide, mean, variance, self.eps), x.dtype)

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return (
            f"{super().extra_repr()}, gain={self.gain}, learnable_gain={self.learnable_gain}, "
            f"examples_per_group={self.examples_per_group}" + (f", prior={self.prior}" if self.prior else "")
        )

    def _without_prior(self, x: Tensor, update: bool) -> Tensor:
        """Return x normalized by the moments of its groups alone."""
        self._check(x)
        ranges = [] if self._sharing() is not None else self._ranges(x)
        if len(ranges) != 1:
            return self._filter(x, None, update=update)[0]
        pool = Pool(ranges[0][2], 1)
        y, mean, variance = pooled_norm(x, self.weight, self.bias, (pool,), eps=self.eps, kernel=self.kernel)
        if self._follows(x, update):
            # The groups are alike in size, so their moments weigh alike.
            means = pool.split(mean)
            spread = (means - means.mean(1, keepdim=True)).square()
            self._update(running_mean=mean.mean(0), running_var=(pool.split(variance) + spread).mean((0, 1, 3)))
        return y

    def _filter(self, x: Tensor, prior: State | None, *, update: bool) -> tuple[Tensor, State]:
        """Return x normalized by the moments of its groups fused with the prior, and those moments."""
        self._check(x)
        wide = x.to(compute_dtype(x.dtype))
        cells = wide.reshape(*x.shape[:2], -1)
        ranks = self._sharing()
        if ranks is None:
            ranges = self._ranges(x)
            # A group's samples as an axis of their own: (groups, samples, C, positions)
            parts = [cells[a:b].reshape(-1, k, *cells.shape[1:]) for a, b, k in ranges]
            observed = [moments(part, (1, 3)) for part in parts]
            mean, variance = (torch.cat([values.flatten(1) for values in kind]) for kind in zip(*observed, strict=True))
            counts = [part.shape[0] for part in parts]
            share = [wide.new_full((c,), k / x.shape[0]) for c, (_, _, k) in zip(counts, ranges, strict=True)]
            weights = torch.cat(share)
        else:
            groups = SharedGroups(x.shape[0], self.examples_per_group, cells.shape[2], ranks, x.device)
            self._check_size(x, groups.largest)
            mean, variance = groups.moments(cells)
            weights = groups.sizes.to(wide.dtype) / groups.sizes.sum()
        if prior is not None:
            mean, variance = self._fuse(prior, mean, variance, ranks)
        if self._follows(x, update):
            running = [(weights[:, None] * values.detach()).sum(0) for values in (mean, variance)]
            self._update(running_mean=running[0], running_var=running[1])
        if ranks is None:
            centre, spread = (self._per_sample(values, counts, ranges, x.ndim) for values in (mean, variance))
        else:
            centre, spread = (per_sample_channel(values[groups.member], x.ndim) for values in (mean, variance))
        y = self._scale_shift(standardize(wide, centre, spread, self.eps), x.dtype)
        return y, State(mean, variance)

    def _ranges(self, x: Tensor) -> list[tuple[int, int, int]]:
        """Return the group_ranges of x."""
        n = x.shape[0]
        size = n if self.examples_per_group is None else min(self.examples_per_group, n)
        self._check_size(x, size)
        return group_ranges(n, size, x.shape[2:].numel())

    def _check_size(self, x: Tensor, size: int) -> None:
        if size * x.shape[2:].numel() < 2:
            raise InputError(
                f"expected more than one value per channel; got shape {tuple(x.shape)} in groups of "
                f"{size} samples: use larger groups or batches"
            )

    def _per_sample(self, values: Tensor, counts: list[int], ranges: list[tuple[int, int, int]], rank: int) -> Tensor:
        """Return what each group has, (groups, C), for each of its samples: (N, C, 1, ...)."""
        split = torch.split(values, counts)
        rows = [part[:, None].expand(-1, k, -1).flatten(0, 1) for part, (_, _, k) in zip(split, ranges, strict=True)]
        return per_sample_channel(torch.cat(rows), rank)

    def _fuse(self, prior: State, mean: Tensor, variance: Tensor, ranks: Ranks | None) -> tuple[Tensor, Tensor]:
        """Return the fused moments, or the observed ones where the guard says so."""
        if prior.mean.shape != mean.shape:
            raise InputError(
                f"expected a prior of shape {tuple(mean.shape)}, (groups, channels); got "
                f"{tuple(prior.mean.shape)}: all layers must have the same examples_per_group"
            )
        p = self.gain if self.gain_logit is None else self.gain_logit.to(mean.dtype).sigmoid()
        before, spread = prior.mean.to(mean.dtype), prior.variance.to(mean.dtype)
        if ranks is not None:  # what is drawn is drawn once, as in one process
            before, spread = ranks.first(before), ranks.first(spread)
        fused_mean = p * before + (1 - p) * mean
        fused = p * spread + (1 - p) * variance + p * (1 - p) * (mean - before).square()
        # A variance of 0 gives inf or NaN here, and either fails the comparison: the prior is ignored.
        trusted = (spread / variance).mean() < self.guard
        return torch.where(trusted, fused_mean, mean), torch.where(trusted, fused, variance)
