"""Carrying decisions out: the only module of the clients that reaches `norms`."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

import norms
from clients.errors import LoaderError
from clients.standardize import standardize_input


@dataclass
class _Following:
    """What of a model follows; gates are held weakly, since a model may itself be a gate."""

    gates: list[weakref.ref[norms.AdaptiveNorm]]
    hook: RemovableHandle | None = None
    normalize: list[bool] = field(default_factory=lambda: [False])


class AttachedModels:
    """The models that follow a loader, held weakly: a loader keeps no model alive; its copies are followed by none."""

    def __init__(self) -> None:
        # not a WeakKeyDictionary, whose length is a call of Python: this is asked for every batch
        self.following: dict[weakref.ref[nn.Module], _Following] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle takes along: no model."""
        return {"following": {}}

    def add(self, model: nn.Module, rule: Mapping[str, Any], *, standardize: bool = False) -> None:
        """Let a model's gates follow, and give them the plan's rule for evaluation.

        Args:
            model: with a gate, unless its input is standardized.
            rule: `Plan.rule`.
            standardize: in training, standardize the first argument of the model where the batch
                is flagged: on the device where the model gets it.

        Raises:
            LoaderError: the model has no gate.
        """
        self.discard(model)
        if any(True for _ in norms.gates(model)):
            norms.set_rule(model, dict(rule))
        elif not standardize:
            raise LoaderError(
                "expected a model with at least one gate (norms.AdaptiveNorm); "
                f"{type(model).__name__} has none. Put one in front with "
                "norms.adapt_input(model, ...), or convert its norm layers"
            )
        following = _Following(_gates(model))
        if standardize:
            following.hook = model.register_forward_pre_hook(_StandardizeFirst(following.normalize))
        forget = self.following
        self.following[weakref.ref(model, lambda dead: forget.pop(dead, None) and None)] = following

    def discard(self, model: nn.Module) -> None:
        """Let a model be."""
        following = self.following.pop(weakref.ref(model), None)
        if following is not None and following.hook is not None:
            following.hook.remove()

    def refresh(self) -> None:
        """Find the gates anew: a model may have been converted since."""
        for reference, following in list(self.following.items()):
            model = reference()
            if model is not None:
                following.gates = _gates(model)

    def set(self, normalize: bool) -> None:
        """Set the gates of every model that is still alive."""
        for following in list(self.following.values()):
            following.normalize[0] = normalize
            for reference in following.gates:
                gate = reference()
                # walking the model and assigning to a module cost microseconds a batch
                if gate is not None and gate.decision is not normalize:
                    gate.decision = normalize


class _StandardizeFirst:
    """A model's forward pre-hook; copies and pickles of the model keep the last decision."""

    def __init__(self, normalize: list[bool]) -> None:
        self.normalize = normalize

    def __call__(self, model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not model.training or not self.normalize[0]:
            return None
        if not arguments or not isinstance(arguments[0], torch.Tensor):
            raise LoaderError(
                'standardize_input="model": expected a tensor as the model\'s first positional argument; got '
                f"{type(arguments[0]).__name__ if arguments else 'none'}. Call clients.standardize_input yourself "
                "where loader.decision.normalize"
            )
        return standardize_input(arguments[0]), *arguments[1:]


def synchronizes(model: nn.Module) -> bool:
    """Return whether a gate of the model holds a layer that waits for the other ranks."""
    return any(
        isinstance(module, nn.SyncBatchNorm) or (isinstance(module, norms.RunningNorm) and module.ranks is not None)
        for gate in norms.gates(model)
        for module in gate.modules()
    )


def _gates(model: nn.Module) -> list[weakref.ref[norms.AdaptiveNorm]]:
    return [weakref.ref(gate) for gate in norms.gates(model)]
