"""A prior on its way from one Kalman norm to the next: through activations, convolutions and residual sums."""

from collections.abc import Callable
from functools import cache
from math import pi, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "tanh": torch.tanh,
    "selu": torch.selu,
}
CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
# For a linear layer there are no positions to take the moments over; so many draws stand in for them.
LINEAR_DRAWS = 128


class State(NamedTuple):
    """Mean and variance per group and channel, shape (groups, C), of values that then go through `activation`."""

    mean: Tensor
    variance: Tensor
    activation: str | None = None


def activate(state: State | None, name: str) -> State | None:
    """Return the state behind an activation, which is applied when the next layer needs it."""
    return None if state is None else settle(state)._replace(activation=name)


def settle(state: State) -> State:
    """Return mean and variance behind the pending activation, for a normal variable before it.

    relu in closed form; others by Gauss-Hermite quadrature with 32 nodes, to about 1e-3.

    >>> round(settle(State(torch.zeros(1, 1), torch.ones(1, 1), "relu")).mean.item(), 4)  # 1 / sqrt(2 pi)
    0.3989
    """
    mean, variance, name = state
    if name is None:
        return state
    std = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()
    if name == "relu":
        z = mean / std
        density = torch.exp(-z.square() / 2) / sqrt(2 * pi)
        below = torch.special.ndtr(z)
        first = mean * below + std * density
        second = (mean.square() + variance) * below + mean * std * density
        return State(first, (second - first.square()).clamp(min=0))
    nodes, weights = (v.to(mean) for v in normal_quadrature(32))
    values = ACTIVATIONS[name](mean[..., None] + std[..., None] * nodes)
    first = (values * weights).sum(-1)
    return State(first, ((values - first[..., None]).square() * weights).sum(-1))


@cache
def normal_quadrature(count: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights, shape (count,), float64: E[f(z)] is about sum weights f(nodes), z ~ N(0, 1).

    Golub & Welsch (1969): eigenvalues, and squared first components of the eigenvectors, of the matrix of the
    three-term recurrence of the Hermite polynomials.

    >>> nodes, weights = normal_quadrature(8)
    >>> round((weights * nodes**4).sum().item(), 9)
    3.0
    """
    off = torch.arange(1, count, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0].square()


def add(a: State | None, b: State | None) -> State | None:
    """Return the state of a residual sum: means and variances add."""
    if a is None or b is None:
        return None
    a, b = settle(a), settle(b)
    return State(a.mean + b.mean, a.variance + b.variance)


def through(
    state: State | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    options: dict[str, Any] | None,
    sampled: bool,
) -> State | None:
    """Return the state behind a convolution or linear layer.

    Args:
        state: in front of the layer.
        x: the layer's input, for its shape.
        weight: of the layer.
        bias: of the layer.
        options: stride, padding, dilation, groups; None: a linear layer.
        sampled: as released: draw z ~ N(0, 1) shaped like one image, send activation(mean + std z)
            through the layer and take the moments over its positions. Otherwise the same expectation in closed form:
            mean and variance behind the activation, through the weights and their squares, inputs taken as
            independent; zeros that pad the border count as they do in the layer.
    """
    if state is None or (options is None and x.ndim != 2):
        return None
    positions = x.shape[2:]
    dtype = torch.promote_types(weight.dtype, torch.float32)
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)

    def layer(values: Tensor, kernel: Tensor, offset: Tensor | None) -> Tensor:
        if options is None:
            return F.linear(values, kernel, offset)
        return CONVOLUTIONS[x.ndim](values, kernel, offset, **options)

    with torch.autocast(x.device.type, enabled=False):
        if sampled:
            return _sample(state, positions, dtype, lambda values: layer(values, weight, bias))
        state = settle(state)
        mean = layer(_image(state.mean.to(dtype), positions), weight, bias)
        variance = layer(_image(state.variance.to(dtype), positions), weight.square(), None)
    if not positions:
        return State(mean, variance)
    # Border positions have other means: their spread is variance too.
    spread, mean = torch.var_mean(mean.flatten(2), 2, correction=0)
    return State(mean, variance.flatten(2).mean(2) + spread)


def _sample(state: State, positions: torch.Size, dtype: torch.dtype, layer: Callable[[Tensor], Tensor]) -> State:
    mean, std = state.mean.to(dtype), state.variance.to(dtype).sqrt()
    groups, channels = mean.shape
    if positions:
        values = _image(mean, positions)
        values = values + _image(std, positions) * torch.randn_like(values)
    else:
        z = torch.randn(groups, LINEAR_DRAWS, channels, dtype=dtype, device=mean.device)
        values = (mean[:, None] + std[:, None] * z).flatten(0, 1)
    if state.activation is not None:
        values = ACTIVATIONS[state.activation](values)
    out = layer(values)
    grouped = out.flatten(2) if positions else out.reshape(groups, LINEAR_DRAWS, -1).transpose(1, 2)
    variance, mean = torch.var_mean(grouped, 2, correction=0)
    return State(mean, variance)


def _image(values: Tensor, positions: torch.Size) -> Tensor:
    """Return (groups, C) repeated over the positions: (groups, C, *positions)."""
    wide = values.reshape(*values.shape, *(1,) * len(positions))
    return wide.expand(*values.shape, *positions).contiguous()
