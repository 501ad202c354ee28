"""Threshold rules of a plan, read in torch: does this batch need normalization?

A rule is made from the `rule` of a plan (`rule_from_dict`), a dict of numbers, and needs nothing else. It is
called with a batch and returns a 0-d bool tensor on the batch's device, so nothing waits for the device.
Moments are taken in float64 where the device has it (else float32), centred on the batch's first sample, so
that a feature which is constant in the batch has a variance of exactly 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from norms.errors import RuleError

FEATURE_AXES = ("element", "channel")


@dataclass(frozen=True)
class Rule(ABC):
    """What all rules share. `rule(x)`: x of shape (N, *), any rank >= 2 -> 0-d bool tensor.

    A batch whose score is undefined (fewer than two samples, values that are not finite) is not flagged.
    """

    measure: ClassVar[str]
    cutoff: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return whether the batch x needs normalization: its score is above the cutoff.

        Raises:
            RuleError: the batch does not have the features that the rule was made for.
        """
        with torch.no_grad():
            return self.score(x) > self.cutoff

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """Return the batch's score, a 0-d float tensor; NaN where it is undefined."""

    def to_dict(self) -> dict[str, Any]:
        """Return the dict from which `rule_from_dict` makes this rule."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"measure": self.measure, **values}


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
        noise = (_log(values, values.shape[0] / 2) - _digamma(values, (values.shape[0] - 1) / 2)) / 2
        log_variance = torch.log(torch.where(alive, variance, 1.0))
        if self.constant_log_variance is None:
            known = known & alive
        else:
            log_variance = torch.where(alive, log_variance, self.constant_log_variance - 2 * noise)
        terms = (variance + mean.square() - 1 - log_variance) / 2
        # 0/0 where no feature is left: NaN, so the batch is not flagged.
        divergence = torch.where(known, terms, 0.0).sum() / known.sum()
        return undefined_below_two(divergence - noise, values.shape[0])


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
        expected = torch.special.digamma((total - 1) / 2) - torch.log(total)
        expected = (expected - _digamma(values, (samples - 1) / 2) + _log(values, samples)) / 2
        divergence = (torch.log(pooled) - log_variance) / 2
        return undefined_below_two(divergence - expected - self.bias, samples)


@dataclass(frozen=True)
class SpreadDivergenceRule(Rule):
    """Heterogeneity: the larger of the scale and the location part, each less its null mean, > cutoff.

    scale = 4 ln( mean r^(1/2) / (mean r^(1/4))^2 ), r_f = v_f + (m_f - m)^2; location = ln(1 + var_f(m_f) /
    mean v_f) / 2; over the features that vary within the batch.

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
        root = torch.where(alive, variance + distance, 0.0).sqrt()
        scale = 4 * torch.log((root.sum() / count) / (root.sqrt().sum() / count).square())
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


@dataclass(frozen=True)
class ClassDeviationRule(Rule):
    """The published rule: some sample's mean lies outside the band of every class.

    A label is not needed: a sample is inside when |a_s - T_c| <= cutoff |T_c| for any class c. With T_c = 0
    only a_s = 0 is inside.

    Attributes:
        cutoff: width of the band, relative to T_c.
        class_means: T_c.
        published_exact: as the released code: a_s without the last row and the last column (the last
            two axes), and the band of a negative T_c is empty.

    Source: Alsobhi et al., arXiv 2211.02050.
    """

    measure: ClassVar[str] = "class_deviation"
    class_means: tuple[float, ...] = ()
    published_exact: bool = False

    def score(self, x: Tensor) -> Tensor:
        """Return the largest over samples of the smallest over classes of |a_s - T_c| / |T_c|."""
        _check_batch(x)
        wide = x.detach().to(float_dtype(x.device))
        if self.published_exact and x.ndim >= 3:
            wide = wide[..., :-1, :-1]
        means = wide.flatten(1).mean(1, keepdim=True)
        centres = torch.tensor(self.class_means, dtype=wide.dtype)
        centres = centres.to(wide.device, non_blocking=True)
        distance = (means - centres).abs()
        relative = torch.where(distance == 0, 0.0, distance / centres.abs())
        if self.published_exact:
            relative = torch.where(centres < 0, torch.inf, relative)
        return relative.amin(1).amax()


RULES: dict[str, type[Rule]] = {
    rule.measure: rule
    for rule in (StandardDivergenceRule, GaussianDivergenceRule, SpreadDivergenceRule, ClassDeviationRule)
}

DEFAULT_RULE = StandardDivergenceRule(cutoff=1.0)
"""For a gate without a plan: need above 1 nat; a feature that is constant in the batch is left out."""


def rule_from_dict(rule: Mapping[str, Any]) -> Rule:
    """Return the rule that `plan.rule` describes.

    Args:
        rule: JSON-able; "measure" names the kind, the rest are its numbers.

    Raises:
        RuleError: an unknown measure, a missing or unknown entry, or a number out of range.

    >>> rule_from_dict({"measure": "gaussian_divergence", "cutoff": 0.1, "bias": 0.02}).cutoff
    0.1
    """
    entries = dict(rule)
    measure = entries.pop("measure", None)
    if measure not in RULES:
        raise RuleError(f"expected a rule with a measure among: {', '.join(RULES)}; got {measure!r}")
    kind = RULES[measure]
    known = tuple(kind.__dataclass_fields__)
    unknown = [name for name in entries if name not in known]
    if unknown or "cutoff" not in entries:
        raise RuleError(
            f"expected a {measure} rule with 'cutoff' and any of {', '.join(known)}; "
            f"got {', '.join(entries) or 'nothing'}: pass the rule of a plan as it is"
        )
    if entries.get("feature_axis", "element") not in FEATURE_AXES:
        raise RuleError(f"expected feature_axis element or channel; got {entries['feature_axis']!r}")
    if kind is ClassDeviationRule and not entries.get("class_means"):
        raise RuleError("expected at least one number in class_means; got none")
    if kind is SpreadDivergenceRule:
        lengths = [len(entries.get(name, ())) for name in ("counts", "scale_null", "location_null")]
        if len(set(lengths)) > 1:
            raise RuleError(f"expected counts, scale_null and location_null of one length; got {lengths}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in entries.items()}
    return kind(**values)


def arrange(x: Tensor, feature_axis: str) -> Tensor:
    """Return x as (samples, features) in the rule's dtype; channel: positions count as samples."""
    _check_batch(x)
    wide = x.detach().to(float_dtype(x.device))
    return wide.flatten(1) if feature_axis == "element" else wide.movedim(1, -1).flatten(0, -2)


def feature_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance per column; exactly 0 where a column is constant."""
    first = values[:1]
    shifted = values - first
    mean = shifted.mean(0)
    return mean + first[0], shifted.sub_(mean).square_().mean(0)  # in place: half the time is allocation


def varying_features(count: int, constant: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a mask, shape (count,): True but for the features listed as constant.

    Raises:
        RuleError: a listed feature does not exist.
    """
    if constant and max(constant) >= count:
        raise RuleError(
            f"expected a batch with at least {max(constant) + 1} features, for which the rule was made; got "
            f"{count}: put the gate in front of the model (adapt_input), where the plan looked"
        )
    if not constant:
        return torch.ones(count, dtype=torch.bool, device=device)
    mask = torch.ones(count, dtype=torch.bool)
    mask[list(constant)] = False
    return mask.to(device, non_blocking=True)


def undefined_below_two(score: Tensor, samples: int) -> Tensor:
    """Return the score, or NaN where there is no variance to speak of."""
    return score if samples >= 2 else torch.full_like(score, torch.nan)


def float_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that lacks it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _check_batch(x: Tensor) -> None:
    if x.ndim < 2 or x.shape[0] == 0:
        raise RuleError(f"expected a batch (N, *) with N >= 1 and rank >= 2; got {tuple(x.shape)}")


def _log(like: Tensor, value: float) -> Tensor:
    return torch.full((), value, dtype=like.dtype, device=like.device).log()


def _digamma(like: Tensor, value: float) -> Tensor:
    argument = torch.full((), value, dtype=like.dtype, device=like.device)
    return cast(Tensor, torch.special.digamma(argument))
