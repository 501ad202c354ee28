"""Batch norm that takes off the mean and leaves the scale alone."""

from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from norms import halves
from norms.base import RunningNorm
from norms.dispatch import Path, choose, steps
from norms.errors import InputError
from norms.statistics import average, compute_dtype, per_channel, snapshot


class MeanOnlyBatchNorm(RunningNorm):
    """y = x - mu + beta, mu per channel over (N, *). There is no gamma; pair it with a bounded weight norm.

    `eps` is taken, as by every norm, and has no effect: nothing is divided.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Buffers: running_mean of shape (C,), num_batches_tracked.

    Raises:
        InputError: in training, one value per channel.

    Source: Salimans & Kingma, arXiv 1602.07868, section 4; Hoffer et al., arXiv 1803.01814, section 5.

    >>> MeanOnlyBatchNorm(1)(torch.tensor([[1.0], [5.0]])).tolist()
    [[-2.0], [2.0]]
    """

    def __init__(
        self,
        num_features: int,
        *,
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
        self.weight = None

    def _running_start(self, device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Tensor]:
        start = super()._running_start(device, dtype)
        del start["running_var"]
        return start

    def population(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return None: there is no running variance to tell flagged batches by."""
        return None

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x less its mean per channel; see ChannelNorm.normalize."""
        self._check(x)
        alone = (own or self.running_mean is None) and self._sharing() is None
        path = choose(x, self.kernel, pools=True).path
        if alone and path in ("blocks", "halves"):
            self._check_values(x)
            y, channel_mean = _Centred.apply(x, self.bias, path)  # type: ignore[no-untyped-call]  # torch has no types
            if self._follows(x, update):
                self._update(running_mean=channel_mean)
            return cast(Tensor, y)
        wide = x.to(compute_dtype(x.dtype))
        if not own and self.running_mean is not None:
            mean = per_channel(snapshot(self.running_mean, wide.dtype), x.ndim)
        else:
            ranks = self._sharing()
            if ranks is None:
                self._check_values(x)
            mean = average(wide, (0, *range(2, x.ndim)), ranks)
            if self._follows(x, update):
                self._update(running_mean=mean)
        return self._scale_shift(wide - mean, x.dtype)

    def _check_values(self, x: Tensor) -> None:
        if x.shape[0] * x.shape[2:].numel() < 2:
            raise InputError(
                f"expected more than one value per channel; got shape {tuple(x.shape)}: "
                "use larger batches (drop_last=True), or a norm that takes one sample (batch_layer, group)"
            )

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return (
            f"{self.num_features}, affine={self.affine}, momentum={self.momentum}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _Centred(torch.autograd.Function):
    """x - mu + beta by the steps of norms/blocks.py; backward the gradient less its mean. Of x nothing is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, path: Path) -> tuple[Tensor, Tensor]:
        ctx.path, ctx.like = path, None if bias is None else bias.dtype
        y, mean = _centre(x, bias, steps(path))
        ctx.mark_non_differentiable(mean)
        ctx.set_materialize_grads(False)
        return y, mean

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, unused: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return None, None, None
        if torch.is_grad_enabled():  # to be differentiated again
            wide = g.to(compute_dtype(g.dtype))
            mean = average(wide, (0, *range(2, g.ndim)))
            dx = (wide - mean).to(g.dtype)
        else:
            dx, mean = _centre(g, None, steps("halves" if ctx.path == "halves" and halves.takes(g) else "blocks"))
        values = g.shape[0] * g.shape[2:].numel()
        return dx, None if ctx.like is None else (mean.flatten() * values).to(ctx.like), None


def _centre(x: Tensor, bias: Tensor | None, does: ModuleType) -> tuple[Tensor, Tensor]:
    """Return x - mu + beta, and mu, (1, C, 1, ...)."""
    cells: Tensor = does.means(x)
    mean = cells.mean(0, keepdim=True)
    shift = torch.zeros_like(mean) if bias is None else per_channel(bias.to(mean.dtype), x.ndim)
    return does.apply(x, mean.expand_as(cells), torch.ones_like(cells), shift.expand_as(cells)), mean
