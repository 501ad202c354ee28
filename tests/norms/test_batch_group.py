from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from norms import (
    BatchGroupNorm,
    BatchNorm,
    GhostBatchNorm,
    InputError,
    OptionError,
    convert,
    fit_inference_weight,
)
from tests.norms.reference import Floats

C = 6


def by_group(x: Floats, examples: int, channels: int) -> Floats:
    """Every group on its own; the last one takes what is left."""
    y = np.empty_like(x)
    for start in range(0, len(x), examples):
        for c in range(0, x.shape[1], channels):
            group = x[start : start + examples, c : c + channels]
            y[start : start + examples, c : c + channels] = (group - group.mean()) / np.sqrt(group.var() + 1e-5)
    return y


@given(
    n=st.integers(2, 9),
    examples=st.integers(1, 5),
    channels=st.sampled_from([1, 2, 3, 6]),
    positions=st.integers(2, 4),
)
def test_training_normalizes_each_group(n: int, examples: int, channels: int, positions: int) -> None:
    x = np.random.default_rng(n).normal(2, 3, (n, C, positions))
    norm = BatchGroupNorm(C, examples_per_group=examples, channels_per_group=channels, affine=False)
    got = norm(torch.tensor(x)).numpy()
    np.testing.assert_allclose(got, by_group(x, examples, channels), atol=1e-12)


def test_a_lone_value_joins_the_group_before_it() -> None:
    x = np.random.default_rng(0).normal(2, 3, (7, C))
    norm = GhostBatchNorm(C, examples_per_group=3, affine=False)
    want = np.concatenate([by_group(x[:3], 3, 1), by_group(x[3:], 4, 1)])
    np.testing.assert_allclose(norm(torch.tensor(x)).numpy(), want, atol=1e-12)
    x = x[:4]
    np.testing.assert_allclose(norm(torch.tensor(x)).numpy(), by_group(x, 4, 1), atol=1e-12)


def test_special_cases_are_torchs() -> None:
    x = torch.randn(8, C, 5) * 3 + 1
    whole = BatchGroupNorm(C, examples_per_group=None, channels_per_group=1)
    torch.testing.assert_close(whole(x), nn.BatchNorm1d(C)(x))
    group = BatchGroupNorm(C, examples_per_group=1, channels_per_group=3)
    torch.testing.assert_close(group(x), nn.GroupNorm(2, C)(x))
    torch.testing.assert_close(group.eval()(x), nn.GroupNorm(2, C)(x))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_are_those_of_both_moments(momentum: float | None) -> None:
    norm = BatchGroupNorm(C, momentum=momentum).double()
    rng = np.random.default_rng(0)
    first, second = np.zeros(C), np.ones(C)
    for i in range(5):
        x = rng.normal(i, 3, (4, C, 5))
        norm(torch.tensor(x))
        t = 1 / (i + 1) if momentum is None else momentum
        first = (1 - t) * first + t * x.mean((0, 2))
        second = (1 - t) * second + t * (x**2).mean((0, 2))
    np.testing.assert_allclose(norm.get_buffer("running_mean").numpy(), first, atol=1e-12)
    want = second - first**2
    np.testing.assert_allclose(norm.get_buffer("running_var").numpy(), want, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_inference_weighs_both_moments(channels: int, weight: float) -> None:
    rng = np.random.default_rng(0)
    norm = BatchGroupNorm(C, channels_per_group=channels, affine=False, inference_weight=weight)
    norm.double()
    norm(torch.tensor(rng.normal(2, 3, (8, C, 5))))
    rm, rv = norm.get_buffer("running_mean").numpy(), norm.get_buffer("running_var").numpy()
    x = rng.normal(0, 2, (3, C, 5))
    want = np.empty_like(x)
    for i in range(3):
        for c in range(0, C, channels):
            at = slice(c, c + channels)
            mean = (1 - weight) * rm[at].mean() + weight * x[i, at].mean()
            second = (1 - weight) * (rv[at] + rm[at] ** 2).mean() + weight * (x[i, at] ** 2).mean()
            want[i, at] = (x[i, at] - mean) / np.sqrt(second - mean**2 + 1e-5)
    np.testing.assert_allclose(norm.eval()(torch.tensor(x)).numpy(), want, atol=1e-11)


def test_inference_variance_is_never_negative() -> None:
    norm = BatchGroupNorm(C, inference_weight=0.5, momentum=None)
    x = torch.full((4, C, 3), 4096.0)
    norm(x)
    assert norm.eval()(x).abs().max() < 1e-3


def test_turned_on_for_a_trained_batch_norm_network() -> None:
    model = nn.Sequential(nn.Conv1d(2, C, 3), nn.BatchNorm1d(C), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))
    for _ in range(20):
        model(torch.randn(16, 2, 5))
    x, y = torch.randn(64, 2, 5) * 4 + 2, torch.randint(3, (64,))
    options = {"examples_per_group": None, "channels_per_group": 1}
    new: Any = convert(model, "batch_group", **options).model  # type: ignore[arg-type]
    torch.testing.assert_close(new.eval()(x), model.eval()(x))
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    fit = fit_inference_weight(new, batches, candidates=(0.0, 0.5, 1.0))
    losses = []
    for weight in (0.0, 0.5, 1.0):
        new[1].inference_weight = weight
        losses.append(nn.functional.cross_entropy(new(x), y).item())
    assert [loss for _, loss in fit.losses] == pytest.approx(losses, rel=1e-5)
    assert fit.best == (0.0, 0.5, 1.0)[int(np.argmin(losses))]
    fit_inference_weight(new, batches, candidates=(0.5,))
    assert new[1].inference_weight == 0.5


def test_bad_use_is_refused() -> None:
    with pytest.raises(OptionError, match="examples_per_group >= 1 or None; got 0"):
        BatchGroupNorm(C, examples_per_group=0)
    with pytest.raises(OptionError, match="channels_per_group to divide num_features = 6; got 4: 2 would"):
        BatchGroupNorm(C, channels_per_group=4)
    with pytest.raises(OptionError, match=r"inference_weight in \[0, 1\]; got 1.5"):
        GhostBatchNorm(C, inference_weight=1.5)
    with pytest.raises(InputError, match=r"value per group; got shape \(3, 6\) in groups of 1 samples"):
        GhostBatchNorm(C, examples_per_group=1)(torch.randn(3, C))
    with pytest.raises(OptionError, match="model with BatchGroupNorm layers; got BatchNorm without any"):
        fit_inference_weight(BatchNorm(C), [])
    model = nn.Sequential(BatchGroupNorm(C))
    batches = [(torch.randn(4, C), torch.zeros(4, dtype=torch.long))]
    with pytest.raises(OptionError, match="many times; got an iterator: pass a DataLoader or a list"):
        fit_inference_weight(model, iter(batches))
    with pytest.raises(OptionError, match="at least one batch of validation data; got none"):
        fit_inference_weight(model, [])
    with pytest.raises(OptionError, match="at least one candidate; got none"):
        fit_inference_weight(model, batches, candidates=())
    with pytest.raises(OptionError, match=r"candidates in \[0, 1\]; got -1"):
        fit_inference_weight(model, batches, candidates=(-1,))
