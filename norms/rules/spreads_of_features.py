"""The rules of the measures that compare the features of a batch with each other, by one number each."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from norms.rules.base import Rule
from norms.rules.moments import arrange, feature_moments, undefined_below_two


@dataclass(frozen=True)
class ScaleDispersionRule(Rule):
    """std_f(v_f^(1/2)) / mean_f(v_f^(1/2)) > cutoff, over the features that vary within the batch.

    Attributes:
        cutoff: a ratio.
        feature_axis: "element" or "channel".

    Source: the assessor's scale_dispersion.
    """

    measure: ClassVar[str] = "scale_dispersion"
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return the coefficient of variation of the standard deviations."""
        _, variance, alive, count, samples = _varying(x, self.feature_axis)
        std = variance.sqrt()
        centre = std.sum() / count
        spread = torch.where(alive, (std - centre).square(), 0.0).sum() / count
        return undefined_below_two(spread.sqrt() / centre, samples)


@dataclass(frozen=True)
class LocationShareRule(Rule):
    """var_f(m_f) / V > cutoff, over the features that vary within the batch.

    Attributes:
        cutoff: a share.
        corrected: epsilon squared, whose mean is 0 for alike features, instead of eta squared.
        feature_axis: "element" or "channel".

    Source: the assessor's location_share.
    """

    measure: ClassVar[str] = "location_share"
    corrected: bool = False
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return eta squared, or epsilon squared."""
        mean, variance, alive, count, samples = _varying(x, self.feature_axis)
        centre = torch.where(alive, mean, 0.0).sum() / count
        between = torch.where(alive, (mean - centre).square(), 0.0).sum() / count
        share = between / (variance.sum() / count + between)
        if self.corrected:
            share = share - (1 - share) * (count - 1) / (count * max(samples - 1, 1))
        return undefined_below_two(share, samples)


@dataclass(frozen=True)
class BartlettRule(Rule):
    """Bartlett's statistic for equal variances > cutoff, over the features that vary within the batch.

    Attributes:
        cutoff: of the statistic.
        feature_axis: "element" or "channel".

    Source: the assessor's bartlett; Bartlett 1937, doi:10.1098/rspa.1937.0109.
    """

    measure: ClassVar[str] = "bartlett"
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return the statistic, NaN where fewer than two features vary."""
        _, variance, alive, count, samples = _varying(x, self.feature_axis)
        freedom = max(samples - 1, 1)
        logs = torch.log(variance.sum() / count) - torch.log(torch.where(alive, variance, 1.0)).sum() / count
        statistic = count * freedom * logs / (1 + (count + 1) / (3 * count * freedom))
        statistic = torch.where(count >= 2, statistic.clamp(min=0), torch.nan)
        return undefined_below_two(statistic, samples)


def _varying(x: Tensor, feature_axis: str) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return means, variances (0 where constant), which features vary, how many, and the values of each."""
    values = arrange(x, feature_axis)
    mean, variance = feature_moments(values)
    alive = ~(variance == 0)  # NaN stays, and makes the score NaN
    # In the dtype of the values: a quotient of whole numbers would be float32.
    return mean, variance, alive, alive.sum().to(values.dtype), values.shape[0]
