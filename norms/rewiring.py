"""An optimizer that follows a model through a conversion."""

from collections.abc import Iterable, Mapping, Sequence

from torch import nn
from torch.optim import Optimizer


def rewire(
    optimizer: Optimizer,
    before: Mapping[str, nn.Parameter],
    after: Mapping[str, nn.Parameter],
    moved: Iterable[tuple[nn.Parameter, nn.Parameter]] = (),
    norms: Sequence[str] = (),
) -> tuple[str, ...]:
    """Let the optimizer's groups hold the parameters of the converted model; return what was changed, in words.

    A parameter that was copied keeps its place and its state; one that is gone leaves its group, with its state; a new
    one joins the group of the parameters that its norm had, or of the model's first parameter. Parameters of other
    models, and those that the optimizer never had (frozen ones), are left alone.

    Args:
        optimizer: any of torch's.
        before: the parameters of the model before, by name.
        after: those of the converted model.
        moved: pairs of a parameter and its copy.
        norms: paths of the norms that were replaced.
    """
    copies = {id(old): new for old, new in moved}
    home: dict[str, int] = {}
    names = {id(parameter): name for name, parameter in before.items()}
    kept = {id(parameter) for parameter in after.values()}
    notes = []
    for index, group in enumerate(optimizer.param_groups):
        members = []
        for old in group["params"]:
            name, new = names.get(id(old)), copies.get(id(old), old)
            home |= {} if name is None else {name: index}
            if name is None or id(new) in kept:
                members.append(new)
                if new is not old and old in optimizer.state:
                    optimizer.state[new] = optimizer.state.pop(old)
            else:
                optimizer.state.pop(old, None)
                notes.append(f"{name}: left group {index}")
        group["params"] = members
    known = {id(parameter) for parameter in (*before.values(), *copies.values())}
    for name, parameter in after.items():
        if home and id(parameter) not in known:
            norm = next((path for path in norms if name.startswith(f"{path}.") or not path), "")
            beside = [index for old, index in home.items() if old.startswith(f"{norm}.") or not norm]
            index = beside[0] if beside else next(iter(home.values()))
            optimizer.param_groups[index]["params"].append(parameter)
            notes.append(f"{name}: joined group {index}")
    return tuple(notes)
