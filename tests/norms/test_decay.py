import copy
from typing import Any

import pytest
import torch
from torch import nn

from norms import OptionError, create, decay_gamma, parameter_groups


def model() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 4), create("batch_layer", 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    for p in net.parameters():
        nn.init.normal_(p)
    return net


def test_every_parameter_is_in_one_group() -> None:
    net = model()
    groups = parameter_groups(net, weight_decay=0.1, gamma_decay=0.2, beta_decay=0.3)
    names = {id(p): name for name, p in net.named_parameters()}
    found = [sorted(names[id(p)] for p in group["params"]) for group in groups]
    assert found == [
        ["0.bias", "0.weight", "2.bias", "2.weight", "4.bias", "4.weight"],
        ["1.bias", "3.bias"],
        ["1.weight", "3.weight"],
    ]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.3, 0.0]
    apart = parameter_groups(net, decay_biases=False)
    assert [len(group["params"]) for group in apart] == [3, 5, 2]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_decay_is_the_penalty_in_the_loss(kind: type[torch.optim.Optimizer]) -> None:
    net = model()
    twin = copy.deepcopy(net)
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9} if kind is torch.optim.SGD else {"lr": 0.1}
    groups = parameter_groups(net, weight_decay=0.01, gamma_decay=0.2, beta_decay=0.3)
    decayed, plain = kind(groups, **options), kind(twin.parameters(), **options)
    decay_gamma(decayed)
    for _ in range(5):
        x = torch.randn(8, 3)
        decayed.zero_grad()
        plain.zero_grad()
        torch.autograd.backward(net(x).square().mean())
        penalty = torch.zeros(())
        for name, p in twin.named_parameters():
            norm = name.startswith(("1", "3"))
            if norm and name.endswith("weight"):
                penalty = penalty + 0.1 * (p - 1).square().sum()
            else:
                penalty = penalty + (0.15 if norm else 0.005) * p.square().sum()
        torch.autograd.backward(twin(x).square().mean() + penalty)
        decayed.step()
        plain.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-4)


def test_the_handle_ends_it() -> None:
    net = nn.BatchNorm1d(2)
    optimizer = torch.optim.SGD(parameter_groups(net, gamma_decay=1.0), lr=0.5)
    handle = decay_gamma(optimizer)
    handle.remove()
    nn.init.constant_(net.weight, 3.0)
    net.weight.grad = torch.zeros(2)
    optimizer.step()
    assert net.weight.tolist() == [3.0, 3.0]


def test_bad_use_is_refused() -> None:
    with pytest.raises(OptionError, match="expected gamma_decay >= 0; got -1"):
        parameter_groups(nn.Linear(2, 2), gamma_decay=-1)
    optimizer = torch.optim.SGD(nn.BatchNorm1d(2).parameters(), lr=0.1)
    with pytest.raises(OptionError, match=r"parameter_groups\(model, .*got one without gammas"):
        decay_gamma(optimizer)
