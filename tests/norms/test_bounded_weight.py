import copy

import numpy as np
import pytest
import torch
from torch import nn

from norms import OptionError, bounded_weight_norm, decayless_learning_rate, remove_bounded_weight_norm

LAYERS = [
    (nn.Linear(4, 3), (5, 4), 0),
    (nn.Conv2d(2, 3, 2), (5, 2, 4, 4), 0),
    (nn.ConvTranspose1d(2, 3, 2), (5, 2, 4), 1),
]


@pytest.mark.parametrize(("layer", "shape", "dim"), LAYERS)
def test_every_channel_has_the_mean_initial_norm(layer: nn.Module, shape: tuple[int, ...], dim: int) -> None:
    layer = copy.deepcopy(layer).double()
    start = layer.get_parameter("weight").detach().numpy().copy()
    channels = np.moveaxis(start, dim, 0).reshape(3, -1)
    rho = np.linalg.norm(channels, axis=1).mean()
    want = channels / np.linalg.norm(channels, axis=1, keepdims=True) * rho
    assert bounded_weight_norm(layer) == 1
    got = np.moveaxis(layer.weight.detach().numpy(), dim, 0).reshape(3, -1)  # type: ignore[operator]
    np.testing.assert_allclose(got, want, atol=1e-14)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(layer(torch.randn(shape, dtype=torch.float64)).square().sum())
        optimizer.step()
    moved = np.moveaxis(layer.weight.detach().numpy(), dim, 0).reshape(3, -1)  # type: ignore[operator]
    assert not np.allclose(moved, got)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), rho, atol=1e-12)


@pytest.mark.parametrize(("layer", "shape", "dim"), LAYERS)
def test_learnable_gain_starts_unchanged_and_keeps_the_total_norm(
    layer: nn.Module, shape: tuple[int, ...], dim: int
) -> None:
    layer = copy.deepcopy(layer).double()
    start = layer.get_parameter("weight").detach().clone()
    bounded_weight_norm(layer, learnable_gain=True)
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    torch.testing.assert_close(weight.detach(), start)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    torch.autograd.backward(layer(torch.randn(shape, dtype=torch.float64)).square().sum())
    optimizer.step()
    weight = layer.weight  # type: ignore[assignment]
    assert not torch.allclose(weight, start)
    # ||w||_F = ||g_0||, since w_i has the norm (||g_0|| / ||g||) g_i
    torch.testing.assert_close(weight.norm(), start.norm())


def test_gradients_are_those_of_the_formula() -> None:
    v = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(v)
    bounded_weight_norm(layer)
    module = layer.get_submodule("parametrizations.weight.0")
    assert torch.autograd.gradcheck(module, (v,))


def test_removal_leaves_a_plain_weight() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.ReLU(), nn.Linear(4, 2))
    assert bounded_weight_norm(model) == 2
    assert bounded_weight_norm(model) == 0
    x = torch.randn(5, 2, 5)
    want = model(x)
    assert remove_bounded_weight_norm(model) == 2
    assert torch.equal(model(x), want)
    assert sorted(model.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_copies_and_state_dicts() -> None:
    layer, other = nn.Linear(4, 3), nn.Linear(4, 3)
    bounded_weight_norm(layer, learnable_gain=True)
    bounded_weight_norm(other, learnable_gain=True)
    other.load_state_dict(layer.state_dict(), strict=True)
    x = torch.randn(2, 4)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_where_chooses_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert bounded_weight_norm(model, where=lambda path, layer: path == "1") == 1
    assert isinstance(model[0].weight, nn.Parameter)


def test_learning_rate_that_replaces_decay_gives_the_same_directions() -> None:
    # Loss that sees the direction of w only, as in front of a norm; SGD with decay, and without it at the
    # corrected rate: the directions stay together.
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, dtype=torch.float64)

    def gradient(w: torch.Tensor) -> torch.Tensor:
        w = w.clone().requires_grad_()
        loss = ((x @ (w / w.norm()) - y) ** 2).mean()
        return torch.autograd.grad(loss, w)[0]

    with_decay = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    without = with_decay.clone()
    lr, decay = 0.05, 0.1
    for _ in range(50):
        rate = decayless_learning_rate(lr, norm=float(without.norm()), norm_with_decay=float(with_decay.norm()))
        without = without - rate * gradient(without)
        with_decay = with_decay - lr * (gradient(with_decay) + decay * with_decay)
    assert float(with_decay.norm()) < 0.9 * float(without.norm())
    torch.testing.assert_close(without / without.norm(), with_decay / with_decay.norm(), atol=2e-3, rtol=0)


def test_bad_use_is_refused() -> None:
    with pytest.raises(OptionError, match="linear or convolution layers; got ReLU without any"):
        bounded_weight_norm(nn.ReLU())
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    with pytest.raises(OptionError, match="without channels of zeros in layer 'Linear': initialize"):
        bounded_weight_norm(layer)
    with pytest.raises(OptionError, match="norm_with_decay > 0; got 0"):
        decayless_learning_rate(0.1, norm=1.0, norm_with_decay=0.0)
