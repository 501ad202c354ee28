"""What a conversion reads from the norm it replaces."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from norms.base import ChannelNorm
from norms.registry import NORMS, accepted
from norms.with_activation import channels_first, is_known

BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
TORCH_NORMS = (*BATCH, *INSTANCE, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
LAZY = (nn.modules.batchnorm._LazyNormBase,)


@dataclass(frozen=True)
class Source:
    """A norm that may be replaced.

    Attributes:
        module: the norm.
        kind: its registered name.
        num_features: C.
        options: those of its options that a registered norm may take.
        channels_last: it normalizes the last axis.
        refusal: why it cannot be replaced, or empty.
    """

    module: nn.Module
    kind: str = ""
    num_features: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    channels_last: bool = False
    refusal: str = ""


def describe(module: nn.Module) -> Source | None:
    """Return what is to be known of the norm `module`, or None where it is no norm."""
    if isinstance(module, ChannelNorm):
        kind = next((name for name, norm in NORMS.items() if norm is type(module)), None)
        if kind is None:
            return Source(module, refusal="a class that is not registered")
        options = {k: getattr(module, k) for k in accepted(kind) if hasattr(module, k)}
        return Source(module, kind, module.num_features, options | _placement(module))
    if isinstance(module, LAZY):
        return Source(module, refusal="not initialized: call the model once, then convert")
    if not isinstance(module, TORCH_NORMS):
        return None
    if type(module) not in TORCH_NORMS and not is_known(module):
        base = next(c.__name__ for c in type(module).__mro__ if c in TORCH_NORMS)
        return Source(module, refusal=f"a subclass of {base}, which may do more than normalize")
    return _describe_torch(module)


def _describe_torch(module: nn.Module) -> Source:
    common = _placement(module)
    if isinstance(module, (*BATCH, *INSTANCE)):
        kind = "batch" if isinstance(module, BATCH) else "instance"
        options: dict[str, Any] = {"eps": module.eps, "affine": module.affine}
        if kind == "batch":
            options |= {"momentum": module.momentum, "track_running_stats": module.track_running_stats}
        return Source(module, kind, module.num_features, options | common)
    if isinstance(module, nn.GroupNorm):
        options = {"eps": module.eps, "affine": module.affine, "num_groups": module.num_groups}
        return Source(module, "group", module.num_channels, options | common)
    assert isinstance(module, nn.LayerNorm | nn.RMSNorm)
    kind, shape = ("layer" if isinstance(module, nn.LayerNorm) else "rms"), module.normalized_shape
    if len(shape) != 1:
        return Source(
            module, refusal=f"over {len(shape)} axes {tuple(shape)}, with one weight an element, not a channel"
        )
    eps = {} if module.eps is None else {"eps": module.eps}
    options = {**eps, "affine": module.elementwise_affine}
    return Source(module, kind, shape[0], options | common, channels_last=not channels_first(module))


def _placement(module: nn.Module) -> dict[str, Any]:
    """Return device and dtype of the module's floating tensors, where it has any."""
    tensors = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        if tensor.is_floating_point():
            return {"device": tensor.device, "dtype": tensor.dtype}
    return {}


def carry(old: nn.Module, new: nn.Module) -> tuple[set[str], set[str]]:
    """Hand the parameters and buffers of one norm to another, where name, shape and meaning are the same.

    Parameters and buffers are handed over as objects, so optimizers keep them.

    Returns:
        Names that `new` has no use for, and names that are new in it.
    """
    kept = set()
    for name, value in old._parameters.items():
        mine = new._parameters.get(name)
        if value is not None and mine is not None and mine.shape == value.shape:
            new._parameters[name] = value
            kept.add(name)
    # The running statistics of instance norm average over samples, not over the batch.
    for name, buffer in old._buffers.items() if not isinstance(old, INSTANCE) else ():
        mine_too = new._buffers.get(name)
        if buffer is not None and mine_too is not None and mine_too.shape == buffer.shape:
            new._buffers[name] = buffer
            kept.add(name)
    return _tensor_names(old) - kept, _tensor_names(new) - kept


def _tensor_names(module: nn.Module) -> set[str]:
    tensors: dict[str, torch.Tensor | None] = {**module._parameters, **module._buffers}
    return {name for name, value in tensors.items() if value is not None}
