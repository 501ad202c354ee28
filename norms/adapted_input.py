"""A gate in front of a model: the first use to offer."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from operator import index
from typing import Any

from torch import Tensor, nn

from norms.adaptive import AdaptiveNorm, gates
from norms.decision import Evaluation, Features
from norms.errors import OptionError
from norms.registry import accepted
from norms.rules import Rule


class AdaptedInput(nn.Module):
    """model(gate(x)), with every gate inside the model following the front gate's verdict in evaluation.

    A rule speaks of the batch at the model's input; in a hidden layer the same numbers mean something else.
    The verdict is handed to the gates inside for the duration of each call, so copies, pickles and
    state_dicts hold no link. In training each gate obeys `set_decision`.

    Args:
        gate: decides on x.
        model: called with the gate's output and all further arguments.
    """

    def __init__(self, gate: AdaptiveNorm, model: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.model = model

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return model(gate(x), *args, **kwargs)."""
        if self.gate.training:
            return self.model(self.gate(x), *args, **kwargs)
        verdict = self.gate.verdict(x)
        followers = tuple(gates(self.model))
        for follower in followers:
            follower.followed = verdict
        try:
            return self.model(self.gate.apply_verdict(x, verdict), *args, **kwargs)
        finally:
            for follower in followers:
                follower.followed = None


def adapt_input(
    model: nn.Module,
    shape: int | Sequence[int],
    *,
    norm: str = "batch",
    affine: bool = False,
    skip: nn.Module | str = "identity",
    features: Features = "element",
    rule: Rule | Mapping[str, Any] | None = None,
    evaluation: Evaluation = "threshold",
    min_examples: int = 2,
    **options: Any,
) -> AdaptedInput:
    """Return the model with a gate in front of it.

    The gate's running statistics are by default the plain average over all flagged batches
    (momentum=None), since the data at the input does not drift as the weights learn. It is made on the
    device of the model's first parameter.

    Args:
        model: any module whose first argument is the batch, (N, *).
        shape: of a sample, without the batch axis; or its number of features.
        norm: a registered name.
        affine: learn gamma and beta in the gate.
        skip: as in AdaptiveNorm.
        features: "element" (each element of a sample has its own moments) or "channel" (axis 1).
        rule: as in AdaptiveNorm; usually plan.rule.
        evaluation: as in AdaptiveNorm.
        min_examples: as in AdaptiveNorm.
        **options: of the norm.

    Raises:
        OptionError: an empty shape or one with an axis < 1, or as AdaptiveNorm.

    >>> from torch import nn
    >>> adapt_input(nn.Linear(4, 2), 4).gate.norm.num_features
    4
    """
    sample = tuple(shape) if isinstance(shape, Iterable) else (index(shape),)
    if not sample or min(sample) < 1:
        raise OptionError(
            f"expected the shape of a sample, e.g. (3, 32, 32), or a number of features; got {shape}: "
            "leave the batch axis out"
        )
    num_features = prod(sample) if features == "element" else sample[0]
    gate = AdaptiveNorm(
        norm,
        skip,
        num_features=num_features,
        features=features,
        evaluation=evaluation,
        rule=rule,
        min_examples=min_examples,
        **gate_options(norm, {"affine": affine, **options}),
    )
    first = next(model.parameters(), None)
    return AdaptedInput(gate if first is None else gate.to(first.device), model)


def gate_options(norm: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with momentum=None where the norm knows it and nothing else was asked."""
    known = accepted(norm)
    fixed: dict[str, Any] = {"momentum": None} if "momentum" in known else {}
    if not options.get("affine", True) and "affine" not in known:
        options = {name: value for name, value in options.items() if name != "affine"}
    return fixed | options
