"""The networks: an MLP, a ConvNet, a ResNet and an LSTM, each small, with a slot wherever a norm may sit."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 64
CELL = 32
CHANNELS = (8, 16)
NAMES = ("mlp", "convnet", "resnet", "lstm")

Slot = Callable[[int], nn.Module]
"""Makes what sits in a slot of so many channels."""


class InputSlot(nn.Module):
    """A norm over the elements of each sample, flattened, or over its channels (`by_channel`)."""

    def __init__(self, norm: nn.Module, *, by_channel: bool) -> None:
        super().__init__()
        self.norm = norm
        self.by_channel = by_channel

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized, of the same shape."""
        y: Tensor = self.norm(x) if self.by_channel else self.norm(x.flatten(1)).reshape(x.shape)
        return y


class Block(nn.Module):
    """Two 3x3 convolutions with norms, and a projection beside them."""

    def __init__(self, inputs: int, outputs: int, stride: int, slot: Slot) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm1 = slot(outputs)
        self.relu1 = nn.ReLU()
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm2 = slot(outputs)
        self.beside = nn.Conv2d(inputs, outputs, 1, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(two convolutions of x + its projection)."""
        inner = self.relu1(self.norm1(self.first(x)))
        y: Tensor = self.relu2(self.norm2(self.second(inner)) + self.beside(x))
        return y


class NormLSTM(nn.Module):
    """An LSTM whose gates' pre-activations are normalized at every step; from (N, T, F) to the last state (N, H).

    The norm is one, shared by all steps, over the 4 H pre-activations of input and state together (as in Ba, Kiros &
    Hinton, arXiv 1607.06450, section 3.1, with one norm for both). The forget gate's bias starts at 1.
    """

    def __init__(self, inputs: int, hidden: int, slot: Slot) -> None:
        super().__init__()
        self.hidden = hidden
        self.of_input = nn.Linear(inputs, 4 * hidden)
        self.of_state = nn.Linear(hidden, 4 * hidden, bias=False)
        self.norm = slot(4 * hidden)
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        with torch.no_grad():
            self.bias[hidden : 2 * hidden] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the state after the last step."""
        projected = self.of_input(x).unbind(1)
        state = cell = x.new_zeros(x.shape[0], self.hidden)
        for step in projected:
            enter, forget, out, new = (self.norm(step + self.of_state(state)) + self.bias).chunk(4, 1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            state = out.sigmoid() * cell.tanh()
        return state


def build(network: str, shape: tuple[int, ...], classes: int, slot: Slot) -> nn.Sequential:
    """Return a network; the global random numbers of torch make its weights.

    Args:
        network: "mlp", "convnet", "resnet" or "lstm".
        shape: of a sample: any; (C, H, W); (C, H, W); (T, F).
        classes: outputs.
        slot: makes what sits in each hidden slot, given its channels.

    Raises:
        ValueError: an unknown network, or samples that do not fit it.

    >>> build("mlp", (4,), 3, lambda channels: nn.Identity())(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    axes = {"convnet": 3, "resnet": 3, "lstm": 2}.get(network, len(shape))
    if network not in NAMES or axes != len(shape):
        raise ValueError(
            f"expected a network among: {', '.join(NAMES)}, with samples (C, H, W) for convnet and resnet and (T, F) "
            f"for lstm; got {network!r} with samples of shape {shape}"
        )
    if network == "mlp":
        first = [nn.Flatten(), nn.Linear(prod(shape), HIDDEN), slot(HIDDEN), nn.ReLU()]
        return nn.Sequential(*first, nn.Linear(HIDDEN, HIDDEN), slot(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
    if network == "lstm":
        return nn.Sequential(NormLSTM(shape[1], CELL, slot), nn.Linear(CELL, classes))
    small, large = CHANNELS
    stem: list[nn.Module] = [nn.Conv2d(shape[0], small, 3, 1, 1), slot(small), nn.ReLU()]
    if network == "convnet":
        body: list[nn.Module] = [nn.Conv2d(small, large, 3, 2, 1), slot(large), nn.ReLU()]
    else:
        body = [Block(small, small, 1, slot), Block(small, large, 2, slot)]
    side = 4 if network == "convnet" else 2
    return nn.Sequential(*stem, *body, _Pool(side), nn.Flatten(), nn.Linear(large * side * side, classes))


class _Pool(nn.Module):
    """The mean over the cells of a square grid, by the operator that is fastest for the size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.side)
