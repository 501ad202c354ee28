"""An optimizer follows its model through a conversion and back."""

from typing import Any

import pytest
import torch
from torch import nn

from norms import convert


def trained() -> tuple[Any, torch.optim.SGD]:
    """A model, and an optimizer that has its norms in a second group and a momentum for each parameter."""
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.InstanceNorm1d(4))
    groups = [
        {"params": [*model[0].parameters(), *model[2].parameters()]},
        {"params": model[1].parameters(), "lr": 0.5},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    torch.autograd.backward(model[:3](torch.randn(5, 3)).square().sum())
    optimizer.step()
    return model, optimizer


def held(optimizer: torch.optim.Optimizer) -> list[set[int]]:
    return [{id(p) for p in group["params"]} for group in optimizer.param_groups]


@pytest.mark.parametrize("inplace", [True, False])
def test_what_stays_keeps_its_place_and_its_state(inplace: bool) -> None:
    model, optimizer = trained()
    momentum = [optimizer.state[p]["momentum_buffer"] for p in model.parameters()]
    new: Any = convert(model, "batch_layer", inplace=inplace, optimizer=optimizer).model
    assert held(optimizer) == [
        {id(p) for p in (*new[0].parameters(), *new[2].parameters())},
        {id(p) for p in new[1].parameters()},
    ]
    assert all(optimizer.state[p]["momentum_buffer"] is m for p, m in zip(new.parameters(), momentum, strict=True))
    assert len(optimizer.state) == len(momentum)
    before = new[1].weight.detach().clone()
    torch.autograd.backward(new[:3](torch.randn(5, 3)).square().sum())
    optimizer.step()
    assert not torch.equal(new[1].weight, before)


@pytest.mark.parametrize("inplace", [True, False])
def test_what_is_dropped_leaves_and_comes_back(inplace: bool) -> None:
    model, optimizer = trained()
    conversion = convert(model, "rms", inplace=inplace, optimizer=optimizer)
    assert conversion.optimizer_changes == ("1.bias: left group 1",)
    assert str(conversion).splitlines()[-1] == "optimizer: 1.bias: left group 1"
    new: Any = conversion.model
    assert held(optimizer)[1] == {id(new[1].weight)}
    back: Any = conversion.revert()
    assert held(optimizer)[1] == {id(p) for p in back[1].parameters()}


def test_what_is_new_joins_the_group_of_its_norm() -> None:
    model, optimizer = trained()
    conversion = convert(
        model, "kalman", inplace=True, optimizer=optimizer, learnable_gain=True, where=lambda path, _: path == "1"
    )
    assert conversion.optimizer_changes == ("1.gain_logit: joined group 1",)
    affine = convert(model, "batch", inplace=True, optimizer=optimizer, affine=True, where=lambda path, _: path == "3")
    assert affine.optimizer_changes == ("3.weight: joined group 0", "3.bias: joined group 0")


def test_what_is_not_the_models_is_left_alone() -> None:
    model, _ = trained()
    other = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(other.parameters())
    assert convert(model, "rms", inplace=True, optimizer=optimizer).optimizer_changes == ()
    assert held(optimizer) == [{id(p) for p in other.parameters()}]
