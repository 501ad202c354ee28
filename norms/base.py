"""What all norm layers share: checks, the affine step, running statistics."""

import torch
from torch import Tensor, nn

from norms.beside import Beside, after
from norms.dispatch import choose
from norms.errors import InputError, OptionError
from norms.ranks import Ranks
from norms.statistics import compute_dtype, per_channel, update_running


class ChannelNorm(nn.Module):
    """A norm of (N, C, *) inputs, any rank >= 2, with gamma and beta of shape (C,).

    Subclasses implement `normalize`. A norm whose samples do not share statistics ignores its two flags.

    Args:
        num_features: C.
        eps: added to the variance.
        affine: learn gamma (`weight`, starts at 1) and beta (`bias`, starts at 0).
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    Raises:
        OptionError: num_features < 1 or eps < 0.
    """

    weight: Tensor | None
    bias: Tensor | None
    kernel: str | None = None
    """A path of norms/dispatch.py that this layer is to take; None: as the setting says, or as fits the input."""

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise OptionError(f"expected num_features >= 1; got {num_features}: pass the length of the input's axis 1")
        if not eps >= 0:
            raise OptionError(f"expected eps >= 0; got {eps}: 1e-5 is usual")
        self.num_features = num_features
        self.eps = eps
        self.affine = affine
        for name, fill in (("weight", 1.0), ("bias", 0.0)):
            values = torch.full((num_features,), fill, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(values) if affine else None)

    def forward(self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return x normalized, plus `residual`, then the relu; same shape and dtype.

        With either, the kernels for CUDA (where they are taken) do all in the same readings of x, and a compiler fuses
        it; elsewhere a sum and a relu follow the norm, which on a CPU is the faster.

        Args:
            x: shape (N, C, *).
            residual: shape of x; added to the normalized input.
            relu: apply max(0, .) last.

        Raises:
            InputError: rank < 2, another number of channels, no samples, an integer dtype, or a residual of another
                shape.
        """
        if residual is None and not relu:
            return self.normalize(x, own=self.training, update=self.training)
        beside = after(x, residual, relu)
        by_kernels = choose(x, self.kernel).path == "triton"
        y = self.fused(x, beside, own=self.training, update=self.training) if by_kernels else None
        return beside.behind(self.normalize(x, own=self.training, update=self.training)) if y is None else y

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized, whatever the module's mode.

        Args:
            x: shape (N, C, *).
            own: use the statistics of x rather than running ones.
            update: move the running statistics toward those of x.
        """
        raise NotImplementedError

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor | None:
        """Return x normalized, with what is beside the norm done in the same readings; None where it cannot be.

        For the path "triton", whose kernels do it.

        Args:
            x: shape (N, C, *).
            beside: residual, relu, gate.
            own: as in `normalize`.
            update: as in `normalize`; where the gate is shut nothing moves.
        """
        return None

    def population(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return running mean, running variance and the number of batches they saw, or None without them."""
        return None

    def reset_parameters(self) -> None:
        """Set gamma to 1 and beta to 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"

    def _check(self, x: Tensor) -> None:
        check_input(x, self.num_features)

    def _scale_shift(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Return gamma y + beta in `dtype`."""
        if self.weight is not None:
            y = y * per_channel(self.weight.to(y.dtype), y.ndim)
        if self.bias is not None:
            y = y + per_channel(self.bias.to(y.dtype), y.ndim)
        return y.to(dtype)


def check_input(x: Tensor, num_features: int) -> None:
    """Raise InputError unless x is a floating (N, C, *) tensor with C = num_features and N >= 1."""
    if x.ndim < 2 or x.shape[1] != num_features:
        raise InputError(
            f"expected an input (N, {num_features}, *); got shape {tuple(x.shape)}: axis 1 must hold the channels"
        )
    if not x.is_floating_point():
        raise InputError(f"expected a floating-point input; got {x.dtype}: convert with x.float()")
    if x.shape[0] == 0:
        raise InputError(f"expected at least one sample; got shape {tuple(x.shape)}: leave empty batches out")


class RunningNorm(ChannelNorm):
    """A ChannelNorm whose samples share statistics, with running ones for inference.

    Buffers as in torch.nn.BatchNorm: running_mean and running_var (unbiased) of shape (C,),
    num_batches_tracked. They are updated in place and never take up a value that is not finite.

    `synchronize(model)` sets `ranks`, the processes whose batches are one batch in training.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None: plain average of all batches.
        affine: learn gamma and beta.
        track_running_stats: keep running statistics; without them inference uses its own batch's.
        device: of parameters and buffers.
        dtype: of parameters and buffers.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    ranks: Ranks | None = None

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
        super().__init__(num_features, eps=eps, affine=affine, device=device, dtype=dtype)
        if momentum is not None and not 0 <= momentum <= 1:
            raise OptionError(
                f"expected momentum in [0, 1] or None; got {momentum}: it is the weight of the newest batch"
            )
        self.momentum = momentum
        self.track_running_stats = track_running_stats
        buffers = self._running_start(device, dtype) if track_running_stats else {}
        for name in buffers or ("running_mean", "running_var", "num_batches_tracked"):
            if name not in self._buffers:
                self.register_buffer(name, buffers.get(name))

    def _running_start(self, device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """Return the buffers before any batch."""
        return {
            "running_mean": torch.zeros(self.num_features, device=device, dtype=dtype),
            "running_var": torch.ones(self.num_features, device=device, dtype=dtype),
            "num_batches_tracked": torch.zeros((), device=device, dtype=torch.long),
        }

    def reset_running_stats(self) -> None:
        """Forget all batches seen."""
        if self.num_batches_tracked is None:
            return
        fresh = self._running_start(self.num_batches_tracked.device, None)
        for name, start in fresh.items():
            buffer = self.get_buffer(name)
            if buffer.shape == start.shape:
                buffer.copy_(start)  # in place: CUDA graphs and DistributedDataParallel hold on to the tensor
            else:
                self._buffers[name] = start.to(buffer.dtype)

    def reset_parameters(self) -> None:
        """Set gamma to 1, beta to 0, and forget all batches seen."""
        super().reset_parameters()
        self.reset_running_stats()

    def population(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return running mean, running variance and the number of batches they saw, or None without them."""
        if self.running_mean is None or self.running_var is None:
            return None
        assert self.num_batches_tracked is not None
        return self.running_mean, self.running_var, self.num_batches_tracked

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return f"{super().extra_repr()}, momentum={self.momentum}, track_running_stats={self.track_running_stats}"

    def _sharing(self) -> Ranks | None:
        """Return the ranks whose batches count with this one: in training, where there are others."""
        return self.ranks if self.ranks is not None and self.training and self.ranks.active else None

    def _follows(self, x: Tensor, update: bool) -> bool:
        """Return whether the running statistics are to follow the batch x.

        Not within a backward pass: a forward there is an activation checkpoint's second one.

        Raises:
            InputError: x is batched by vmap, so that no single update exists.
        """
        if not update or self.num_batches_tracked is None:
            return False
        if torch.compiler.is_compiling():
            return True
        if torch._C._functorch.is_batchedtensor(x):
            raise InputError(
                "expected no vmap around a norm that updates running statistics; got one: use eval mode, or "
                "track_running_stats=False"
            )
        return torch._C._current_graph_task_id() == -1

    @torch.no_grad()
    def _update(self, gate: Tensor | None = None, **new: Tensor | None) -> None:
        """Count one batch and move the named buffers toward `new`; None leaves a buffer as it is, a shut gate all."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1 if gate is None else gate)
        for name, value in new.items():
            if value is not None:
                running = self.get_buffer(name)
                update_running(running, value, self._update_factor(running.dtype), gate)

    def _update_factor(self, dtype: torch.dtype, ahead: int = 0) -> float | Tensor:
        """Return the weight of the newest batch, or of one `ahead`.

        For a plain average it is a 0-d tensor, so nothing synchronizes with the device.
        """
        if self.momentum is not None:
            return self.momentum
        assert self.num_batches_tracked is not None
        return 1 / (self.num_batches_tracked + ahead).to(compute_dtype(dtype))
