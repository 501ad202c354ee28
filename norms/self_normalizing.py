"""Turn a network into a self-normalizing one: SELU, alpha dropout, weights of variance 1/fan_in, no norms."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from norms.adapted_input import AdaptedInput
from norms.adaptive import AdaptiveNorm
from norms.channels_last import ChannelsLast
from norms.conversion_report import Row, table
from norms.errors import OptionError
from norms.sources import TORCH_NORMS, describe

# Hidden activations. Sigmoid, softmax and the like are gates or outputs, and stay.
ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Softplus,
    nn.Tanh,
)
CHANNEL_DROPOUTS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@dataclass
class SelfNormalization:
    """A self-normalizing model, and what was done. `str()` gives the report as a table.

    Attributes:
        model: the model, with new weights.
        report: a row for every activation, dropout, norm and layer that was looked at.
    """

    model: nn.Module
    report: tuple[Row, ...]

    def __str__(self) -> str:
        """Return the report as an aligned table."""
        return table(self.report)


def self_normalize(
    model: nn.Module,
    *,
    where: Callable[[str, nn.Module], bool] | None = None,
    inplace: bool = False,
    generator: torch.Generator | None = None,
) -> SelfNormalization:
    """Return the model made self-normalizing, untrained: its weights are drawn anew.

    Activation modules become SELU, Dropout becomes AlphaDropout and channel dropout FeatureAlphaDropout with the
    same p, norms become identities, weights of linear and convolution layers are drawn from N(0, 1/fan_in),
    biases are 0. Input must be standardized; a gate in front (adapt_input) is left alone and may do so. What a
    model calls as functions (torch.relu in its forward) cannot be seen or swapped: the report lists what was.

    Args:
        model: any module.
        where: called with path and module of each candidate; change it or not.
        inplace: change `model` itself rather than a copy.
        generator: of the new weights, on the model's device.

    Raises:
        OptionError: no linear or convolution layer.

    Source: Klambauer, Unterthiner, Mayr & Hochreiter, arXiv 1706.02515.

    >>> model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.1))
    >>> print(self_normalize(model))
    path  from         to            changed  reason
    0     Linear       Linear        yes      drawn anew, variance 1/8
    1     BatchNorm1d  Identity      yes      norm removed
    2     ReLU         SELU          yes      activation
    3     Dropout      AlphaDropout  yes      dropout
    """
    model = model if inplace else copy.deepcopy(model)
    if not any(isinstance(module, LAYERS) for module in model.modules()):
        raise OptionError(f"expected linear or convolution layers; got {type(model).__name__} without any")
    rows: list[Row] = []
    made: dict[int, tuple[nn.Module, str]] = {}

    def visit(module: nn.Module, path: str) -> nn.Module:
        change = made.get(id(module)) or _counterpart(module)
        if change is not None and where is not None and not where(path, module):
            change = module, "left out by where"
        if change is not None:
            new, reason = change
            changed = new is not module or reason.startswith("drawn")
            if new is module and changed and id(module) not in made:
                _draw(module, generator)
            made[id(module)] = new.train(module.training), reason
            rows.append(Row(path, type(module).__name__, type(new).__name__, changed, reason))
            return new
        for name, child in module._modules.items():
            if child is not None and not (isinstance(module, AdaptedInput) and name == "gate"):
                setattr(module, name, visit(child, f"{path}.{name}" if path else name))
        return module

    model = visit(model, "")
    return SelfNormalization(model, tuple(rows))


def _counterpart(module: nn.Module) -> tuple[nn.Module, str] | None:
    """Return what takes the module's place and why, or None where there is nothing to do here."""
    if isinstance(module, LAYERS):
        return module, f"drawn anew, variance 1/{_fan_in(module)}"
    if isinstance(module, ACTIVATIONS):
        return nn.SELU(), "activation"
    if isinstance(module, CHANNEL_DROPOUTS):
        return nn.FeatureAlphaDropout(module.p), "dropout"
    if isinstance(module, nn.Dropout):
        return nn.AlphaDropout(module.p), "dropout"
    if isinstance(module, AdaptiveNorm | ChannelsLast):
        return nn.Identity(), "norm removed"
    source = describe(module)
    if source is None:
        return None
    if source.refusal and type(module) not in TORCH_NORMS:
        return module, source.refusal
    return nn.Identity(), "norm removed"


def _fan_in(layer: nn.Module) -> int:
    """Return how many inputs one output of the layer sums over."""
    weight = layer.get_parameter("weight")
    if isinstance(layer, TRANSPOSED):
        # Each output is reached by a 1/stride part of the kernel, from the input channels of its group.
        reached = weight.shape[2:].numel() / prod(layer.stride)
        return max(1, round(weight.shape[0] / layer.groups * reached))
    return weight.shape[1:].numel()


def _draw(layer: nn.Module, generator: torch.Generator | None) -> None:
    nn.init.normal_(layer.get_parameter("weight"), 0.0, _fan_in(layer) ** -0.5, generator=generator)
    bias = layer._parameters.get("bias")
    if bias is not None:
        nn.init.zeros_(bias)
