"""The networks that only claims need: a LeNet, a deep MLP, and a batch norm that takes any batch."""

import torch
from torch import Tensor, nn

from benchmarks.study.networks import Slot
from norms.statistics import moments, per_channel, standardize


class UnguardedBatchNorm(nn.Module):
    """Batch norm that takes batches with one value a channel too, as the papers' frameworks do: its output is beta.

    This package's `batch` refuses such a batch, since no input reaches the output. Running variance is biased, since
    the unbiased one of a single value does not exist.

    Shape: (N, C, *), to the same.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized per channel: in training by the batch's moments, else by the running ones."""
        mean, variance = per_channel(self.running_mean, x.ndim), per_channel(self.running_var, x.ndim)
        if self.training:
            mean, variance = moments(x, (0, *range(2, x.ndim)))
            with torch.no_grad():
                self.running_mean.lerp_(mean.flatten(), 0.1)
                self.running_var.lerp_(variance.flatten(), 0.1)
        y = standardize(x, mean, variance, self.eps)
        return y * per_channel(self.weight, x.ndim) + per_channel(self.bias, x.ndim)


def lenet(channels: int, classes: int, slot: Slot) -> nn.Sequential:
    """Return a LeNet for images (N, channels, 8, 8): two convolutions with pooling, a dense layer, norms behind all."""
    first = [nn.Conv2d(channels, 8, 3, 1, 1), slot(8), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(8, 16, 3, 1, 1), slot(16), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Flatten(), nn.Linear(64, 32), slot(32), nn.ReLU()]
    return nn.Sequential(*first, *second, *dense, nn.Linear(32, classes))


def deep_mlp(inputs: int, classes: int, depth: int, slot: Slot | None) -> nn.Sequential:
    """Return an MLP with `depth` hidden layers of 48 and ReLU; linear weights are drawn from N(0, 2/fan_in)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        linear = nn.Linear(inputs if i == 0 else 48, 48)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, *([] if slot is None else [slot(48)]), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(48, classes))
