"""Carrying decisions out: the only module of the clients that reaches `norms`."""

import weakref

from torch import nn

import norms
from assessor import Decision, Plan
from clients.errors import LoaderError


class AttachedModels:
    """The models whose gates follow a loader, held weakly: a loader keeps no model alive."""

    def __init__(self) -> None:
        self._models: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def add(self, model: nn.Module, plan: Plan) -> None:
        """Let a model's gates follow, and give them the plan's rule for evaluation.

        Raises:
            LoaderError: the model has no gate.
        """
        if not any(True for _ in norms.gates(model)):
            raise LoaderError(
                "expected a model with at least one gate (norms.AdaptiveNorm); "
                f"{type(model).__name__} has none. Put one in front with "
                "norms.adapt_input(model, ...), or convert its norm layers"
            )
        norms.set_rule(model, dict(plan.rule))
        self._models.add(model)

    def discard(self, model: nn.Module) -> None:
        """Let a model's gates be."""
        self._models.discard(model)

    def set(self, decision: Decision) -> None:
        """Set the gates of every model that is still alive."""
        for model in self._models:
            norms.set_decision(model, decision.normalize)
