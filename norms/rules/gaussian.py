"""The rule of the method `gaussian`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from norms.digamma import digamma as digamma_of
from norms.rules.base import Rule
from norms.rules.moments import arrange, digamma, feature_moments, log, undefined_below_two


@dataclass(frozen=True)
class GaussianDivergenceRule(Rule):
    """Heterogeneity: H - E0[H] - bias > cutoff, over the features that vary within the batch.

    Attributes:
        cutoff: in nats.
        bias: mean of H - E0[H] on data of the dataset's own shape.
        feature_axis: "element" or "channel".

    Source: the assessor's gaussian_divergence.
    """

    measure: ClassVar[str] = "gaussian_divergence"
    bias: float = 0.0
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return H - E0[H] - bias."""
        values = arrange(x, self.feature_axis)
        mean, variance = feature_moments(values)
        alive = variance > 0
        count, samples = alive.sum(), values.shape[0]
        centre = torch.where(alive, mean, 0.0).sum() / count
        between = torch.where(alive, (mean - centre).square(), 0.0).sum() / count
        pooled = variance.sum() / count + between
        log_variance = torch.log(torch.where(alive, variance, 1.0)).sum() / count
        total = (samples * count).to(values.dtype)
        expected = digamma_of((total - 1) / 2) - torch.log(total)
        expected = (expected - digamma(values, (samples - 1) / 2) + log(values, samples)) / 2
        divergence = (torch.log(pooled) - log_variance) / 2
        return undefined_below_two(divergence - expected - self.bias, samples)
