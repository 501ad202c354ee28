"""Settings of trained layers that are chosen on validation data."""

from collections.abc import Sequence
from typing import TypeVar

from torch import nn
from torch.nn import functional as F

from norms.batch_group import BatchGroupNorm
from norms.batch_layer import BatchLayerNorm, InferenceStatistics
from norms.errors import OptionError
from norms.validation import Batches, Choice, Loss, choose

Layer = TypeVar("Layer", bound=nn.Module)


def fit_inference_weight(
    model: nn.Module,
    loader: Batches,
    *,
    candidates: Sequence[float] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    loss: Loss = F.cross_entropy,
) -> Choice[float]:
    """Return the inference weight with the lowest validation loss, which all layers have now.

    For a network trained with batch norm, first `convert(model, "batch_group", examples_per_group=None,
    channels_per_group=1)`: with weight 0 that is the same network.

    Args:
        model: with BatchGroupNorm or GhostBatchNorm layers.
        loader: pairs (x, y), iterated once a candidate: a DataLoader or a list.
        candidates: weights in [0, 1].
        loss: mean over the samples of a batch.

    Raises:
        OptionError: no such layer, no candidate, a candidate out of range, no batch.

    Source: Summers & Dinneen, arXiv 1906.03548, section 3.1.

    >>> import torch
    >>> model = nn.Sequential(BatchGroupNorm(2, examples_per_group=None, channels_per_group=1))
    >>> batches = [(torch.randn(8, 2), torch.zeros(8, dtype=torch.long))]
    >>> fit_inference_weight(model, batches, candidates=(0.0,)).best
    0.0
    """
    layers = _layers(model, BatchGroupNorm, "batch_group")
    for weight in candidates:
        if not 0 <= weight <= 1:
            raise OptionError(f"expected candidates in [0, 1]; got {weight}")

    def apply(weight: float) -> None:
        for layer in layers:
            layer.inference_weight = weight

    return choose(model, loader, candidates, apply, loss)


def search_inference_statistics(
    model: nn.Module,
    loader: Batches,
    *,
    candidates: Sequence[InferenceStatistics] | None = None,
    loss: Loss = F.cross_entropy,
) -> Choice[InferenceStatistics]:
    """Return the inference statistics with the lowest validation loss, which all BLN layers have now.

    Args:
        model: with BatchLayerNorm layers.
        loader: pairs (x, y), iterated once a candidate: a DataLoader or a list. Use the batch size of
            inference: the weights and the "current" statistics depend on it.
        candidates: None: all 16.
        loss: mean over the samples of a batch.

    Raises:
        OptionError: no such layer, no candidate, no batch.

    Source: Ziaee & Cano, arXiv 2209.08898.

    >>> import torch
    >>> model = nn.Sequential(BatchLayerNorm(2))
    >>> batches = [(torch.randn(8, 2), torch.zeros(8, dtype=torch.long))]
    >>> len(search_inference_statistics(model, batches).losses)
    16
    """
    layers = _layers(model, BatchLayerNorm, "batch_layer")

    def apply(inference: InferenceStatistics) -> None:
        for layer in layers:
            layer.inference = inference

    tried = InferenceStatistics.choices() if candidates is None else candidates
    return choose(model, loader, tried, apply, loss)


def _layers(model: nn.Module, kind: type[Layer], name: str) -> list[Layer]:
    layers = [module for module in model.modules() if isinstance(module, kind)]
    if not layers:
        raise OptionError(
            f"expected a model with {kind.__name__} layers; got {type(model).__name__} without any: "
            f"convert(model, {name!r}, ...) makes them"
        )
    return layers
