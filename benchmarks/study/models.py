"""A network with an arm's norms in its slots, for training and for each way of evaluating it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

import norms
from benchmarks.study.arms import Arm
from benchmarks.study.networks import InputSlot, build

RULE = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a network is made of.

    Attributes:
        network, shape, classes: see networks.build.
        batch_size: of the training; options of some norms follow it.
        norm, where, skip, within: as of an arm.
        gated: the norms are put into AdaptiveNorms.
        selu: a self-normalizing network.
    """

    network: str
    shape: tuple[int, ...]
    classes: int
    batch_size: int
    norm: str
    where: str
    skip: str
    gated: bool
    selu: bool
    within: str = ""


def kind_of(arm: Arm, network: str, shape: tuple[int, ...], classes: int, batch_size: int, flags: Tensor) -> Kind:
    """Return what an arm trains when the batches with these flags are normalized.

    Gates that never switch are what they are: the norm alone, no norm, or the norm on their skip path.
    """
    norm, skip, gated = arm.norm, arm.skip if arm.method else "", bool(arm.method)
    if gated and bool(flags.all()):
        skip, gated = "", False
    elif gated and not bool(flags.any()) and skip != "population":
        norm, skip, gated = "none" if skip == "identity" else skip, "", False
    where = "both" if norm == "none" else arm.where
    return Kind(network, shape, classes, batch_size, norm, where, skip, gated, arm.selu, arm.within)


class Fronted(nn.Module):
    """model(gate(x)): the parts are named as those of an AdaptedInput, so that either loads the other's state."""

    def __init__(self, gate: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (N, classes)."""
        y: Tensor = self.model(self.gate(x))
        return y


class Watch(norms.BatchNorm):
    """Keeps the running statistics of flagged batches at the input, and changes nothing.

    With it a gate at the input reaches its verdict for batches of one sample too, where only hidden layers are
    normalized.
    """

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x."""
        return x


def make(kind: Kind, *, rule: RULE | None = None, evaluation: str = "threshold") -> nn.Module:
    """Return a network with norms; the global random numbers of torch make its weights, the same for every norm."""
    hidden = kind.within or (kind.norm if kind.where != "input" else "none")

    def slot(channels: int) -> nn.Module:
        if hidden == "none":
            return nn.Identity()
        norm = norms.create(hidden, channels, **_options(kind, hidden, channels))
        if not kind.gated or kind.within:
            return norm
        return norms.AdaptiveNorm(norm, kind.skip, num_features=channels, rule=rule, evaluation=_mode(evaluation))

    body = build(kind.network, kind.shape, kind.classes, slot)
    if kind.gated:
        return norms.AdaptedInput(_gate(kind, rule, evaluation), body)
    model = Fronted(_front(kind), body)
    if kind.selu:
        return norms.self_normalize(model).model
    if kind.norm == "kalman":
        return norms.carry_priors(model).model
    if kind.norm == "mean_only":
        norms.bounded_weight_norm(model)
    return model


def make_evaluated(arm: Arm, trained: Kind, state: Mapping[str, Tensor], rule: RULE | None, mode: str) -> nn.Module:
    """Return the arm's network with its gates in evaluation `mode`, and the weights of a training.

    Args:
        arm: with a method, or with a norm that is always applied.
        trained: what was trained, by `kind_of`.
        state: its state_dict.
        rule: of the plan; None where no gate follows one.
        mode: "threshold", "running", "batch" or "never".
    """
    skip = arm.skip if arm.method else "identity"
    kind = Kind(
        trained.network,
        trained.shape,
        trained.classes,
        trained.batch_size,
        arm.norm,
        arm.where,
        skip,
        True,
        False,
        arm.within,
    )
    model = make(kind, rule=rule, evaluation=mode)
    if trained.gated or trained.norm == arm.norm:
        known = state
    elif trained.norm == "none":
        known = {name: value for name, value in state.items() if not name.startswith("gate.")}
    else:
        slots = {name for name, module in model.named_modules() if isinstance(module, norms.AdaptiveNorm)}
        known = {_on_skip_path(name, slots): value for name, value in state.items()}
    model.load_state_dict({**model.state_dict(), **_wrapped(known, model)})
    return model.eval()


def depends_on_batch(arm: Arm) -> bool:
    """Return whether the arm's evaluation of a sample depends on the others in its batch."""
    return bool(arm.method) or arm.norm == "batch_layer"


def _wrapped(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the state with the names that a bare norm's tensors have inside a gate."""
    slots = {name for name, module in model.named_modules() if isinstance(module, norms.AdaptiveNorm)}
    known = set(model.state_dict())
    renamed = {}
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        renamed[f"{path}.norm.{leaf}" if path in slots and name not in known else name] = value
    return renamed


def _on_skip_path(name: str, slots: set[str]) -> str:
    path, _, leaf = name.rpartition(".")
    if path == "gate.norm":
        return f"gate.skip.{leaf}"
    return f"{path}.skip.{leaf}" if path in slots else name


def _front(kind: Kind) -> nn.Module:
    """Return the norm at the input: without affine, since a layer follows, its statistics averaged over all batches."""
    if kind.norm == "none" or kind.where == "hidden":
        return nn.Identity()
    by_channel = kind.norm == "instance"
    features = kind.shape[0] if by_channel else prod(kind.shape)
    return InputSlot(_input_norm(kind, kind.norm, features), by_channel=by_channel)


def _gate(kind: Kind, rule: RULE | None, evaluation: str) -> norms.AdaptiveNorm:
    features = prod(kind.shape)
    mode = _mode(evaluation)
    if kind.where == "hidden":
        watch = Watch(features, affine=False)
        return norms.AdaptiveNorm(watch, features="element", rule=rule, evaluation=mode)
    norm = _input_norm(kind, kind.norm, features)
    skip = kind.skip if kind.skip in ("identity", "population") else _input_norm(kind, kind.skip, features)
    return norms.AdaptiveNorm(norm, skip, features="element", rule=rule, evaluation=mode)


def _input_norm(kind: Kind, name: str, features: int) -> nn.Module:
    options = _options(kind, name, features) | {"affine": False, "momentum": None}
    accepted = norms.registry.accepted(name)
    return norms.create(name, features, **{option: value for option, value in options.items() if option in accepted})


def _options(kind: Kind, name: str, channels: int) -> dict[str, Any]:
    """Return the options that a norm needs for these channels and batches.

    Groups have two values at least, and as many as leave four groups: an MLP does not learn with groups of two values.
    Kalman norm's gain is the paper's: 0.9 for micro-batches of images, 0.05 for large ones.
    """
    groups = max(g for g in range(1, 5) if channels % g == 0 and (g == 1 or channels // g >= 2))
    size = kind.batch_size
    micro = size < 32 and kind.network in ("convnet", "resnet")
    options: dict[str, dict[str, Any]] = {
        "group": {"num_groups": groups},
        "batch_group": {"examples_per_group": 2, "channels_per_group": channels // groups},
        "ghost_batch": {"examples_per_group": max(min(4, size), size // 4)},
        "kalman": {"gain": 0.9 if micro else 0.05},
    }
    return options.get(name, {})


def _mode(evaluation: str) -> norms.decision.Evaluation:
    known: dict[str, norms.decision.Evaluation] = {
        "threshold": "threshold",
        "running": "running",
        "batch": "batch",
        "never": "never",
    }
    if evaluation not in known:
        raise ValueError(f"expected an evaluation among: {', '.join(known)}; got {evaluation!r}")
    return known[evaluation]


def flagged_moments(x: Tensor, flags: Tensor, batch_size: int) -> tuple[Tensor, Tensor, int]:
    """Return mean and unbiased variance of each element, averaged over the flagged batches, and how many there are.

    >>> flagged_moments(torch.tensor([[1.0], [3.0], [9.0], [9.0]]), torch.tensor([True, False]), 2)
    (tensor([2.]), tensor([2.]), 1)
    """
    batches = x[: len(flags) * batch_size].reshape(len(flags), batch_size, -1)[flags]
    if not len(batches) or batch_size < 2:
        return torch.zeros(x[0].numel()), torch.ones(x[0].numel()), 0
    return batches.mean(1).mean(0), batches.var(1).mean(0), len(batches)
