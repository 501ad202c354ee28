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


@pytest.mark.parametrize("inplace", [True, False])
def test_a_norm_that_lost_all_comes_back_to_its_own_group(inplace: bool) -> None:
    model, optimizer = trained()
    conversion = convert(model, "none", inplace=inplace, optimizer=optimizer)
    assert held(optimizer)[1] == set()
    back: Any = conversion.revert()
    assert held(optimizer)[1] == {id(p) for p in back[1].parameters()}
    alone = nn.Sequential(nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.1)
    convert(alone, "none", inplace=True, optimizer=optimizer).revert()
    assert held(optimizer) == [{id(p) for p in alone.parameters()}]


def test_what_was_frozen_does_not_join_when_it_comes_back() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    conversion = convert(model, "none", inplace=True, optimizer=optimizer)
    conversion.revert()
    assert held(optimizer) == [{id(p) for p in model[0].parameters()}]
    assert not any(p.requires_grad for p in model[1].parameters())


def test_names_of_parameters_stay_beside_them() -> None:
    model, _ = trained()
    optimizer = torch.optim.Adam(model.named_parameters(), lr=0.1)
    conversion = convert(model, "rms", inplace=True, optimizer=optimizer)
    group = optimizer.param_groups[0]
    named = {name: id(p) for name, p in model.named_parameters()}
    assert dict(zip(group["param_names"], map(id, group["params"]), strict=True)) == named
    conversion.revert()
    assert group["param_names"] == [name for name, _ in model.named_parameters()]
    assert list(map(id, group["params"])) == [id(p) for p in model.parameters()]
    fresh = torch.optim.Adam(model.named_parameters(), lr=0.1)
    fresh.load_state_dict(optimizer.state_dict())


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
