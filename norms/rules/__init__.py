"""Threshold rules of a plan, read in torch: does this batch need normalization?

A rule is made from the `rule` of a plan (`rule_from_dict`), a dict of numbers, and needs nothing else. It is
called with a batch and returns a 0-d bool tensor on the batch's device, so nothing waits for the device.
Moments are taken in float64 where the device has it (else float32), centred on the batch's first sample, so
that a feature which is constant in the batch has a variance of exactly 0.
"""

from norms.rules.base import Rule
from norms.rules.moments import float_dtype, varying_features
from norms.rules.reading import DEFAULT_RULE, rule_from_dict

__all__ = ["DEFAULT_RULE", "Rule", "float_dtype", "rule_from_dict", "varying_features"]
