"""Let the Kalman norms of a model hand their states on, along a graph that is found by tracing."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional as F

from norms import kalman_state
from norms.adaptive import AdaptiveNorm
from norms.base import ChannelNorm
from norms.conversion_report import Row, table
from norms.errors import ConversionError, OptionError
from norms.kalman import PRIORS, KalmanNorm
from norms.per_sample import NoNorm

MODULE_ACTIVATIONS = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Tanh: "tanh",
    nn.SELU: "selu",
}
FUNCTION_ACTIVATIONS: dict[Any, str] = {
    torch.relu: "relu",
    F.relu: "relu",
    F.relu6: "relu6",
    F.gelu: "gelu",
    F.silu: "silu",
    F.mish: "mish",
    F.hardswish: "hardswish",
    torch.tanh: "tanh",
    F.selu: "selu",
    "relu": "relu",
    "relu_": "relu",
    "tanh": "tanh",
}
SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
# Pooling leaves the state as it is, as in the released code; so do layers that keep moments on average.
TRANSPARENT = (
    nn.Identity,
    NoNorm,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass
class CarriedPriors:
    """A model whose Kalman norms hand their states on. `str()` gives the report as a table.

    Attributes:
        model: computes what the traced model computed, with priors in training. It shares all layers with it,
            under the same names.
        report: a row for every Kalman norm: whether it has a prior, and where it comes from or what ended it.
    """

    model: fx.GraphModule
    report: tuple[Row, ...]

    def __str__(self) -> str:
        """Return the report as an aligned table."""
        return table(self.report)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ChannelNorm) or super().is_leaf_module(m, module_qualified_name)


def carry_priors(model: nn.Module, *, prior: str | None = None) -> CarriedPriors:
    """Return the model with every Kalman norm's state handed on to the next, as its prior.

    `convert(model, "kalman", examples_per_group=...)` makes the norms; this joins them. A state goes through
    activations, linear and convolution layers (with zero padding), residual sums (means and variances add),
    pooling and dropout (unchanged). Anything else ends it, and the report says where.

    Args:
        model: with KalmanNorm layers, of a structure that torch.fx can trace: no branches that depend on data
            or on the training mode.
        prior: "sampled" as released, which draws from torch's random numbers, or "moments", in closed form; None:
            the `prior` that the norms were made with, else "sampled".

    Raises:
        OptionError: no KalmanNorm, another prior, or norms made with different ones.
        ConversionError: the model cannot be traced, has gates, or carries priors already.

    Source: wanggrun/Kalman-Normalization, cifar-kn-microbatch.py.

    >>> model = nn.Sequential(KalmanNorm(2), nn.ReLU(), nn.Linear(2, 3), KalmanNorm(3))
    >>> print(carry_priors(model, prior="moments"))
    path  from        to          changed  reason
    0     KalmanNorm  KalmanNorm  no       no norm before it
    3     KalmanNorm  KalmanNorm  yes      prior from 0, relu, 2
    """
    if prior not in (None, *PRIORS):
        raise OptionError(f"expected prior 'sampled' or 'moments'; got {prior!r}")
    norms = [module for module in model.modules() if isinstance(module, KalmanNorm)]
    if not norms:
        raise OptionError(
            f"expected a model with KalmanNorm layers; got {type(model).__name__} without any: "
            "convert(model, 'kalman', ...) makes them"
        )
    if any(isinstance(module, AdaptiveNorm) for module in model.modules()):
        raise ConversionError(
            "expected a model without gates, whose decisions a traced graph does not see; got one with an AdaptiveNorm"
            ": carry the priors first, or use the Kalman norms without priors"
        )
    if carries_priors(model):
        raise ConversionError("expected a model that carries no priors yet; got one that does: take the one it is of")
    named = sorted({norm.prior for norm in norms if norm.prior is not None})
    if prior is None and len(named) > 1:
        raise OptionError(f"expected one prior; the norms were made with {' and '.join(named)}: pass prior=...")
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise ConversionError(
            f"expected a model that torch.fx can trace; {type(model).__name__} gave {type(error).__name__}: "
            f"{error}: take branches on data out of its forward, or use the Kalman norms without priors"
        ) from error
    joiner = _Joiner(model, graph, sampled=(prior or (*named, "sampled")[0]) == "sampled")
    rows = joiner.join()
    graph.lint()
    joined = fx.GraphModule(model, graph, class_name=type(model).__name__)
    joined.training = model.training
    for path, module in joined.named_modules():
        if path and module is not (own := model.get_submodule(path)):  # a container made anew; layers are shared
            module.training = own.training
    return CarriedPriors(joined, rows)


def carries_priors(model: nn.Module) -> bool:
    """Return whether `carry_priors` made the model, or a part of it."""
    graphs = (module.graph for module in model.modules() if isinstance(module, fx.GraphModule))
    return any(node.kwargs.get("with_state") for graph in graphs for node in graph.nodes)


class _Joiner:
    """Adds to a graph, beside each node, the node of the state behind it."""

    def __init__(self, model: nn.Module, graph: fx.Graph, *, sampled: bool) -> None:
        self.model = model
        self.graph = graph
        self.sampled = sampled
        self.states: dict[fx.Node, fx.Node] = {}
        self.trails: dict[fx.Node, str] = {}

    def join(self) -> tuple[Row, ...]:
        rows = []
        for node in list(self.graph.nodes):
            source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
            module = self.model.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, KalmanNorm):
                rows.append(self._norm(node, source))
            elif source is not None:
                self._step(node, source, module)
        return tuple(rows)

    def _norm(self, node: fx.Node, source: fx.Node | None) -> Row:
        prior = self.states.get(source) if source is not None else None
        trail = self.trails.get(source, "no norm before it") if source is not None else ""
        if not node.args:
            raise ConversionError(
                f"expected the norm {node.target} to be called with its input as the first argument; got "
                f"{', '.join(node.kwargs) or 'nothing'} by name: write norm(x) in the model's forward"
            )
        node.args = (node.args[0], prior)
        beside = {name: value for name, value in node.kwargs.items() if name in ("residual", "relu")}
        node.kwargs = {**beside, "with_state": True}
        with self.graph.inserting_after(node):
            y = self.graph.call_function(operator.getitem, (node, 0))
            state = self.graph.call_function(operator.getitem, (node, 1))
        node.replace_all_uses_with(y, delete_user_cb=lambda user: user not in (y, state))
        self._behind(node, y, state)
        name = KalmanNorm.__name__
        reason = f"prior from {trail}" if prior is not None else trail
        return Row(str(node.target), name, name, prior is not None, reason)

    def _behind(self, node: fx.Node, y: fx.Node, state: fx.Node) -> None:
        """Note the state of a norm's result: behind the residual sum and the relu too, where the norm does them."""
        trail, residual = str(node.target), node.kwargs.get("residual")
        if isinstance(residual, fx.Node):
            other = self.states.get(residual)
            if other is None:
                self.trails[y] = f"ends at {trail}: its residual has no state"
                return
            state = self._call(state, kalman_state.add, state, other)
            trail = f"({trail}) + ({self.trails[residual]})"
        if node.kwargs.get("relu"):
            state, trail = self._call(state, kalman_state.activate, state, "relu"), f"{trail}, relu"
        self.states[y], self.trails[y] = state, trail

    def _step(self, node: fx.Node, source: fx.Node, module: nn.Module | None) -> None:
        """Carry the state of `source` over to `node`, or note what ends it."""
        label = str(node.target) if node.op == "call_module" else node.name
        if node.target in SUMS and module is None:
            self._sum(node, source)
            return
        state, trail = self.states.get(source), self.trails.get(source)
        if trail is None:
            return
        activation = (
            MODULE_ACTIVATIONS.get(type(module)) if module is not None else FUNCTION_ACTIVATIONS.get(node.target)
        )
        new: fx.Node | None = None
        if state is not None and activation is not None:
            new, label = self._call(node, kalman_state.activate, state, activation), activation
        elif state is not None and type(module) in TRANSPARENT:
            new, label = state, ""
        elif state is not None and _is_layer(module):
            new = self._layer(node, source, state, cast(nn.Module, module))
        if new is not None:
            self.states[node] = new
            self.trails[node] = f"{trail}, {label}" if label else trail
        else:
            self.trails[node] = trail if trail.startswith("ends") else f"ends at {label}"

    def _sum(self, node: fx.Node, source: fx.Node) -> None:
        other = node.args[1] if len(node.args) > 1 else None
        if not isinstance(other, fx.Node):
            self.trails[node] = f"ends at {node.name}"
            return
        a, b = self.states.get(source), self.states.get(other)
        trails = [self.trails.get(branch, "no norm") for branch in (source, other)]
        if a is not None and b is not None:
            self.states[node] = self._call(node, kalman_state.add, a, b)
            self.trails[node] = f"({trails[0]}) + ({trails[1]})"
        else:
            self.trails[node] = f"ends at {node.name}: a branch has no state"

    def _layer(self, node: fx.Node, source: fx.Node, state: fx.Node, layer: nn.Module) -> fx.Node:
        options = None
        if isinstance(layer, CONVOLUTIONS):
            options = {k: getattr(layer, k) for k in ("stride", "padding", "dilation", "groups")}
        with self.graph.inserting_after(node):
            weight = self.graph.get_attr(f"{node.target}.weight")
        last = weight
        bias = None
        if layer.bias is not None:
            with self.graph.inserting_after(last):
                bias = last = self.graph.get_attr(f"{node.target}.bias")
        return self._call(last, kalman_state.through, state, source, weight, bias, options, self.sampled)

    def _call(self, node: fx.Node, function: Callable[..., Any], *args: Any) -> fx.Node:
        with self.graph.inserting_after(node):
            call = self.graph.call_function(function, args)
        # A GraphModule is unpickled by tracing its code again, which must not look inside the function.
        call.meta["is_wrapped"] = True
        return call


def _is_layer(module: nn.Module | None) -> bool:
    zero_padded = isinstance(module, CONVOLUTIONS) and module.padding_mode == "zeros"
    return zero_padded or isinstance(module, nn.Linear)
