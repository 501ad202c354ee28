"""The rule of the measure `population_divergence`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from norms.errors import RuleError
from norms.rules.base import Rule
from norms.rules.moments import arrange, digamma, feature_moments, log, undefined_below_two


@dataclass(frozen=True)
class PopulationDivergenceRule(Rule):
    """mean_f KL( N(m_f, v_f) || N(M_f, V_f) ) > cutoff, M_f and V_f the moments of a reference.

    Features of variance 0 in the reference are left out; one that is constant in the batch takes
    ln v_f = ln V_f - 2 noise(B).

    Attributes:
        cutoff: in nats.
        reference_mean, reference_variance: M_f and V_f.
        feature_axis: "element" or "channel".

    Source: the assessor's population_divergence.
    """

    measure: ClassVar[str] = "population_divergence"
    reference_mean: tuple[float, ...] = ()
    reference_variance: tuple[float, ...] = ()
    feature_axis: str = "element"

    def score(self, x: Tensor) -> Tensor:
        """Return the mean divergence from the reference.

        Raises:
            RuleError: the batch has another number of features than the reference.
        """
        values = arrange(x, self.feature_axis)
        samples, features = values.shape
        if features != len(self.reference_mean):
            raise RuleError(
                f"expected a batch with the {len(self.reference_mean)} features of the reference; got {features}: "
                "put the gate in front of the model (adapt_input), where the plan looked"
            )
        centre, population = (
            torch.tensor(column, dtype=values.dtype).to(values.device, non_blocking=True)
            for column in (self.reference_mean, self.reference_variance)
        )
        mean, variance = feature_moments(values)
        active = population >= torch.finfo(values.dtype).tiny
        population = torch.where(active, population, 1.0)
        noise = (log(values, samples / 2) - digamma(values, (samples - 1) / 2)) / 2
        varies = ~(variance == 0)
        log_ratio = torch.where(varies, torch.log(torch.where(varies, variance, 1.0) / population), -2 * noise)
        terms = ((variance + (mean - centre).square()) / population - 1 - log_ratio) / 2
        # 0/0 where no feature is left: NaN, so the batch is not flagged.
        return undefined_below_two(torch.where(active, terms, 0.0).sum() / active.sum(), samples)
