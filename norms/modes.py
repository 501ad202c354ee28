"""A norm applied with the statistics of its input, or with running ones, whatever its mode."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from norms.base import ChannelNorm
from norms.errors import GateError
from norms.rules import float_dtype, varying_features
from norms.statistics import per_channel

CONSTANT = 4 * torch.finfo(torch.float32).eps


def with_own_statistics(norm: nn.Module, x: Tensor) -> Tensor:
    """Return norm(x) from the statistics of x; no running statistic moves."""
    if isinstance(norm, ChannelNorm):
        return norm.normalize(x, own=True, update=False)
    if isinstance(norm, _BatchNorm):
        return F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
    return _in_mode(norm, x, training=True)


def with_running_statistics(norm: nn.Module, x: Tensor) -> Tensor:
    """Return norm(x) from the running statistics of norm, which do not move."""
    if isinstance(norm, ChannelNorm):
        return norm.normalize(x, own=False, update=False)
    return _in_mode(norm, x, training=False)


def update_where(condition: Tensor, norm: nn.Module, x: Tensor) -> Tensor:
    """Return norm(x) in the norm's own mode; its buffers move only where the 0-d `condition` is true.

    The forward runs on copies of the buffers: autograd may save those, so the real ones can be written.
    """
    real = dict(norm.named_buffers())
    copies = {name: buffer.clone() for name, buffer in real.items()}
    y = cast(Tensor, functional_call(norm, copies, (x,)))
    with torch.no_grad():
        for name, buffer in real.items():
            buffer.copy_(torch.where(condition, copies[name], buffer))
    return y


def population(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return running mean, running variance and number of batches seen; None where norm has none."""
    if isinstance(norm, ChannelNorm):
        return norm.population()
    found = [getattr(norm, n, None) for n in ("running_mean", "running_var", "num_batches_tracked")]
    return cast(tuple[Tensor, Tensor, Tensor], tuple(found)) if None not in found else None


def looks_flagged(norm: nn.Module, x: Tensor, constant: tuple[int, ...] = ()) -> Tensor:
    """Return whether x is likelier under the flagged batches' running statistics than under N(0, 1).

    True where the mean over elements of ( x^2 - (x - rm)^2 / rv - ln rv ) / 2 is above 0. Over flagged data
    the expectation of that mean is D, the divergence that the rule `need` measures. Features that are
    constant in them are left out. False where no flagged batch has been seen, and for a norm without running
    statistics.

    Args:
        norm: of C features.
        x: shape (N, C, *), of any N, 1 included.
        constant: features that are constant in the dataset; left out.

    Returns:
        A 0-d bool tensor.
    """
    known = population(norm)
    if known is None:
        return torch.zeros((), dtype=torch.bool, device=x.device)
    mean, variance, seen = known
    with torch.no_grad():
        wide = x.detach().to(float_dtype(x.device))
        mean = per_channel(mean, x.ndim).to(wide.dtype)
        variance = per_channel(variance, x.ndim).to(wide.dtype)
        # Rounding leaves a constant feature a variance of some units in the last place of its mean.
        alive = variance > (CONSTANT * mean).square()
        if constant:
            varying = varying_features(x.shape[1], constant, x.device)
            alive = alive & per_channel(varying, x.ndim)
        variance = torch.where(alive, variance, 1.0)
        ratio = wide.square() - (wide - mean).square() / variance - torch.log(variance)
        ratio = torch.where(alive, ratio, 0.0)
        return (ratio.sum() > 0) & (seen > 0)


def _in_mode(norm: nn.Module, x: Tensor, *, training: bool) -> Tensor:
    """Return norm(x) with `training` set for the call, on copies of its buffers."""
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    if not buffers:
        return cast(Tensor, norm(x))
    modes = [(module, module.training) for module in norm.modules()]
    try:
        norm.train(training)
        return cast(Tensor, functional_call(norm, buffers, (x,)))
    finally:
        for module, mode in modes:
            module.training = mode


def require_running_statistics(norm: nn.Module, purpose: str) -> None:
    """Raise GateError where norm keeps no running statistics, which `purpose` needs."""
    if population(norm) is None:
        raise GateError(
            f"expected a norm with running statistics for {purpose}; got {norm}: use 'batch' or "
            "'batch_layer' with track_running_stats=True"
        )
