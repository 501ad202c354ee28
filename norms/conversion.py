"""Swap the norms of a model for another kind, and back."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from norms.adapted_input import AdaptedInput
from norms.adaptive import AdaptiveNorm
from norms.base import ChannelNorm
from norms.channels_last import ChannelsLast
from norms.conversion_report import Row, table
from norms.errors import ConversionError, NormError, OptionError
from norms.kalman_trace import CarriedPriors, carries_priors, carry_priors
from norms.modes import population
from norms.registry import accepted, check_options, create
from norms.rewiring import rewire
from norms.sources import Source, carry, describe
from norms.with_activation import NormAct, has_activation

WRAPPERS = (AdaptiveNorm, ChannelsLast, NormAct)
GATE_OPTIONS = ("skip", "evaluation", "rule", "min_examples")


@dataclass
class Conversion:
    """A converted model, and what was done to it. `str()` gives the report as a table.

    Attributes:
        model: the model with its new norms; with prior=..., what `carry_priors` makes of it.
        report: a row for every norm found.
        optimizer_changes: which parameters left or joined which group of the optimizer.
    """

    model: nn.Module
    report: tuple[Row, ...] = ()
    optimizer_changes: tuple[str, ...] = ()
    _swaps: list[tuple[str, nn.Module, nn.Module]] = field(default_factory=list, repr=False)
    _optimizer: Optimizer | None = field(default=None, repr=False)
    _homes: dict[str, int] = field(default_factory=dict, repr=False)
    _without_priors: nn.Module | None = field(default=None, repr=False)

    @property
    def changed(self) -> int:
        """How many norms were replaced or wrapped."""
        return sum(row.changed for row in self.report)

    def __str__(self) -> str:
        """Return the report as an aligned table."""
        return "\n".join([table(self.report), *(f"optimizer: {change}" for change in self.optimizer_changes)])

    def revert(self) -> nn.Module:
        """Put the former norms back, with the weights and buffers as they are now; return the model.

        What had no place in the new norm (the running statistics of a batch norm that became a layer
        norm) is as it was at the conversion. The optimizer follows. A second call changes nothing.

        Raises:
            ConversionError: a converted norm has been replaced since.
        """
        if self._swaps and self._without_priors is not None:
            self.model = self._without_priors
        for path, _, new in self._swaps:
            if self.model.get_submodule(path) is not new:
                raise ConversionError(
                    f"expected the converted {type(new).__name__} at {path or 'the root'}; got another "
                    "module there: undo what replaced it first"
                )
        before = dict(self.model.named_parameters())
        for path, old, new in self._swaps:
            core = _core(new)
            if core is not old:
                _follow_device(old, core)
                carry(core, old)
            old.train(new.training)
            self.model = _put(self.model, path, old)
        if self._optimizer is not None:
            paths = [path for path, _, _ in self._swaps]
            after = dict(self.model.named_parameters())
            rewire(self._optimizer, before, after, norms=paths, homes=self._homes)
        self._swaps = []
        return self.model


def convert(
    model: nn.Module,
    name: str,
    *,
    where: Callable[[str, nn.Module], bool] | None = None,
    inplace: bool = False,
    adaptive: bool = False,
    own: bool = False,
    optimizer: Optimizer | None = None,
    **options: Any,
) -> Conversion:
    """Return the model with its norms replaced by norms called `name`.

    Found are torch's BatchNorm1d/2d/3d, SyncBatchNorm, GroupNorm, InstanceNorm1d/2d/3d, LayerNorm and
    RMSNorm over the last axis (these read channels-last input, so the new norm is put into ChannelsLast),
    timm's norms, with their dropout and activation kept behind the new norm (NormAct), and the norms of this
    package. Kept are weights (the same Parameter objects, so an optimizer stays valid
    with inplace=True), eps, momentum, affine, device, dtype, training mode, requires_grad, and the buffers
    that mean the same in both. The gate of an AdaptedInput and the skip paths of gates are left alone.

    Args:
        model: any module; a bare norm too.
        name: one of `names()`.
        where: called with path and module of each norm found; replace it or not.
        inplace: change `model` itself rather than a copy.
        adaptive: put an AdaptiveNorm around each, so that `set_decision` reaches it. A norm that is of
            the kind `name` already is wrapped as it is.
        own: replace torch's norms of the kind `name` too, by this package's, as `synchronize` needs them.
        optimizer: of the model; its groups are made to hold the parameters of the converted model, with their
            state. Parameters that a new norm has no use for leave it, and new ones join the group of the norm's
            others (`Conversion.optimizer_changes`).
        **options: of the new norm, and with adaptive=True also skip, evaluation, rule, min_examples.
            They take precedence over what is carried over; device and dtype must be those of the weights.
            With `prior` the norms called "kalman" hand their states on too, by `carry_priors`, which makes a model
            of its own that shares all layers.

    Raises:
        UnknownNormError: no norm called `name`.
        OptionError: an option that the norm does not take, or that does not fit one of the norms; the message says
            where. The model is then as it was.
        ConversionError: a copy of a model with modules that are not initialized; with `prior`, a model that cannot
            be traced; a model that carries priors, unless to "kalman".

    >>> from torch import nn
    >>> print(convert(nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()), "layer"))
    path  from         to         changed  reason
    0     BatchNorm1d  LayerNorm  yes      dropped: num_batches_tracked, running_mean, running_var
    """
    gate_options = {k: options.pop(k) for k in GATE_OPTIONS if adaptive and k in options}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    check_options(name, options)
    if carries_priors(model) and (name != "kalman" or adaptive):
        raise ConversionError(
            "expected a model whose norms are called one by one; got one whose Kalman norms hand their states on: "
            "convert the model that it was made of (Conversion.revert gives it back)"
        )
    copied: dict[int, Any] = {}
    conversion = Conversion(model if inplace else _copy(model, copied), _optimizer=optimizer)
    before = dict(model.named_parameters())
    rows: list[Row] = []
    made: dict[int, nn.Module] = {}
    for path, parent, module in list(_walk(conversion.model)):
        source = describe(module)
        if source is None:
            continue
        refusal = source.refusal
        if not refusal and where is not None and not where(path, module):
            refusal = "left out by where"
        new, reason = module, refusal
        if not refusal and id(module) in made:
            new, reason = made[id(module)], "shared with an earlier path"
        elif not refusal:
            active = has_activation(module)  # a gate must not skip the activation with the norm
            anew = own or (adaptive and active)
            in_gate = isinstance(parent, AdaptiveNorm)
            try:
                _check_placement(source, options)
                new, reason = _replace(source, name, _placement(conversion.model) | options, anew=anew)
                if adaptive and not in_gate and not (active and new is module):
                    new, reason = AdaptiveNorm(new, **gate_options), reason or "wrapped as it is"
            except NormError as error:  # nothing has been put into the model yet
                raise type(error)(f"at {path or 'the root'}: {error}") from error
            if in_gate and gate_options:
                kept = f"its gate keeps its own {', '.join(gate_options)}"
                reason = f"{reason or f'is {name} already'}; {kept}"
            if source.channels_last and new is not module and _core(new) is not module:
                new = ChannelsLast(new)
            if active and new is not module:
                new = NormAct(new, module.get_submodule("drop"), module.get_submodule("act"))
            made[id(module)] = new.train(module.training)
        if isinstance(parent, AdaptiveNorm) and parent.skip_path == "population" and population(new) is None:
            new, reason = module, f"the gate's skip path needs running statistics, which {name} has not"
        if new is not module:
            conversion._swaps.append((path, module, new))
        reason = reason or f"is {name} already"
        rows.append(Row(path, _label(module), _label(new), new is not module, reason))
    for path, _, new in conversion._swaps:
        conversion.model = _put(conversion.model, path, new)
    conversion.report = tuple(rows)
    carried = _carried(conversion, options["prior"]) if options.get("prior") is not None else None
    if optimizer is not None:
        after = dict(conversion.model.named_parameters())
        moved = [(parameter, copied[id(parameter)]) for parameter in before.values() if id(parameter) in copied]
        paths = [path for path, _, _ in conversion._swaps]
        done = rewire(optimizer, before, after, moved, paths)
        conversion.optimizer_changes, conversion._homes = done.notes, done.homes
    if carried is not None:
        conversion._without_priors, conversion.model = conversion.model, carried.model
        conversion.report = tuple(_with_prior(row, carried.report) for row in rows)
    return conversion


def _carried(conversion: Conversion, prior: str) -> CarriedPriors | None:
    """Return what `carry_priors` makes of the model; None where there is nothing to do."""
    if all(not path for path, _, _ in conversion._swaps):
        return None
    try:
        return carry_priors(conversion.model, prior=prior)
    except Exception:  # whatever it is, the model is as it was
        conversion._optimizer = None  # it has not followed yet
        conversion.revert()
        raise


def _copy(model: nn.Module, copied: dict[int, Any]) -> nn.Module:
    """Return a deep copy; `copied` receives the copy of each object by its id."""
    for path, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise ConversionError(
                f"expected a model that can be copied; got {type(module).__name__} at {path or 'the root'}, which is "
                "not initialized: call the model once, then convert"
            )
    return copy.deepcopy(model, copied)


def _check_placement(source: Source, options: dict[str, Any]) -> None:
    """Raise OptionError where another device or dtype is asked for than the norm's weights have, which are kept."""
    device, has = options.get("device"), source.options.get("device")
    if device is not None and has is not None:
        asked = torch.device(device)
        if asked.type != has.type or asked.index not in (None, has.index):
            raise OptionError(f"expected the device of the weights that are kept, {has}; got {asked}: move the model")
    dtype, has = options.get("dtype"), source.options.get("dtype")
    if None not in (dtype, has) and dtype != has:
        raise OptionError(f"expected the dtype of the weights that are kept, {has}; got {dtype}: cast the model")


def _replace(source: Source, name: str, options: dict[str, Any], *, anew: bool) -> tuple[nn.Module, str]:
    """Return the new norm and what it lost, or the old one and "" where it is of that kind already."""
    known = accepted(name)
    asked = {k: v for k, v in options.items() if k not in ("device", "dtype")}
    ours = isinstance(source.module, ChannelNorm)
    if source.kind == name and (ours or not anew) and all(source.options.get(k) == v for k, v in asked.items()):
        return source.module, ""
    if source.kind == name and name in ("layer", "rms") and not ours:
        return source.module, f"over the channels at each position; {name} here is over the positions too"
    carried = {k: v for k, v in (options | source.options | asked).items() if k in known}
    new = create(name, source.num_features, **carried)
    dropped, started = carry(source.module, new)
    parts = [f"dropped: {', '.join(sorted(dropped))}"] if dropped else []
    parts += [f"new: {', '.join(sorted(started))}"] if started else []
    return new, "; ".join(parts) or "weights and buffers kept"


def _with_prior(row: Row, carried: tuple[Row, ...]) -> Row:
    """Return the row of a norm with what is to be said of its prior."""
    told = [other.reason for other in carried if other.path in (row.path, f"{row.path}.norm")]
    return row._replace(reason="; ".join([row.reason, *told]))


def _walk(
    module: nn.Module, path: str = "", parent: nn.Module | None = None
) -> Iterator[tuple[str, nn.Module | None, nn.Module]]:
    """Yield path, parent and module of all modules but the front gates and the skip paths of gates."""
    yield path, parent, module
    left_alone = "skip" if isinstance(module, AdaptiveNorm) else "gate" if isinstance(module, AdaptedInput) else ""
    for name, child in module._modules.items():
        if child is not None and name != left_alone:
            yield from _walk(child, f"{path}.{name}" if path else name, module)


def _placement(model: nn.Module) -> dict[str, Any]:
    """Return the device of the model, for a norm that has no tensor of its own to tell it."""
    first = next(model.parameters(), None)
    return {} if first is None else {"device": first.device}


def _follow_device(old: nn.Module, new: nn.Module) -> None:
    """Move `old` to where `new` is now."""
    for tensor in (*new.parameters(), *new.buffers()):
        old.to(tensor.device)
        return


def _core(module: nn.Module) -> nn.Module:
    """Return the norm inside the wrappers that a conversion puts around it."""
    while isinstance(module, WRAPPERS):
        module = module.norm
    return module


def _label(module: nn.Module) -> str:
    if isinstance(module, WRAPPERS):
        return f"{type(module).__name__}({_label(module.norm)})"
    return type(module).__name__


def _put(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """Set the submodule at path; return the model, which is `module` itself at the root."""
    if not path:
        return module
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
    return model
