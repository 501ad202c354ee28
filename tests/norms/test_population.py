from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import spence
from torch import nn

from norms import OptionError, PopulationNorm, adapt_input, calibrate, create, gamma_decay
from tests.norms.reference import Floats

C = 3


def test_training_uses_the_statistics_of_the_batches_before() -> None:
    rng = np.random.default_rng(0)
    norm = PopulationNorm(C).double()
    mean, var = np.zeros(C), np.ones(C)
    for _ in range(4):
        x = rng.normal(2, 3, (4, C, 5))
        want = (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
        np.testing.assert_allclose(norm(torch.tensor(x)).detach().numpy(), want, atol=1e-12)
        mean = 0.9 * mean + 0.1 * x.mean((0, 2))
        var = 0.9 * var + 0.1 * x.transpose(1, 0, 2).reshape(C, -1).var(1, ddof=1)
    want = (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
    np.testing.assert_allclose(norm.eval()(torch.tensor(x)).detach().numpy(), want, atol=1e-12)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    norm = PopulationNorm(C, momentum=0.0)
    norm.get_buffer("running_mean").fill_(2.0)
    x = torch.randn(4, C)
    assert torch.equal(norm(x)[:1], norm(x[:1]))
    x.requires_grad_()
    torch.autograd.backward(norm(x)[0].sum())
    assert x.grad is not None
    assert not x.grad[1:].any()


def test_state_dict_is_torchs() -> None:
    norm = PopulationNorm(C)
    nn.BatchNorm1d(C).load_state_dict(norm.state_dict(), strict=True)


def test_without_statistics_it_is_refused() -> None:
    with pytest.raises(OptionError, match="running statistics; got track_running_stats=False"):
        PopulationNorm(C, track_running_stats=False)(torch.randn(4, C))


@pytest.mark.parametrize("name", ["torch", "batch", "population", "batch_group"])
def test_calibration_of_one_norm_is_exact(name: str) -> None:
    norm = nn.BatchNorm1d(C) if name == "torch" else create(name, C)
    model = nn.Sequential(nn.Linear(C, C), norm, nn.Linear(C, 1))
    data = torch.randn(40, C) * 3 + 100
    batches = [(data[i : i + 7], None) for i in range(0, 40, 7)]
    model.train()
    assert calibrate(model, batches) == ("1",)
    assert model.training
    z = model[0](data).detach().double().numpy()
    np.testing.assert_allclose(norm.get_buffer("running_mean").numpy(), z.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.get_buffer("running_var").numpy(), z.var(0, ddof=1), rtol=1e-4)


def test_calibration_goes_norm_by_norm() -> None:
    model: Any = nn.Sequential(nn.Linear(C, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), PopulationNorm(4))
    data = torch.randn(64, C) * 9 + 30
    batches = [data[i : i + 16] for i in range(0, 64, 16)]
    assert calibrate(model, batches) == ("1", "4")
    with torch.no_grad():
        z = model.eval()[:4](data)
    torch.testing.assert_close(model[4].running_mean, z.mean(0))
    torch.testing.assert_close(model[4].running_var, z.var(0))
    first = model[1].running_var.clone()
    model[1].reset_running_stats()
    assert calibrate(model, iter(batches), exact=False) == ("1", "4")
    torch.testing.assert_close(model[1].running_var, first)
    assert not torch.allclose(model[4].running_mean, z.mean(0))


def test_calibration_counts_every_call_of_a_shared_norm() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(C)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.norm(x + 10)
            y: torch.Tensor = self.norm(x)
            return y

    model, x = Twice(), torch.randn(50, C)
    calibrate(model, [x])
    torch.testing.assert_close(model.norm.running_mean, x.mean(0) + 5)


def test_calibration_leaves_gates_and_unreached_norms_alone() -> None:
    model = adapt_input(nn.Sequential(nn.BatchNorm1d(C)), C)
    model.add_module("unused", nn.BatchNorm1d(C))
    assert calibrate(model, [torch.randn(20, C) + 3]) == ("model.0",)
    assert model.gate.norm.get_buffer("num_batches_tracked") == 0


def test_calibration_without_data_is_refused() -> None:
    model = nn.Sequential(nn.BatchNorm1d(C))
    for exact in (True, False):
        with pytest.raises(OptionError, match="at least one batch to calibrate with; got none"):
            calibrate(model, [], exact=exact)
    with pytest.raises(OptionError, match=r"many times; got an iterator: .* or exact=False"):
        calibrate(model, iter([torch.randn(2, C)]))


def standardized(kind: str, rng: np.random.Generator, n: int) -> Floats:
    x = rng.normal(0, 1, n) if kind == "normal" else rng.uniform(-1, 1, n)
    return np.asarray((x - x.mean()) / x.std())


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_batch_norm_is_population_norm_plus_gamma_decay(kind: str) -> None:
    """The model for which the coefficient is exact to 1/M: l(h) = A(h) - t h with A'' = sigmoid.

    So A' = softplus, a smooth relu, and the target t has mean softplus(h) and variance sigmoid(h).
    """
    rng = np.random.default_rng(0)
    n, m, gamma, beta = 2**17, 64, 1.4, 0.3
    x = standardized(kind, rng, n)
    h = gamma * x + beta
    t = np.logaddexp(0, h) + rng.normal(0, 1, n) / np.sqrt(1 + np.exp(-h))

    def loss(h: Floats, t: Floats) -> float:
        return float((-spence(1 + np.exp(h)) - t * h).mean())

    noisy = []
    for _ in range(30):
        order = rng.permutation(n)
        batches = x[order].reshape(-1, m)
        mean, std = batches.mean(1, keepdims=True), batches.std(1, keepdims=True)
        noisy.append(loss((gamma * (batches - mean) / std + beta).ravel(), t[order]))
    measured = np.mean(noisy) - loss(h, t)

    norm = PopulationNorm(1, momentum=0.0, eps=0.0).double()
    assert norm.weight is not None
    assert norm.bias is not None
    with torch.no_grad():
        norm.weight.fill_(gamma)
        norm.bias.fill_(beta)
    decay = gamma_decay(norm, batch_size=m)
    out = norm(torch.tensor(x)[:, None])
    # A has no name in torch; this has its gradient, softplus(h) - t.
    slope = (nn.functional.softplus(out) - torch.tensor(t)[:, None]).detach()
    torch.autograd.backward((slope * out).mean())
    assert decay().item() == pytest.approx(measured, rel=0.06)


def test_coefficient_by_hand_and_its_gradient() -> None:
    model: Any = nn.Sequential(PopulationNorm(2), nn.Linear(2, 2), PopulationNorm(2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0]))
    decay = gamma_decay(model, coefficient=0.1)
    assert decay().item() == pytest.approx(0.1 * (1 + 4 + 1 + 1))
    torch.autograd.backward(decay())
    torch.testing.assert_close(model[0].weight.grad, torch.tensor([0.2, 0.4]))


def test_coefficient_is_constant_in_the_gradient_and_follows_the_latest_backward() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), PopulationNorm(2))
    decay = gamma_decay(model, batch_size=8)
    x = torch.randn(16, 2) * 5
    out = model(x)
    before = decay.coefficients["1"].clone()
    torch.testing.assert_close(before, out.detach().sigmoid().mean(0) / 16)
    torch.autograd.backward(out.square().mean())
    after = decay.coefficients["1"]
    assert (after > before).all()
    model.zero_grad()
    torch.autograd.backward(decay())
    torch.testing.assert_close(model[1].weight.grad, 2 * after * model[1].weight.detach())
    assert model[0].weight.grad is None
    decay.remove()
    model(x)
    assert decay.coefficients["1"] is after


def test_sum_and_mean_losses_have_the_same_coefficient() -> None:
    x, found = torch.randn(16, 2), []
    for reduction in ("mean", "sum"):
        norm = PopulationNorm(2)
        decay = gamma_decay(norm, batch_size=8, reduction=reduction)
        loss = norm(x).square().sum(1)
        torch.autograd.backward(loss.mean() if reduction == "mean" else loss.sum())
        found.append(decay.coefficients[""])
    torch.testing.assert_close(found[0], found[1])


def test_bad_use_is_refused() -> None:
    norm = PopulationNorm(2)
    with pytest.raises(OptionError, match="PopulationNorm layers that have a gamma; got Linear"):
        gamma_decay(nn.Linear(2, 2), batch_size=8)
    with pytest.raises(OptionError, match="either batch_size or coefficient; got batch_size=None"):
        gamma_decay(norm)
    with pytest.raises(OptionError, match="batch_size >= 1 or coefficient >= 0; got -1"):
        gamma_decay(norm, coefficient=-1)
    with pytest.raises(OptionError, match="reduction 'mean' or 'sum'; got 'none'"):
        gamma_decay(norm, batch_size=8, reduction="none")
