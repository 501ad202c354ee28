"""Weights whose channels keep a norm that is fixed by their initial values."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from norms.errors import OptionError

LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class BoundedWeight(nn.Module):
    """w_i = rho v_i / ||v_i||: every output channel has the norm rho, the mean of their initial norms.

    Args:
        weight: the initial weight; v starts there.
        dim: axis of the output channels.
    """

    rho: Tensor

    def __init__(self, weight: Tensor, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("rho", channel_norms(weight.detach(), dim).mean())

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight made of v, of the same shape."""
        w: Tensor = v * (self.rho / channel_norms(v, self.dim))
        return w

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the v to start from."""
        return weight


class BoundedGainWeight(BoundedWeight):
    """w_i = (||g_0|| / ||g||) g_i v_i / ||v_i||: learned gains g_i of a fixed total norm; w starts unchanged.

    Args:
        weight: the initial weight; v starts there, and g at its channels' norms.
        dim: axis of the output channels.
    """

    def __init__(self, weight: Tensor, dim: int = 0) -> None:
        super().__init__(weight, dim)
        norms = channel_norms(weight.detach(), dim)
        self.rho = norms.norm()
        self.gain = nn.Parameter(norms)

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight made of v and the gains, of v's shape."""
        gain = self.rho / self.gain.norm() * self.gain
        w: Tensor = v * (gain / channel_norms(v, self.dim))
        return w


def channel_norms(weight: Tensor, dim: int) -> Tensor:
    """Return the Euclidean norm of each slice along `dim`, kept as axes of length 1.

    >>> channel_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), 0).tolist()
    [[5.0], [2.0]]
    """
    others = tuple(axis for axis in range(weight.ndim) if axis != dim)
    norms: Tensor = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return norms


def bounded_weight_norm(
    module: nn.Module,
    *,
    learnable_gain: bool = False,
    where: Callable[[str, nn.Module], bool] | None = None,
) -> int:
    """Bound the weights of a module's linear and convolution layers, in place; return how many layers.

    The weight becomes a torch parametrization: `layer.weight` is computed from
    `layer.parametrizations.weight.original`. Use it with mean-only batch norm and without weight decay. Make
    the optimizer afterwards, since parameters are renamed (and gains added). A layer that is bounded already
    is left as it is.

    Args:
        module: a layer, or a model that contains layers.
        learnable_gain: the released variant, with a gain per channel whose total norm is fixed. Without it
            all channels of a layer get the same norm, so the function computed changes at once.
        where: called with path and layer; bound it or not.

    Raises:
        OptionError: no such layer, or one with a channel of zeros, which has no direction.

    Source: Hoffer, Banner, Golan & Soudry, arXiv 1803.01814, section 5; eladhoffer/norm_matters, models/bwn.py
    and models/bwn_alt.py.

    >>> layer = nn.Linear(4, 3)
    >>> bounded_weight_norm(layer)
    1
    >>> layer.weight.norm(dim=1).std().item() < 1e-6
    True
    """
    found = [
        (path, layer)
        for path, layer in module.named_modules()
        if isinstance(layer, LAYERS) and (where is None or where(path, layer))
    ]
    if not found:
        raise OptionError(f"expected linear or convolution layers; got {type(module).__name__} without any")
    fresh = [(path, layer) for path, layer in found if not _is_bounded(layer)]
    for path, layer in fresh:
        if not bool((channel_norms(layer.weight, _dim(layer)) > 0).all()):
            raise OptionError(
                f"expected a weight without channels of zeros in layer {path or type(layer).__name__!r}: "
                "initialize it first"
            )
    kind = BoundedGainWeight if learnable_gain else BoundedWeight
    for _, layer in fresh:
        parametrize.register_parametrization(layer, "weight", kind(layer.weight, _dim(layer)))
    return len(fresh)


def remove_bounded_weight_norm(module: nn.Module) -> int:
    """Make the bounded weights plain parameters with their present values, in place; return how many layers.

    >>> layer = nn.Linear(4, 3)
    >>> bounded_weight_norm(layer), remove_bounded_weight_norm(layer), type(layer.weight).__name__
    (1, 1, 'Parameter')
    """
    bounded = [layer for layer in module.modules() if _is_bounded(layer)]
    for layer in bounded:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return len(bounded)


def decayless_learning_rate(learning_rate: float, *, norm: float, norm_with_decay: float) -> float:
    """Return the learning rate that does without weight decay what `learning_rate` does with it.

    A weight in front of a norm matters by its direction, and its effective step is learning_rate / ||w||^2.
    Weight decay only keeps ||w|| small; the correction does the same: eta ||w||^2 / ||w_wd||^2.

    Args:
        learning_rate: of the run with weight decay, at this step.
        norm: Euclidean norm of the weight now, without decay.
        norm_with_decay: of the same weight at the same step of the run with decay.

    Raises:
        OptionError: norm_with_decay not above 0.

    Source: Hoffer, Banner, Golan & Soudry, arXiv 1803.01814, section 3.

    >>> decayless_learning_rate(0.1, norm=4.0, norm_with_decay=2.0)
    0.4
    """
    if not norm_with_decay > 0:
        raise OptionError(f"expected norm_with_decay > 0; got {norm_with_decay}")
    return learning_rate * norm**2 / norm_with_decay**2


def _is_bounded(layer: nn.Module) -> bool:
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    chain = layer.get_submodule("parametrizations.weight")
    return any(isinstance(step, BoundedWeight) for step in chain.children())


def _dim(layer: nn.Module) -> int:
    return 1 if isinstance(layer, TRANSPOSED) else 0
