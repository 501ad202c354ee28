"""Moments of a batch's features in torch, and what the rules take from them."""

import torch
from torch import Tensor

from norms.digamma import digamma as _digamma
from norms.errors import RuleError

FEATURE_AXES = ("element", "channel")


def arrange(x: Tensor, feature_axis: str) -> Tensor:
    """Return x as (samples, features) in the rule's dtype; channel: positions count as samples."""
    check_batch(x)
    wide = x.detach().to(float_dtype(x.device))
    return wide.flatten(1) if feature_axis == "element" else wide.movedim(1, -1).flatten(0, -2)


def feature_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance per column; exactly 0 where a column is constant."""
    first = values[:1]
    shifted = values - first
    mean = shifted.mean(0)
    shifted.sub_(mean)  # in place: half the time is allocation
    return mean + first[0], shifted.mul_(shifted).mean(0)  # not square_, which vmap does one by one


def varying_features(count: int, constant: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a mask, shape (count,): True but for the features listed as constant.

    Raises:
        RuleError: a listed feature does not exist.
    """
    if constant and max(constant) >= count:
        raise RuleError(
            f"expected a batch with at least {max(constant) + 1} features, for which the rule was made; got "
            f"{count}: put the gate in front of the model (adapt_input), where the plan looked"
        )
    if not constant:
        return torch.ones(count, dtype=torch.bool, device=device)
    mask = torch.ones(count, dtype=torch.bool)
    mask[list(constant)] = False
    return mask.to(device, non_blocking=True)


def undefined_below_two(score: Tensor, samples: int) -> Tensor:
    """Return the score, or NaN where there is no variance to speak of."""
    return score if samples >= 2 else torch.full_like(score, torch.nan)


def float_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that lacks it."""
    return torch.float32 if device.type == "mps" else torch.float64


def check_batch(x: Tensor) -> None:
    """Raise RuleError unless x has samples and at least one more axis."""
    if x.ndim < 2 or x.shape[0] == 0:
        raise RuleError(f"expected a batch (N, *) with N >= 1 and rank >= 2; got {tuple(x.shape)}")


def log(like: Tensor, value: float) -> Tensor:
    """Return the logarithm of a number, as a 0-d tensor of the same dtype and device."""
    return torch.full((), value, dtype=like.dtype, device=like.device).log()


def digamma(like: Tensor, value: float) -> Tensor:
    """Return digamma of a number, as a 0-d tensor of the same dtype and device."""
    return _digamma(torch.full((), value, dtype=like.dtype, device=like.device))
