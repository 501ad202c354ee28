"""The rule of the method `need`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from norms.rules.base import Rule
from norms.rules.moments import arrange, digamma, feature_moments, log, undefined_below_two, varying_features


@dataclass(frozen=True)
class StandardDivergenceRule(Rule):
    """Need: D - noise(B) > cutoff, D = mean_f KL( N(m_f, v_f) || N(0, 1) ), in nats.

    Attributes:
        cutoff: in nats.
        constant_log_variance: ln v_f to use for a feature that is constant in this batch but not in the
            dataset; None: nothing is known of such features, and they are left out of the mean.
        constant_features: features that are constant in the whole dataset; left out of the mean.
        feature_axis: "element" (every element of a sample) or "channel" (axis 1; positions are samples).

    Source: the assessor's standard_divergence; noise(B) = ( ln(B/2) - digamma((B-1)/2) ) / 2.

    >>> rule = StandardDivergenceRule(cutoff=1.0)
    >>> bool(rule(torch.tensor([[-1.0], [1.0]]))), bool(rule(torch.tensor([[99.0], [101.0]])))
    (False, True)
    """

    measure: ClassVar[str] = "standard_divergence"
    constant_log_variance: float | None = None
    constant_features: tuple[int, ...] = ()
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return D - noise(B)."""
        values = arrange(x, self.feature_axis)
        mean, variance = feature_moments(values)
        known = varying_features(values.shape[1], self.constant_features, values.device)
        alive = variance > 0
        noise = (log(values, values.shape[0] / 2) - digamma(values, (values.shape[0] - 1) / 2)) / 2
        log_variance = torch.log(torch.where(alive, variance, 1.0))
        if self.constant_log_variance is None:
            known = known & alive
        else:
            log_variance = torch.where(alive, log_variance, self.constant_log_variance - 2 * noise)
        terms = (variance + mean.square() - 1 - log_variance) / 2
        # 0/0 where no feature is left: NaN, so the batch is not flagged.
        divergence = torch.where(known, terms, 0.0).sum() / known.sum()
        return undefined_below_two(divergence - noise, values.shape[0])
