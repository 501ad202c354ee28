"""The module inputs that torch ships for its own tests, run on ours: its constructors, its inputs, its references."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing._internal.common_modules import ModuleInfo, module_db

from norms import create

NAMES = {
    nn.BatchNorm1d: "batch",
    nn.BatchNorm2d: "batch",
    nn.BatchNorm3d: "batch",
    nn.GroupNorm: "group",
    nn.LayerNorm: "layer",
    nn.InstanceNorm1d: "instance",
    nn.InstanceNorm2d: "instance",
    nn.InstanceNorm3d: "instance",
}
CASES = [
    pytest.param(info, training, index, id=f"{info.module_cls.__name__}-{'train' if training else 'eval'}-{index}")
    for info in module_db
    if info.module_cls in NAMES
    for training in (True, False)
    for index in range(len(info.module_inputs_func(info, "cpu", torch.float64, requires_grad=False, training=training)))
]


def ours(theirs: Any, x: torch.Tensor) -> nn.Module:
    """Return the registered norm that is to do what torch's module does; skip where there is none, and say why."""
    name = NAMES[type(theirs)]
    if name == "instance" and theirs.track_running_stats:
        pytest.skip("our instance norm keeps no running statistics")
    if name == "layer" and len(theirs.normalized_shape) != x.ndim - 1:
        pytest.skip("our layer norm is over all axes but the first")
    if name == "instance" and theirs.num_features != x.shape[1]:
        pytest.skip("an input without a batch axis: ours takes (N, C, *)")
    if x.shape[0] == 0:
        pytest.skip("an empty batch is an InputError here")
    options: dict[str, Any] = {"eps": theirs.eps, "dtype": torch.float64}
    if name == "batch":
        options |= {"momentum": theirs.momentum, "track_running_stats": theirs.track_running_stats}
    if name == "group":
        options["num_groups"] = theirs.num_groups
    affine = theirs.elementwise_affine if name == "layer" else theirs.affine
    if name == "layer" and affine:
        # One pair an element there, one a channel here: the bare normalization is compared.
        nn.init.ones_(theirs.weight)
        if theirs.bias is not None:
            nn.init.zeros_(theirs.bias)
        affine = False
    norm = create(name, x.shape[1], affine=affine, **options)
    if name != "layer":
        # Where torch has gamma alone, ours keeps the beta of 0 that it starts with.
        lacking = {"bias": torch.zeros_like(theirs.weight)} if affine and theirs.bias is None else {}
        norm.load_state_dict(theirs.state_dict() | lacking, strict=True)
    return norm


@pytest.mark.parametrize(("info", "training", "index"), CASES)
def test_the_same_numbers(info: ModuleInfo, training: bool, index: int) -> None:
    case = info.module_inputs_func(info, "cpu", torch.float64, requires_grad=True, training=training)[index]
    theirs = info.module_cls(*case.constructor_input.args, **case.constructor_input.kwargs, dtype=torch.float64)
    (x,) = case.forward_input.args
    norm = ours(theirs, x)
    theirs.train(training)
    norm.train(training)
    y, want = norm(x), theirs(x)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(*(torch.autograd.grad((out**3).sum(), x)[0] for out in (y, want)))
    if not isinstance(theirs, nn.LayerNorm):
        assert all(torch.allclose(norm.state_dict()[key], value) for key, value in theirs.state_dict().items())
    if case.reference_fn is not None:
        torch.testing.assert_close(y, case.reference_fn(theirs, list(theirs.parameters()), x))
