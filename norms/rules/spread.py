"""The rule of the method `heterogeneity`."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from norms.rules.base import Rule
from norms.rules.moments import arrange, feature_moments, undefined_below_two


@dataclass(frozen=True)
class SpreadDivergenceRule(Rule):
    """Heterogeneity: the larger of the scale and the location part, each less its null mean, > cutoff.

    scale = 7 ln mean r^(1/2) - 12 ln mean r^(1/4) - ln(mean r) / 2, r_f = v_f + (m_f - m)^2;
    location = ln(1 + var_f(m_f) / mean v_f) / 2; over the features that vary within the batch.

    Attributes:
        cutoff: in nats.
        counts: numbers of values per feature for which the null means are known, ascending.
        scale_null, location_null: the parts' means when all features are alike, by count; between counts they
            are taken as linear in 1 / count.
        feature_axis: "element" or "channel".

    Source: the assessor's spread_divergence.
    """

    measure: ClassVar[str] = "spread_divergence"
    counts: tuple[int, ...] = ()
    scale_null: tuple[float, ...] = ()
    location_null: tuple[float, ...] = ()
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return the larger part less its null mean."""
        values = arrange(x, self.feature_axis)
        mean, variance = feature_moments(values)
        alive, samples = variance > 0, values.shape[0]
        count = alive.sum()
        centre = torch.where(alive, mean, 0.0).sum() / count
        distance = torch.where(alive, (mean - centre).square(), 0.0)
        squared = torch.where(alive, variance + distance, 0.0)
        root = squared.sqrt()
        logs = [torch.log(part.sum() / count) for part in (root, root.sqrt(), squared)]
        scale = 7 * logs[0] - 12 * logs[1] - logs[2] / 2
        location = torch.log1p(distance.sum() / variance.sum()) / 2
        if not self.counts:
            return torch.full_like(scale, torch.nan)
        scale_null, location_null = (self._at(samples, null) for null in (self.scale_null, self.location_null))
        return undefined_below_two(torch.maximum(scale - scale_null, location - location_null), samples)

    def _at(self, samples: int, null: tuple[float, ...]) -> float:
        """Return a null mean at this number of samples, in plain Python: nothing waits for the device."""
        for low, high in pairwise(range(len(self.counts))):
            if self.counts[low] <= samples <= self.counts[high]:
                whole = 1 / self.counts[low] - 1 / self.counts[high]
                share = (1 / self.counts[low] - 1 / samples) / whole
                return null[low] + share * (null[high] - null[low])
        return null[0] if samples < self.counts[0] else null[-1]
