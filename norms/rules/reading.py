"""Rules read from the dict that a plan carries."""

from collections.abc import Mapping
from typing import Any

from norms.errors import RuleError
from norms.rules.base import Rule
from norms.rules.class_deviation import ClassDeviationRule
from norms.rules.gaussian import GaussianDivergenceRule
from norms.rules.moments import FEATURE_AXES
from norms.rules.need import StandardDivergenceRule
from norms.rules.population import PopulationDivergenceRule
from norms.rules.spread import SpreadDivergenceRule
from norms.rules.spreads_of_features import BartlettRule, LocationShareRule, ScaleDispersionRule

RULES: dict[str, type[Rule]] = {
    rule.measure: rule
    for rule in (
        StandardDivergenceRule,
        GaussianDivergenceRule,
        SpreadDivergenceRule,
        ClassDeviationRule,
        ScaleDispersionRule,
        LocationShareRule,
        BartlettRule,
        PopulationDivergenceRule,
    )
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
    if kind is PopulationDivergenceRule:
        lengths = [len(entries.get(name, ())) for name in ("reference_mean", "reference_variance")]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise RuleError(f"expected reference_mean and reference_variance of one length; got {lengths}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in entries.items()}
    return kind(**values)
