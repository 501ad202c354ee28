"""The gate: per batch either a norm or a skip path."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from norms.base import ChannelNorm
from norms.beside import Beside, after
from norms.decision import Evaluation, Features, read_rule
from norms.dispatch import choose
from norms.errors import OptionError
from norms.modes import (
    looks_flagged,
    require_running_statistics,
    update_where,
    with_own_statistics,
    with_running_statistics,
)
from norms.registry import create
from norms.rules import Rule


class AdaptiveNorm(nn.Module):
    """A norm that is applied to the batches which need it; the others take the skip path.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Training: `set_decision(model, normalize)` decides for the batches that follow. Before any decision
    it normalizes, as the wrapped norm alone would. A bool costs nothing: no host-device synchronization,
    two compiled graphs at most, and with skip="identity" the layer returns the very tensor it was given. A
    0-d bool tensor is for CUDA graphs and for distributed training, where every rank must run the same
    operations: both paths are computed, the path not taken on zeros, so that nothing non-finite in it can
    reach the result or a gradient; with skip="identity" the kernels for CUDA read it instead, and sum nothing
    where it is false (docs/performance.md). Running statistics are updated by flagged training batches only.

    Evaluation, whatever was decided for training:

    - "threshold": the rule decides on the incoming batch. A flagged batch is normalized with its own
      statistics; one of fewer than `min_examples` samples, whose score is undefined, is compared with the
      running statistics of the flagged batches (`modes.looks_flagged`) and, where it resembles them,
      normalized with these. Until a flagged batch has been seen, and for a norm without running
      statistics, it takes the skip path. A gate inside an AdaptedInput uses the verdict that was reached
      at the model's input.
    - "running": always the running statistics.
    - "batch": always the batch's own statistics.
    - "never": always the skip path, as the released code of the published rule.

    Args:
        norm: a module, or a registered name with `num_features` and options.
        skip: "identity" (return x itself, nothing computed), "population" (the running statistics of
            `norm`, not updated), another registered name, or a module.
        num_features: C, where `norm` or `skip` is a name.
        features: what the norm normalizes: "channel" (axis 1), or "element" (every element of a sample: x is
            seen as (N, C) with C elements).
        evaluation: "threshold", "running", "batch" or "never"; may be set at any time.
        rule: a Rule, the `rule` of a plan, or None for rules.DEFAULT_RULE. It is configuration, not
            state: a state_dict does not hold it.
        min_examples: samples that a batch needs for its own statistics in evaluation "threshold".
        **options: of `norm`, where it is a name.

    A state_dict of the bare norm loads strictly. Under DistributedDataParallel a skipped norm's gamma and
    beta get no gradient: decide with a tensor, or pass affine=False or find_unused_parameters=True.

    Raises:
        OptionError: an unknown evaluation or features, min_examples < 1, a name without num_features,
            options beside a module.
        GateError: skip="population" with a norm that has no running statistics.

    >>> gate = AdaptiveNorm("batch", num_features=2, evaluation="never").eval()
    >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    >>> gate(x) is x
    True
    """

    def __init__(
        self,
        norm: nn.Module | str,
        skip: nn.Module | str = "identity",
        *,
        num_features: int | None = None,
        features: Features = "channel",
        evaluation: Evaluation = "threshold",
        rule: Rule | Mapping[str, Any] | None = None,
        min_examples: int = 2,
        **options: Any,
    ) -> None:
        super().__init__()
        if min_examples < 1:
            raise OptionError(f"expected min_examples >= 1; got {min_examples}; 2 is usual")
        if features not in get_args(Features):
            raise OptionError(f"expected features 'channel' or 'element'; got {features!r}")
        self.norm = _module(norm, num_features, options, "norm")
        named = isinstance(skip, str) and skip in ("identity", "population")
        features_of_norm = getattr(self.norm, "num_features", None)
        self.skip = None if named else _module(skip, num_features or features_of_norm, {}, "skip")
        self.skip_path = str(skip) if named else "module"
        if skip == "population":
            require_running_statistics(self.norm, "skip='population'")
        self.features: Features = features
        self.evaluation = evaluation
        self.min_examples = min_examples
        self.rule = read_rule(rule)
        self.decision: bool | Tensor | None = None
        self.followed: bool | Tensor | None = None

    @property
    def evaluation(self) -> Evaluation:
        """What evaluation does: "threshold", "running", "batch" or "never"."""
        return self._evaluation

    @evaluation.setter
    def evaluation(self, value: Evaluation) -> None:
        if value not in get_args(Evaluation):
            known = ", ".join(get_args(Evaluation))
            raise OptionError(f"expected an evaluation among: {known}; got {value!r}")
        self._evaluation: Evaluation = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return forward's result; a batch that is skipped to the identity, with nobody listening, comes straight back.

        nn.Module's own call costs more than everything else such a gate does.
        """
        skipped = self.decision is False and self.training and self.skip_path == "identity"
        if not skipped or kwargs or len(args) != 1 or torch.compiler.is_compiling():
            return super().__call__(*args, **kwargs)
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks:
            return super().__call__(*args)
        listened = _has_any_global_hook()  # type: ignore[no-untyped-call]  # torch has no types here
        return super().__call__(*args) if listened else args[0]

    def forward(self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return x normalized, or x on the skip path, then plus `residual`, then the relu; same shape and dtype.

        Raises:
            InputError: a residual of another shape than x; or as the norm.
        """
        return after(x, residual, relu).behind(self._decided(x))

    def _decided(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.apply_verdict(x, self.verdict(x))
        if self.decision is False:
            return self._skip(x)
        if self.decision is None or self.decision is True:
            return self._through(self.norm, x)
        condition = self.decision.to(x.device, non_blocking=True)
        kept = self._gated(condition, x, update=True)
        if kept is not None:
            return kept
        normalized = self._through(lambda wide: update_where(condition, self.norm, wide), _only(condition, x))
        return self._blend(condition, x, normalized)

    def verdict(self, x: Tensor) -> bool | Tensor:
        """Return whether evaluation normalizes the batch x: a bool where that costs nothing, else a tensor."""
        if self.evaluation != "threshold":
            return self.evaluation != "never"
        if self.followed is not None:
            return self.followed
        flagged = self._resembles_flagged(x) if self._small(x) else self.rule(x)
        # On the CPU reading the tensor is free and spares a path; elsewhere it would wait for the device.
        if flagged.device.type != "cpu" or torch.compiler.is_compiling():
            return flagged
        return flagged if torch._C._functorch.is_batchedtensor(flagged) else bool(flagged)

    def apply_verdict(self, x: Tensor, verdict: bool | Tensor) -> Tensor:
        """Return x as evaluation leaves it when `verdict` has been reached."""
        if verdict is False:
            return self._skip(x)
        if verdict is True:
            return self._normalize(x)
        assert isinstance(verdict, Tensor)
        kept = None if self._by_running(x) else self._gated(verdict, x, update=False)
        return kept if kept is not None else self._blend(verdict, x, self._normalize(_only(verdict, x)))

    def extra_repr(self) -> str:
        """Return the options."""
        return (
            f"skip={self.skip_path}, features={self.features}, evaluation={self.evaluation}, "
            f"rule={self.rule.measure}, min_examples={self.min_examples}"
        )

    def _normalize(self, x: Tensor) -> Tensor:
        """Return x normalized as evaluation does with a flagged batch."""
        apply = with_running_statistics if self._by_running(x) else with_own_statistics
        return self._through(lambda wide: apply(self.norm, wide), x)

    def _by_running(self, x: Tensor) -> bool:
        """Return whether evaluation normalizes x with the running statistics."""
        return self.evaluation == "running" or (self.evaluation == "threshold" and self._small(x))

    def _skip(self, x: Tensor) -> Tensor:
        if self.skip_path == "identity":
            return x
        if self.skip is not None:
            return self._through(self.skip, x)
        return self._through(lambda wide: with_running_statistics(self.norm, wide), x)

    def _gated(self, condition: Tensor, x: Tensor, *, update: bool) -> Tensor | None:
        """Return x normalized where the 0-d condition is true, else x, by kernels that read it; None without such.

        A skipped batch then costs no statistics and moves no buffer.
        """
        norm = self.norm
        if self.skip_path != "identity" or not isinstance(norm, ChannelNorm) or choose(x, norm.kernel).path != "triton":
            return None
        wide = x if self.features == "channel" else x.flatten(1)
        y = norm.fused(wide, Beside(gate=condition), own=norm.training or not update, update=update and norm.training)
        return None if y is None else y.reshape(x.shape)

    def _blend(self, condition: Tensor, x: Tensor, normalized: Tensor) -> Tensor:
        """Return `normalized` where the 0-d condition is true, else the skip path."""
        skip = self.skip
        if skip is None and self.skip_path == "identity":
            skipped = x
        elif skip is not None and self.training:
            skipped = self._through(lambda wide: update_where(~condition, skip, wide), _only(~condition, x))
        else:
            skipped = self._skip(_only(~condition, x))
        return torch.where(condition, normalized.to(skipped.dtype), skipped)

    def _through(self, apply: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return apply(x), x seen as (N, elements) where every element is a feature."""
        if self.features == "channel":
            return apply(x)
        return apply(x.flatten(1)).reshape(x.shape)

    def _resembles_flagged(self, x: Tensor) -> Tensor:
        """Return what decides on a batch that is too small for the rule."""
        constant: tuple[int, ...] = getattr(self.rule, "constant_features", ())
        axis = getattr(self.rule, "feature_axis", None)
        same_features = axis == self.features or x.ndim == 2
        wide = x.flatten(1) if self.features == "element" else x
        return looks_flagged(self.norm, wide, constant if same_features else ())

    def _small(self, x: Tensor) -> bool:
        return x.shape[0] < self.min_examples

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # nn.Module loads a parent before its children, so keys renamed here are found by the norm.
        for key in self.norm.state_dict():
            if f"{prefix}norm.{key}" not in state_dict and prefix + key in state_dict:
                state_dict[f"{prefix}norm.{key}"] = state_dict.pop(prefix + key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def gates(model: nn.Module) -> Iterator[AdaptiveNorm]:
    """Yield every AdaptiveNorm inside the model, each once, in order of registration.

    >>> from torch import nn
    >>> len(list(gates(nn.Sequential(AdaptiveNorm("batch", num_features=2), nn.ReLU()))))
    1
    """
    return (module for module in model.modules() if isinstance(module, AdaptiveNorm))


def _only(condition: Tensor, x: Tensor) -> Tensor:
    """Return x where the 0-d condition is true, else zeros: safe input for a path whose result is dropped."""
    return torch.where(condition, x, torch.zeros((), dtype=x.dtype, device=x.device))


def _module(norm: nn.Module | str, num_features: int | None, options: dict[str, Any], role: str) -> nn.Module:
    if isinstance(norm, nn.Module):
        if options:
            raise OptionError(
                f"expected no options beside a module as {role}; got {', '.join(options)}: "
                "set them where the module is made"
            )
        return norm
    if num_features is None:
        raise OptionError(f"expected num_features with the name {norm!r} as {role}; got none: pass num_features=C")
    return create(norm, num_features, **options)
