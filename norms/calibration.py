"""Exact population statistics, from a pass over data."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from norms.adaptive import AdaptiveNorm
from norms.base import RunningNorm
from norms.errors import OptionError


class _Reached(Exception):  # noqa: N818 - it ends a forward pass, and is no error
    """The layer whose input was wanted has been reached."""


class _InputMoments:
    """Count, mean and sum of squared deviations per channel of all inputs of a layer, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.m2: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Take up x of shape (N, C, *), by the merge of Chan, Golub & LeVeque (1983)."""
        values = x.detach().transpose(0, 1).flatten(1)
        values = values.to(torch.float32 if x.device.type == "mps" else torch.float64)
        n = values.shape[1]
        variance, mean = torch.var_mean(values, 1, correction=0)
        total = self.count + n
        distance = mean - self.mean
        self.mean = self.mean + distance * (n / total)
        self.m2 = self.m2 + variance * n + distance.square() * (self.count * n / total)
        self.count = total


def calibrate(model: nn.Module, loader: Iterable[Any], *, exact: bool = True) -> tuple[str, ...]:
    """Set running mean and variance of the model's norms to those of the data; return the norms' paths.

    The statistics are those of each norm's inputs over all batches together, as inference sees them: in eval
    mode, with the norms before it calibrated already. Set are norms whose running_mean and running_var
    hold one value a channel (torch's batch norms, and of this package those with such buffers). Norms inside a
    gate are left alone, since theirs are the statistics of the flagged batches; so are norms that no batch
    reaches. Nothing else changes, and the model's mode is restored.

    Args:
        model: any module, called with the batch alone.
        loader: a DataLoader or a list of tensors, or of tuples whose first entry is the batch; must be iterable
            many times if exact.
        exact: one pass per norm, in the order of execution, each stopped at its norm. Otherwise one pass for
            all, where each norm sees inputs made with the former statistics of the norms before it: exact
            for a model with one norm, and where former and new statistics agree.

    Raises:
        OptionError: no batch, or batches that can be iterated only once although exact.

    Source: Luo et al., arXiv 1809.00846, section 4 (population statistics from the training data).

    >>> norm = nn.BatchNorm1d(1)
    >>> calibrate(nn.Sequential(norm), [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0]])])
    ('0',)
    >>> norm.running_mean.item(), norm.running_var.item()
    (2.0, 4.0)
    """
    if exact and iter(loader) is loader:
        raise OptionError(
            "expected batches that can be iterated many times; got an iterator: pass a DataLoader or a list, "
            "or exact=False"
        )
    norms = _norms(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        if not exact:
            return tuple(_measure(model, norms, loader))
        calls = _calls(model, norms, loader)
        for path, count in calls.items():
            _measure(model, {path: norms[path]}, loader, stop=count == 1)
        return tuple(calls)
    finally:
        for module, mode in modes:
            module.training = mode


def _norms(model: nn.Module) -> dict[str, nn.Module]:
    gated = {id(norm) for gate in model.modules() if isinstance(gate, AdaptiveNorm) for norm in gate.modules()}
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, RunningNorm | _BatchNorm)
        and id(module) not in gated
        and all(
            (buffer := module._buffers.get(name)) is not None and buffer.ndim == 1
            for name in ("running_mean", "running_var")
        )
    }


def _calls(model: nn.Module, norms: dict[str, nn.Module], batches: Iterable[Any]) -> dict[str, int]:
    """Return how often a forward pass calls each norm, in the order of their first calls."""
    calls: dict[str, int] = {}

    def count(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            calls[path] = calls.get(path, 0) + 1

        return hook

    hooks = [norm.register_forward_pre_hook(count(path)) for path, norm in norms.items()]
    try:
        for batch in batches:
            _forward(model, batch)
            return calls
    finally:
        for handle in hooks:
            handle.remove()
    raise OptionError("expected at least one batch to calibrate with; got none")


@torch.no_grad()
def _measure(model: nn.Module, norms: dict[str, nn.Module], batches: Iterable[Any], *, stop: bool = False) -> list[str]:
    """Set the statistics of these norms from one pass; return the paths of those that were reached."""
    found = {path: _InputMoments() for path in norms}

    def collect(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            found[path].add(args[0])
            if stop:
                raise _Reached

        return hook

    hooks = [norm.register_forward_pre_hook(collect(path)) for path, norm in norms.items()]
    n_batches = 0
    try:
        for batch in batches:
            n_batches += 1
            try:
                _forward(model, batch)
            except _Reached:
                continue
    finally:
        for handle in hooks:
            handle.remove()
    if not n_batches:
        raise OptionError("expected at least one batch to calibrate with; got none")
    reached = [path for path in norms if found[path].count > 1]
    for path in reached:
        moments, norm = found[path], norms[path]
        norm.get_buffer("running_mean").copy_(torch.as_tensor(moments.mean))
        norm.get_buffer("running_var").copy_(torch.as_tensor(moments.m2) / (moments.count - 1))
        norm.get_buffer("num_batches_tracked").fill_(n_batches)
    return reached


@torch.no_grad()
def _forward(model: nn.Module, batch: Any) -> None:
    x = batch[0] if isinstance(batch, tuple | list) else batch
    first = next(model.parameters(), None)
    model(x if first is None else x.to(first.device))
