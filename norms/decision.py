"""What a gate is told: a decision for training, a mode for evaluation, a rule."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from norms.errors import GateError, RuleError
from norms.rules import DEFAULT_RULE, Rule, rule_from_dict

Evaluation = Literal["threshold", "running", "batch", "never"]
Features = Literal["channel", "element"]


def read_decision(normalize: object) -> bool | Tensor:
    """Return the decision as a bool, or as the 0-d bool tensor that it is.

    Raises:
        GateError: neither a bool (Python's or NumPy's) nor a 0-d bool tensor.

    >>> read_decision(True)
    True
    """
    if isinstance(normalize, Tensor):
        if normalize.ndim == 0 and normalize.dtype == torch.bool:
            return normalize
        came = f"a tensor of shape {tuple(normalize.shape)}, {normalize.dtype}"
    elif isinstance(normalize, bool) or type(normalize).__name__ in ("bool_", "bool"):
        return bool(normalize)
    else:
        came = repr(normalize)
    raise GateError(f"expected a bool or a 0-d bool tensor as decision; got {came}: pass plan[i].normalize")


def read_rule(rule: Rule | Mapping[str, Any] | None) -> Rule:
    """Return the rule itself, the one that a dict describes, or for None rules.DEFAULT_RULE.

    Raises:
        RuleError: not a rule.

    >>> read_rule(None).cutoff
    1.0
    """
    if rule is None:
        return DEFAULT_RULE
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, Mapping):
        return rule_from_dict(rule)
    raise RuleError(f"expected a Rule or the rule of a plan; got {type(rule).__name__}: pass plan.rule")
