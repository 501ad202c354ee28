"""Norms by name: one flat table, one class a variant."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from norms.base import ChannelNorm
from norms.batch import BatchNorm
from norms.batch_group import BatchGroupNorm, GhostBatchNorm
from norms.batch_layer import BatchLayerNorm
from norms.errors import OptionError, UnknownNormError
from norms.kalman import KalmanNorm
from norms.mean_only import MeanOnlyBatchNorm
from norms.per_sample import GroupNorm, InstanceNorm, LayerNorm, NoNorm, RMSNorm
from norms.population import PopulationNorm
from norms.scale import L1BatchNorm, LInfBatchNorm, TopKBatchNorm

Builder = Callable[..., nn.Module]

NORMS: dict[str, type[ChannelNorm]] = {
    "batch": BatchNorm,
    "layer": LayerNorm,
    "group": GroupNorm,
    "instance": InstanceNorm,
    "rms": RMSNorm,
    "batch_layer": BatchLayerNorm,
    "ghost_batch": GhostBatchNorm,
    "batch_group": BatchGroupNorm,
    "l1_batch": L1BatchNorm,
    "topk_batch": TopKBatchNorm,
    "linf_batch": LInfBatchNorm,
    "mean_only": MeanOnlyBatchNorm,
    "population": PopulationNorm,
    "kalman": KalmanNorm,
    "none": NoNorm,
}


def names() -> tuple[str, ...]:
    """Return the registered names.

    >>> "batch" in names()
    True
    """
    return tuple(NORMS)


def get(name: str) -> type[ChannelNorm]:
    """Return the class registered under `name`.

    Raises:
        UnknownNormError: no such norm; the message lists the known ones.
    """
    if name not in NORMS:
        raise UnknownNormError(f"expected a norm among: {', '.join(NORMS)}; got {name!r}")
    return NORMS[name]


def accepted(name: str) -> tuple[str, ...]:
    """Return the names of the options that `name` takes.

    >>> accepted("layer")
    ('eps', 'affine', 'device', 'dtype')
    """
    parameters = inspect.signature(get(name)).parameters
    return tuple(option for option in parameters if option != "num_features")


def create(name: str, num_features: int, **options: Any) -> nn.Module:
    """Return a new norm layer for inputs (N, C, *) of any rank >= 2.

    Args:
        name: one of `names()`.
        num_features: C, the length of axis 1.
        **options: of the class, e.g. eps, momentum, affine, track_running_stats, device, dtype.

    Raises:
        UnknownNormError: no such norm.
        OptionError: an option that this norm does not take; the message lists those it takes.

    >>> create("batch", 3)
    BatchNorm(3, eps=1e-05, affine=True, momentum=0.1, track_running_stats=True)
    """
    check_options(name, options)
    return get(name)(num_features, **options)


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise UnknownNormError or OptionError unless `name` is registered and takes these options."""
    unknown = [option for option in options if option not in accepted(name)]
    if unknown:
        takes = ", ".join(accepted(name)) or "none"
        raise OptionError(f"expected options of {name!r} among: {takes}; got {', '.join(unknown)}")
