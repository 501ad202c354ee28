"""An optimizer that follows a model through a conversion."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer

NAMES = "param_names"
"""Where a group has the names of its parameters, if the optimizer was made of named ones."""


class Rewiring(NamedTuple):
    """What was changed, in words, and in which group each of the model's parameters was before, by name."""

    notes: tuple[str, ...]
    homes: dict[str, int]


def rewire(
    optimizer: Optimizer,
    before: Mapping[str, nn.Parameter],
    after: Mapping[str, nn.Parameter],
    moved: Iterable[tuple[nn.Parameter, nn.Parameter]] = (),
    norms: Sequence[str] = (),
    homes: Mapping[str, int] | None = None,
) -> Rewiring:
    """Let the optimizer's groups hold the parameters of the converted model; return what was changed.

    A parameter that was copied keeps its place and its state; one that is gone leaves its group, with its state; a new
    one joins the group of the parameters that its norm had, or of the model's first parameter, and one that comes back
    its former group. Parameters of other models, and those that the optimizer never had (frozen ones), are left alone.

    Args:
        optimizer: any of torch's.
        before: the parameters of the model before, by name.
        after: those of the converted model.
        moved: pairs of a parameter and its copy.
        norms: paths of the norms that were replaced.
        homes: by name the groups before the conversion that is now reverted.
    """
    copies = {id(old): new for old, new in moved}
    home: dict[str, int] = {}
    names = {id(parameter): name for name, parameter in before.items()}
    kept = {id(parameter) for parameter in after.values()}
    notes = []
    for index, group in enumerate(optimizer.param_groups):
        members: list[tuple[nn.Parameter, Any]] = []
        for old, label in zip(group["params"], group.get(NAMES, group["params"]), strict=True):
            name, new = names.get(id(old)), copies.get(id(old), old)
            home |= {} if name is None else {name: index}
            if name is None or id(new) in kept:
                members.append((new, label))
                if new is not old and old in optimizer.state:
                    optimizer.state[new] = optimizer.state.pop(old)
            else:
                optimizer.state.pop(old, None)
                notes.append(f"{name}: left group {index}")
        group["params"] = [new for new, _ in members]
        if NAMES in group:
            group[NAMES] = [label for _, label in members]
    known = {id(parameter) for parameter in (*before.values(), *copies.values())}
    for name, parameter in after.items():
        if id(parameter) in known:
            continue
        joined = _beside(name, norms, home) if homes is None else homes.get(name)
        if joined is None:
            continue
        group = optimizer.param_groups[joined]
        group["params"].append(parameter)
        if NAMES in group:
            group[NAMES].append(name)
        notes.append(f"{name}: joined group {joined}")
    if homes is not None:
        _reorder(optimizer, [after[name] for name in homes if name in after])
    return Rewiring(tuple(notes), home)


def _reorder(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Put each group's parameters into this order, others first: an optimizer's checkpoint knows them by place."""
    places = {id(parameter): place for place, parameter in enumerate(parameters)}
    for group in optimizer.param_groups:
        order = sorted(range(len(group["params"])), key=lambda i: places.get(id(group["params"][i]), -1))
        for key in {"params", NAMES} & set(group):
            group[key] = [group[key][i] for i in order]


def _beside(name: str, norms: Sequence[str], home: Mapping[str, int]) -> int | None:
    """Return the group of the parameters that the norm of a new one had, or else the first of the model's, if any."""
    norm = next((path for path in norms if name.startswith(f"{path}.") or not path), "")
    of_norm = [index for old, index in home.items() if old.startswith(f"{norm}.") or not norm]
    return next(iter([*of_norm, *home.values()]), None)
