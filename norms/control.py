"""All gates of a model at once: tell them what was decided, give them a rule."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from norms.adapted_input import AdaptedInput
from norms.adaptive import AdaptiveNorm, gates
from norms.decision import read_decision, read_rule
from norms.errors import GateError
from norms.rules import Rule


def deciding_gates(model: nn.Module) -> Iterator[AdaptiveNorm]:
    """Yield the gates that decide for themselves in evaluation: all but those behind a gate at an input."""
    following = {
        id(gate) for module in model.modules() if isinstance(module, AdaptedInput) for gate in gates(module.model)
    }
    return (gate for gate in gates(model) if id(gate) not in following)


def set_decision(model: nn.Module, normalize: bool | Tensor | None, *, strict: bool = True) -> int:
    """Set the decision for the training batches that follow, on every gate; return how many there are.

    Args:
        model: any module.
        normalize: a bool; a 0-d bool tensor, which may be rewritten in place between batches; or None for
            the state before any decision, in which gates normalize.
        strict: refuse a model without gates.

    Raises:
        GateError: no gate in the model, or not a decision.

    >>> gate = AdaptiveNorm("batch", num_features=2)
    >>> set_decision(gate, False), gate.decision
    (1, False)
    """
    decision = None if normalize is None else read_decision(normalize)
    found = list(gates(model))
    _refuse_none(found, model, strict)
    for gate in found:
        gate.decision = decision
    return len(found)


def set_rule(model: nn.Module, rule: Rule | Mapping[str, Any], *, strict: bool = True) -> int:
    """Give the rule to every gate that decides for itself in evaluation; return how many there are.

    Gates behind the gate at a model's input follow that gate, and keep the rule they have.

    Args:
        model: any module.
        rule: a Rule, or the `rule` of a plan.
        strict: refuse a model without gates.

    Raises:
        GateError: no gate in the model.
        RuleError: not a rule.

    >>> set_rule(AdaptiveNorm("batch", num_features=2), {"measure": "standard_divergence", "cutoff": 2.0})
    1
    """
    read = read_rule(rule)
    found = list(deciding_gates(model))
    _refuse_none(found, model, strict)
    for gate in found:
        gate.rule = read
    return len(found)


def _refuse_none(found: list[AdaptiveNorm], model: nn.Module, strict: bool) -> None:
    if strict and not found:
        raise GateError(
            f"expected a model with at least one gate; got {type(model).__name__} without any: "
            "use adapt_input(model, shape) or convert(model, 'batch', adaptive=True), or pass strict=False"
        )
