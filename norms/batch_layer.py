"""Batch layer normalization: batch and feature statistics, weighed by the size of the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from norms.base import RunningNorm
from norms.beside import ALONE, Beside
from norms.errors import InputError, OptionError
from norms.pooled import pooled_norm
from norms.pools import Pool, over_batch, over_sample
from norms.ranks import Ranks
from norms.statistics import (
    average,
    compute_dtype,
    moments,
    per_channel,
    snapshot,
    standardize,
    unbiased,
    values_per_channel,
)

Origin = Literal["current", "population"]


@dataclass(frozen=True)
class InferenceStatistics:
    """Where each of the four statistics comes from at inference: the current mini-batch or the population.

    The default is the released code's. `choices` lists all 16.

    Raises:
        OptionError: neither "current" nor "population".
    """

    batch_mean: Origin = "population"
    batch_var: Origin = "population"
    feature_mean: Origin = "current"
    feature_var: Origin = "current"

    def __post_init__(self) -> None:
        for name, origin in zip(self.__dataclass_fields__, astuple(self), strict=True):
            if origin not in ("current", "population"):
                raise OptionError(f"expected {name} 'current' or 'population'; got {origin!r}")

    @classmethod
    def choices(cls) -> tuple["InferenceStatistics", ...]:
        """Return all 16 configurations.

        >>> len(InferenceStatistics.choices())
        16
        """
        origins: tuple[Origin, Origin] = ("current", "population")
        return tuple(cls(*four) for four in product(origins, repeat=4))


CURRENT = InferenceStatistics("current", "current", "current", "current")


class BatchLayerNorm(RunningNorm):
    """y = gamma ( (1/m) x_f + (1 - 1/m) x_b ) + beta, m the number of samples in the batch at hand.

    x_b is x standardized per channel over (N, *), x_f per sample over `feature_dims`; both with biased
    variance. A batch of one is layer norm; a large one tends to batch norm. m is also the batch's at
    inference, so a prediction depends on the size of the batch it came in.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Buffers: running_mean, running_var of shape (C,) and num_batches_tracked as in torch.nn.BatchNorm (a
    state_dict of which loads strictly); running_feature_mean and running_feature_var, 0-d: the averages of
    the feature statistics over samples. Variances are unbiased; a batch that has a single value for one
    leaves that variance as it is.

    Args:
        num_features: C.
        feature_dims: axes >= 1 over which x_f is standardized; None: all, (C, *). With authors=True: (1,).
        authors: the released code, to rounding: moments of x_b over the batch axis only, of x_f over the
            channels only (its last axis, our axis 1); eps 1e-3; weights 1/m - 1e-4 and 1 - (1/m + 1e-4); the
            sum divided by sqrt(C). Population statistics are plain averages since `reset_running_stats()`,
            to be called at the start of each epoch, with both variances times m/(m-1). The buffers then
            have the shapes (1, C, *) and (m, 1, *), take them from the first training batch, and hold one
            batch shape. For m = 1 the released code divides by zero; here the factor is 1.
        inference: where the statistics come from in eval mode; may be set at any time.

    Raises:
        OptionError: feature_dims or momentum set together with authors=True, or an axis < 1.
        InputError: with authors=True, training batches of unlike shapes, or population statistics of
            another shape than the batch.

    Source: Ziaee & Cano, arXiv 2209.08898; A2Amir/Batch-Layer-Normalization, helpers/bln_layer.py.

    >>> BatchLayerNorm(2)(torch.tensor([[1.0, 3.0]])).round(decimals=3).tolist()  # m = 1: layer norm
    [[-1.0, 1.0]]
    """

    running_feature_mean: Tensor | None
    running_feature_var: Tensor | None

    def __init__(
        self,
        num_features: int,
        *,
        feature_dims: Sequence[int] | None = None,
        authors: bool = False,
        inference: InferenceStatistics | None = None,
        eps: float | None = None,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if authors and (feature_dims is not None or momentum not in (0.1, None)):
            raise OptionError(
                "expected neither feature_dims nor momentum with authors=True, which fixes both; "
                f"got feature_dims={feature_dims}, momentum={momentum}"
            )
        if feature_dims is not None and (not feature_dims or min(feature_dims) < 1):
            raise OptionError(f"expected feature_dims >= 1 (axis 0 holds the samples); got {tuple(feature_dims)}")
        self.authors = authors
        self.feature_dims = None if feature_dims is None else tuple(feature_dims)
        self.inference = inference or InferenceStatistics()
        super().__init__(
            num_features,
            eps=(1e-3 if authors else 1e-5) if eps is None else eps,
            momentum=None if authors else momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        for name in ("running_feature_mean", "running_feature_var"):
            if name not in self._buffers:
                self.register_buffer(name, None)

    def _running_start(self, device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Tensor]:
        start = super()._running_start(device, dtype)
        zero = torch.zeros((), device=device, dtype=dtype)
        if self.authors:  # all zeros, as released; the shapes come with the first batch
            start |= {"running_mean": zero.clone(), "running_var": zero.clone()}
        variance = zero.clone() if self.authors else torch.ones_like(zero)
        return start | {"running_feature_mean": zero.clone(), "running_feature_var": variance}

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized; see ChannelNorm.normalize. `own` sets all four switches to "current"."""
        self._check(x)
        ranks = self._sharing()
        update = self._follows(x, update)
        batch_dims = (0,) if self.authors else (0, *range(2, x.ndim))
        feature_dims = self._feature_axes(x)
        use = CURRENT if own or self.running_mean is None else self.inference
        pools = None if ranks is not None or (update and use != CURRENT) else self._pools(use, x)
        if pools is not None:
            return self._pooled(x, pools, use, ALONE, update)
        wide = x.to(compute_dtype(x.dtype))
        m: float | Tensor = x.shape[0] if ranks is None else ranks.count(x.shape[0], x).to(wide.dtype)
        need_batch = update or "current" in (use.batch_mean, use.batch_var)
        need_feature = update or "current" in (use.feature_mean, use.feature_var)
        batch = moments(wide, batch_dims, ranks) if need_batch else None
        feature = moments(wide, feature_dims) if need_feature else None
        x_b = standardize(
            wide,
            self._choose(use.batch_mean, batch and batch[0], self.running_mean, wide),
            self._choose(use.batch_var, batch and batch[1], self.running_var, wide),
            self.eps,
        )
        x_f = standardize(
            wide,
            self._choose(use.feature_mean, feature and feature[0], self.running_feature_mean, wide),
            self._choose(use.feature_var, feature and feature[1], self.running_feature_var, wide),
            self.eps,
        )
        if update and batch is not None and feature is not None:
            self._learn(x, batch, feature, batch_dims, feature_dims, ranks)
        if self.authors:
            y = (x_f * (1 / m - 1e-4) + x_b * (1 - (1 / m + 1e-4))) / self.num_features**0.5
        else:
            y = x_f / m + x_b * (1 - 1 / m)
        return self._scale_shift(y, x.dtype)

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor | None:
        """See ChannelNorm.fused."""
        self._check(x)
        pools = self._pools(CURRENT, x)
        if pools is None or (not own and self.running_mean is not None) or self._sharing() is not None:
            return None
        return self._pooled(x, pools, CURRENT, beside, self._follows(x, update))

    def _pools(self, use: InferenceStatistics, x: Tensor) -> tuple[Pool, ...] | None:
        """Return the pools of moments to take from x where they, and running statistics beside them, say all."""
        whole = self.feature_dims is None or sorted(set(self.feature_dims)) == list(range(1, x.ndim))
        if self.authors or not whole or use.batch_mean != use.batch_var:
            return None
        if (use.feature_mean, use.feature_var) != ("current", "current"):
            return None
        m = x.shape[0]
        feature = Pool(1, None, 1 / m)
        return (Pool(None, 1, 1 - 1 / m), feature) if use.batch_mean == "current" else (feature,)

    def _pooled(
        self, x: Tensor, pools: tuple[Pool, ...], use: InferenceStatistics, beside: Beside, update: bool
    ) -> Tensor:
        """Return x normalized by the pools and, where they lack the batch's, by the running statistics."""
        given = None
        if use.batch_mean == "population":
            assert self.running_mean is not None
            assert self.running_var is not None
            dtype = compute_dtype(x.dtype)
            inverse = torch.rsqrt(snapshot(self.running_var, dtype) + self.eps)
            given = (snapshot(self.running_mean, dtype), inverse * (1 - 1 / x.shape[0]))
        y, *cells = pooled_norm(
            x, self.weight, self.bias, pools, eps=self.eps, given=given, kernel=self.kernel, beside=beside
        )
        if update:
            with torch.no_grad():
                batch = over_batch(*cells)
                feature = over_sample(*cells)
            self._learn(x, batch, feature, (0, *range(2, x.ndim)), tuple(range(1, x.ndim)), None, beside.gate)
        return y

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        form = "authors=True" if self.authors else f"feature_dims={self.feature_dims}"
        return f"{super().extra_repr()}, {form}"

    def _feature_axes(self, x: Tensor) -> tuple[int, ...]:
        if self.authors:
            return (1,)
        dims = tuple(range(1, x.ndim)) if self.feature_dims is None else self.feature_dims
        if max(dims) >= x.ndim:
            raise InputError(f"expected an input with the axes feature_dims={dims}; got shape {tuple(x.shape)}")
        return dims

    def _choose(self, origin: Origin, current: Tensor | None, running: Tensor | None, x: Tensor) -> Tensor:
        if origin == "current":
            assert current is not None
            return current
        assert running is not None
        if running.ndim > 1 and any(k not in (1, n) for k, n in zip(running.shape, x.shape, strict=True)):
            raise InputError(
                f"expected a batch that fits the population statistics of shape {tuple(running.shape)}; "
                f"got {tuple(x.shape)}: authors=True keeps them for one batch shape; use that batch size, or "
                "inference=InferenceStatistics(...) with 'current' statistics"
            )
        return per_channel(snapshot(running, x.dtype), x.ndim)

    def _learn(
        self,
        x: Tensor,
        batch: tuple[Tensor, Tensor],
        feature: tuple[Tensor, Tensor],
        batch_dims: tuple[int, ...],
        feature_dims: tuple[int, ...],
        ranks: Ranks | None,
        gate: Tensor | None = None,
    ) -> None:
        """Move the population statistics toward this batch's."""
        n_batch, n_feature = values_per_channel(x, batch_dims), values_per_channel(x, feature_dims)
        if self.authors:
            n_batch = n_feature = x.shape[0]
            self._fit_shapes(batch[0].shape, feature[0].shape)
            factor = n_batch / (n_batch - 1) if n_batch > 1 else 1.0
            self._update(
                running_mean=batch[0],
                running_var=batch[1] * factor,
                running_feature_mean=feature[0],
                running_feature_var=feature[1] * factor,
            )
            return
        self._update(
            gate,
            running_mean=batch[0],
            running_var=unbiased(batch[1], n_batch, ranks),
            running_feature_mean=average(feature[0], range(x.ndim), ranks),
            running_feature_var=unbiased(average(feature[1], range(x.ndim), ranks), n_feature),
        )

    def _fit_shapes(self, batch: torch.Size, feature: torch.Size) -> None:
        """Give the buffers of the released form the shapes of the first batch; refuse any other."""
        for name, shape in (("mean", batch), ("var", batch), ("feature_mean", feature), ("feature_var", feature)):
            running = self.get_buffer(f"running_{name}")
            if running.ndim == 0:
                self._buffers[f"running_{name}"] = running.new_zeros(shape)
            elif running.shape != shape:
                raise InputError(
                    f"expected training batches of one shape with authors=True (running_{name} has "
                    f"{tuple(running.shape)}); got one that needs {tuple(shape)}: use drop_last=True, or the "
                    "default form"
                )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        state = dict(state_dict) if not isinstance(state_dict, dict) else state_dict
        for name in ("mean", "var", "feature_mean", "feature_var"):
            buffer, key = self._buffers.get(f"running_{name}"), f"{prefix}running_{name}"
            if buffer is None:
                continue
            if key not in state and "feature" in name:
                state[key] = buffer.detach().clone()  # a state_dict of torch.nn.BatchNorm
            elif self.authors and key in state and state[key].shape != buffer.shape:
                self._buffers[f"running_{name}"] = buffer.new_zeros(state[key].shape)
        super()._load_from_state_dict(state, prefix, *args, **kwargs)
