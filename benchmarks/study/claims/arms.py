"""The arms of the claims' cells: which norm, in which network, prepared how for the test."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

import norms
from assessor import assess
from benchmarks.study import networks
from benchmarks.study.claims.half import KINDS, HalfBatchNorm, Kind, Times
from benchmarks.study.claims.networks import UnguardedBatchNorm, deep_mlp, lenet
from benchmarks.study.claims.training import Arm, Batches
from benchmarks.study.networks import Slot
from benchmarks.study.records import Data, Setting
from norms.decision import Evaluation

SEARCHED = 96
"""Validation samples on which 16 configurations of inference are compared, one by one at batch size 1."""


def _create(name: str, options: Mapping[str, Any], features: int) -> nn.Module:
    return norms.create(name, features, **options)


def norm(name: str, **options: Any) -> Slot:
    """Return what makes a registered norm with these options for a number of channels."""
    return partial(_create, name, options)


def build(slot: Slot | None, data: Data, setting: Setting) -> nn.Module:
    """Return the setting's network for this data, with what `slot` makes in its slots; None leaves them out."""
    shape = tuple(data.x.shape[1:])
    if setting.network.startswith("deep"):
        return deep_mlp(prod(shape), data.classes, int(setting.network.removeprefix("deep")), slot)
    filled = slot or _nothing
    if setting.network == "lenet":
        return lenet(shape[0], data.classes, filled)
    return networks.build(setting.network, shape, data.classes, filled)


def _nothing(channels: int) -> nn.Module:
    return nn.Identity()


def plain(slot: Slot | None, **fields: Any) -> Arm:
    """Return the arm with these norms and nothing else."""
    return Arm(partial(build, slot), **fields)


def bln(batch_size: int) -> dict[str, Arm]:
    """Return batch, layer and batch layer norm, the last as it is and as published: the best of 16 for inference."""

    def search(model: nn.Module, validation: Batches) -> None:
        few = -(-SEARCHED // batch_size)
        norms.search_inference_statistics(model, validation[:few])

    batch = UnguardedBatchNorm if batch_size == 1 else norm("batch")
    return {
        "batch": plain(batch, at_batch_size=True),
        "layer": plain(norm("layer"), at_batch_size=True),
        "batch_layer": plain(norm("batch_layer"), at_batch_size=True, evaluations={"searched": search}),
    }


def bounded(data: Data, setting: Setting) -> nn.Module:
    """Return the network with mean-only batch norm and bounded weights."""
    model = build(norm("mean_only"), data, setting)
    norms.bounded_weight_norm(model)
    return model


def kalman(examples_per_group: int) -> dict[str, Arm]:
    """Return Kalman norm with priors, batch norm over the same groups, and group norm."""

    def carried(data: Data, setting: Setting) -> nn.Module:
        model = build(norm("kalman", gain=0.9, examples_per_group=examples_per_group), data, setting)
        return norms.carry_priors(model).model

    return {
        "kalman": Arm(carried),
        "batch in groups": plain(norm("ghost_batch", examples_per_group=examples_per_group)),
        "group": plain(norm("group", num_groups=4)),
    }


def weighing(model: nn.Module, validation: Batches) -> None:
    """Choose how much the current sample counts at inference."""
    norms.fit_inference_weight(model, validation)


def grouped(other: str, **options: Any) -> dict[str, Arm]:
    """Return batch norm, tested without and with inference weighing, and another norm."""
    whole = norm("batch_group", examples_per_group=None, channels_per_group=1)
    return {"batch": plain(whole, evaluations={"weighed": weighing}), other: plain(norm(other, **options))}


def half(dtype: torch.dtype, factor: float) -> dict[str, Arm]:
    """Return batch norm in float32, and the four batch norms with arithmetic in `dtype`, on inputs times `factor`."""

    def scaled(slot: Slot, data: Data, setting: Setting) -> nn.Module:
        return nn.Sequential(Times(factor), build(slot, data, setting))

    def rounding(kind: Kind, dtype: torch.dtype, features: int) -> nn.Module:
        return HalfBatchNorm(features, kind, dtype)

    arms = {"batch in float32": Arm(partial(scaled, partial(rounding, "batch", torch.float32)))}
    return arms | {kind: Arm(partial(scaled, partial(rounding, kind, dtype))) for kind in KINDS}


def population() -> dict[str, Arm]:
    """Return batch norm, population norm, and population norm with the full coefficient of gamma decay."""

    def calibrated(data: Data, setting: Setting) -> nn.Module:
        model = build(norm("population"), data, setting)
        norms.calibrate(model, torch.split(data.x, 128))
        return model

    def decay(model: nn.Module, setting: Setting) -> Callable[[], Tensor]:
        return norms.gamma_decay(model, batch_size=setting.batch_size)

    return {
        "batch": plain(norm("batch")),
        "population": Arm(calibrated),
        "population + gamma decay": Arm(calibrated, penalty=decay),
    }


def deep() -> dict[str, Arm]:
    """Return a self-normalizing net, batch norm, and no norm."""

    def selu(data: Data, setting: Setting) -> nn.Module:
        return norms.self_normalize(build(None, data, setting)).model

    return {"selu": Arm(selu), "batch": plain(norm("batch")), "none": plain(None)}


def published_rule() -> dict[str, Arm]:
    """Return the input batch standardized where the published rule says so, always, never; and ordinary batch norm."""

    def gated(evaluation: Evaluation, data: Data, setting: Setting) -> nn.Module:
        gate = norms.AdaptiveNorm(
            "batch",
            num_features=data.x[0].numel(),
            features="element",
            evaluation=evaluation,
            affine=False,
            eps=2.22e-16,  # of the released code
        )
        return nn.Sequential(gate, build(None, data, setting))

    def follow(data: Data, setting: Setting) -> Sequence[bool]:
        x, y = data.x.cpu().numpy(), data.y.cpu().numpy()
        plan = assess(x, batch_size=setting.batch_size, labels=y, method="published", published_exact=True)
        return [decision.normalize for decision in plan]

    def always(data: Data, setting: Setting) -> Sequence[bool]:
        return [True] * (len(data.x) // setting.batch_size)

    return {
        "published": Arm(partial(gated, "never"), decide=follow),
        "always": Arm(partial(gated, "batch"), decide=always, at_batch_size=True),
        "never": plain(None),
        "batch": plain(norm("batch")),
    }


def decay(strength: float) -> dict[str, Arm]:
    """Return batch norm with weight decay, without, and without but with the learning rates it would lead to."""
    return {
        "decay": plain(norm("batch"), weight_decay=strength),
        "no decay": plain(norm("batch")),
        "no decay, corrected": plain(norm("batch"), weight_decay=0.0, stands_in_for=strength),
    }
