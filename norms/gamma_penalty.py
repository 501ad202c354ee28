"""The regularizer that batch norm is, as a term of the loss beside population norm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from norms.errors import OptionError
from norms.population import PopulationNorm
from norms.statistics import compute_dtype, per_channel, standardize


class GammaDecay:
    """sum over channels of zeta gamma^2: what batch norm's random statistics add to the loss. Call it for the term.

    zeta = (rho + 2) / (8 M) I(gamma) + (1 / (2 M)) mean_j sigmoid(hbar_j), constant in the gradient. M: the
    batch size that batch norm would have; rho: excess kurtosis of the unit before normalization, its fourth moment
    under the layer's population statistics; I(gamma) = mean_j (dl_j / dgamma)^2 over the samples; hbar: the layer's
    output. The first part is the noise of the batch's standard deviation, the second that of its mean, through the
    curvature of a smooth relu.

    I(gamma) is known after a backward pass. So either call this after `loss.backward()` and give it a backward of
    its own, or add it to the loss, with the zeta of the step before (in the first step I(gamma) = 0):

        loss = criterion(model(x), y) + decay()

    Attributes:
        coefficients: zeta per layer, shape (C,), by the layer's path.
    """

    def __init__(
        self,
        layers: dict[str, PopulationNorm],
        *,
        batch_size: int | None,
        coefficient: float | None,
        reduction: str,
    ) -> None:
        self._layers = layers
        self._batch_size = batch_size
        self._mean_loss = reduction == "mean"
        self._hooks = []
        self.coefficients: dict[str, Tensor] = {
            path: torch.full_like(_gamma(layer), coefficient or 0.0) for path, layer in layers.items()
        }
        if coefficient is None:
            self._hooks = [layer.register_forward_pre_hook(self._watch(path)) for path, layer in layers.items()]

    def __call__(self) -> Tensor:
        """Return sum zeta gamma^2 over all channels and layers, a 0-d tensor."""
        terms = [
            (self.coefficients[path].to(_gamma(layer).device) * _gamma(layer).square()).sum()
            for path, layer in self._layers.items()
        ]
        return torch.stack(terms).sum()

    def remove(self) -> None:
        """Take the hooks off the model; the coefficients stay as they are."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _watch(self, path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(layer: nn.Module, args: tuple[Any, ...]) -> None:
            assert isinstance(layer, PopulationNorm)
            # Before the forward, which moves the statistics on.
            standardized = _standardized(layer, args[0])

            def after(_: nn.Module, __: tuple[Any, ...], y: Tensor) -> None:
                once.remove()
                if not layer.training or not torch.is_grad_enabled():
                    return
                self._note(path, standardized, y, None)
                if y.requires_grad:
                    y.register_hook(  # type: ignore[no-untyped-call]  # torch has no type for it
                        lambda gradient: self._note(path, standardized, y, gradient)
                    )

            once = layer.register_forward_hook(after)

        return before

    @torch.no_grad()
    def _note(self, path: str, standardized: Tensor, y: Tensor, gradient: Tensor | None) -> None:
        """Set zeta of one layer from its standardized input, its output and the loss's gradient there."""
        assert self._batch_size is not None
        m, channel = self._batch_size, (0, *range(2, y.ndim))
        zeta = y.detach().to(standardized.dtype).sigmoid().mean(channel) / (2 * m)
        if gradient is not None:
            # dl_j/dgamma, summed over positions; the gradient of a mean loss is that of l_j over the batch size.
            of_sample = (gradient.to(standardized.dtype) * standardized).reshape(*y.shape[:2], -1).sum(2)
            of_sample = of_sample * (len(y) if self._mean_loss else 1)
            kurtosis = standardized.pow(4).mean(channel) - 3
            zeta = zeta + (kurtosis + 2).clamp(min=0) / (8 * m) * of_sample.square().mean(0)
        self.coefficients[path] = zeta


def gamma_decay(
    model: nn.Module,
    *,
    batch_size: int | None = None,
    coefficient: float | None = None,
    reduction: str = "mean",
) -> GammaDecay:
    """Return the term that, added to the loss of a model with population norm, stands for batch norm's noise.

    Args:
        model: with PopulationNorm layers that have a gamma.
        batch_size: M of the full coefficient: the batch size whose batch norm is to be matched, which need not
            be that of training. In convolutions the positions of a sample count too, as far as they are
            independent.
        coefficient: zeta by hand, instead of batch_size.
        reduction: of the loss over the samples of a batch, "mean" or "sum".

    Raises:
        OptionError: no such layer, neither or both of batch_size and coefficient, one out of range, or another
            reduction.

    Source: Luo, Wang, Shao & Peng, arXiv 1809.00846.

    >>> decay = gamma_decay(nn.Sequential(PopulationNorm(3)), coefficient=0.5)
    >>> decay().item()
    1.5
    """
    layers = {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, PopulationNorm) and layer.weight is not None
    }
    if not layers:
        raise OptionError(
            f"expected a model with PopulationNorm layers that have a gamma; got {type(model).__name__} without "
            "any: convert(model, 'population') makes them"
        )
    if (batch_size is None) == (coefficient is None):
        raise OptionError(
            f"expected either batch_size or coefficient; got batch_size={batch_size}, coefficient={coefficient}"
        )
    if (batch_size is not None and batch_size < 1) or (coefficient is not None and coefficient < 0):
        raise OptionError(
            f"expected batch_size >= 1 or coefficient >= 0; got {batch_size if coefficient is None else coefficient}"
        )
    if reduction not in ("mean", "sum"):
        raise OptionError(f"expected reduction 'mean' or 'sum'; got {reduction!r}")
    return GammaDecay(layers, batch_size=batch_size, coefficient=coefficient, reduction=reduction)


@torch.no_grad()
def _standardized(layer: PopulationNorm, x: Tensor) -> Tensor:
    wide = x.detach().to(compute_dtype(x.dtype))
    population = layer.population()
    assert population is not None
    mean, variance = (per_channel(value.to(wide.dtype), x.ndim) for value in population[:2])
    return standardize(wide, mean, variance, layer.eps)


def _gamma(layer: PopulationNorm) -> Tensor:
    assert layer.weight is not None
    return layer.weight
