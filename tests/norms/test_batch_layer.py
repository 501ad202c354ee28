import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from norms import BatchLayerNorm, BatchNorm, InferenceStatistics, InputError, LayerNorm, OptionError
from tests.norms.reference import ReleasedBatchLayer, batch_layer, normalized
from tests.norms.tolerances import TOLERANCE

C = 3
SHAPES = [(5, C), (5, C, 4), (5, C, 4, 2), (2, C, 3, 2, 2), (1, C), (1, C, 4)]


def layer(**options: object) -> BatchLayerNorm:
    norm = BatchLayerNorm(C, dtype=torch.float64, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))  # type: ignore[union-attr]
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 3.0]))  # type: ignore[union-attr]
    return norm


def released() -> ReleasedBatchLayer:
    return ReleasedBatchLayer(np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 3.0]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_default_form_is_the_papers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = np.random.default_rng(0).normal(2, 3, shape)
    want = batch_layer(x, np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 3.0]))
    got = layer().to(dtype)(torch.tensor(x, dtype=dtype))
    np.testing.assert_allclose(got.detach().double().numpy(), want, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(5, C), (5, C, 4), (5, C, 4, 2), (2, C, 2, 2, 2)])
def test_authors_form_is_the_released_code(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    norm, theirs = layer(authors=True), released()
    for _ in range(4):
        x = rng.normal(2, 3, shape)
        want = np.moveaxis(theirs.train(np.moveaxis(x, 1, -1)), -1, 1)
        got = norm(torch.tensor(x))
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=1e-13)
    norm.eval()
    x = rng.normal(0, 1, shape)
    for use in itertools.product([False, True], repeat=4):
        origins = ["population" if population else "current" for population in use]
        norm.inference = InferenceStatistics(*origins)  # type: ignore[arg-type]
        want = np.moveaxis(theirs.infer(np.moveaxis(x, 1, -1), use), -1, 1)
        got = norm(torch.tensor(x))
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-12, atol=1e-12)


def test_authors_epochs_start_with_a_reset() -> None:
    rng = np.random.default_rng(0)
    norm = layer(authors=True, inference=InferenceStatistics(*["population"] * 4))  # type: ignore[arg-type]
    norm(torch.tensor(rng.normal(50, 9, (4, C))))
    norm.reset_running_stats()
    theirs = released()
    x = rng.normal(2, 3, (4, C))
    norm(torch.tensor(x))
    theirs.train(x)
    want = theirs.infer(x, (True,) * 4)
    np.testing.assert_allclose(norm.eval()(torch.tensor(x)).detach().numpy(), want, atol=1e-12)


def test_authors_batch_of_one_is_finite() -> None:
    norm = layer(authors=True)
    x = torch.randn(1, C, dtype=torch.float64)
    assert norm(x).isfinite().all()
    assert norm.eval()(x).isfinite().all()


def test_authors_population_belongs_to_one_batch_shape() -> None:
    norm = layer(authors=True)
    norm(torch.randn(4, C, 5, dtype=torch.float64))
    with pytest.raises(InputError, match=r"batches of one shape .*\(4, 1, 5\).*needs \(2, 1, 5\)"):
        norm(torch.randn(2, C, 5, dtype=torch.float64))
    norm.eval()
    assert norm(torch.randn(2, C, 5, dtype=torch.float64)).shape == (2, C, 5)
    norm.inference = InferenceStatistics(feature_mean="population")
    with pytest.raises(InputError, match=r"population statistics of shape \(4, 1, 5\); got \(2, 3, 5\)"):
        norm(torch.randn(2, C, 5, dtype=torch.float64))


def test_authors_checkpoint_carries_the_shapes() -> None:
    norm = layer(authors=True)
    norm(torch.randn(4, C, 5, dtype=torch.float64))
    fresh = layer(authors=True)
    fresh.load_state_dict(norm.state_dict(), strict=True)
    x = torch.randn(4, C, 5, dtype=torch.float64)
    assert torch.equal(fresh.eval()(x), norm.eval()(x))


@pytest.mark.parametrize("inference", InferenceStatistics.choices())
def test_default_form_sixteen_inference_switches(inference: InferenceStatistics) -> None:
    rng = np.random.default_rng(0)
    norm = BatchLayerNorm(C, dtype=torch.float64, momentum=None, affine=False, inference=inference)
    batches = [rng.normal(2, 3, (4, C, 5)) for _ in range(3)]
    for x in batches:
        norm(torch.tensor(x))
    n, d = 20, 15  # values per channel, values per sample
    population = {
        "batch_mean": np.mean([x.mean((0, 2)) for x in batches], 0)[:, None],
        "batch_var": np.mean([x.var((0, 2), ddof=1) for x in batches], 0)[:, None],
        "feature_mean": np.mean([x.mean((1, 2)).mean() for x in batches]),
        "feature_var": np.mean([x.var((1, 2), ddof=1).mean() for x in batches]),
    }
    assert n == batches[0][:, 0].size
    assert d == batches[0][0].size
    x = rng.normal(0, 1, (2, C, 5))
    current = {
        "batch_mean": x.mean((0, 2), keepdims=True),
        "batch_var": x.var((0, 2), keepdims=True),
        "feature_mean": x.mean((1, 2), keepdims=True),
        "feature_var": x.var((1, 2), keepdims=True),
    }
    use = {k: (population if getattr(inference, k) == "population" else current)[k] for k in current}
    x_b = (x - use["batch_mean"]) / np.sqrt(use["batch_var"] + 1e-5)
    x_f = (x - use["feature_mean"]) / np.sqrt(use["feature_var"] + 1e-5)
    got = norm.eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(got, x_f / 2 + x_b / 2, rtol=0, atol=1e-12)


def test_feature_dims_are_selectable() -> None:
    x = np.random.default_rng(0).normal(2, 3, (4, C, 5))
    norm = BatchLayerNorm(C, feature_dims=(1,), affine=False)
    want = normalized(x, (1,), 1e-5) / 4 + 0.75 * normalized(x, (0, 2), 1e-5)
    np.testing.assert_allclose(norm(torch.tensor(x)).numpy(), want, atol=1e-12)
    with pytest.raises(InputError, match=r"axes feature_dims=\(1, 2\); got shape \(4, 3\)"):
        BatchLayerNorm(C, feature_dims=(1, 2))(torch.randn(4, C))


@given(positions=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_batch_of_one_is_layer_norm(positions: int, seed: int) -> None:
    x = torch.randn(1, C, positions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(BatchLayerNorm(C).double()(x), LayerNorm(C).double()(x), rtol=0, atol=1e-10)


@given(m=st.integers(2, 64), seed=st.integers(0, 2**16))
def test_distance_to_batch_norm_is_one_over_m(m: int, seed: int) -> None:
    x = torch.randn(m, C, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    options = {"affine": False, "dtype": torch.float64}
    x_b, x_f = BatchNorm(C, **options)(x), LayerNorm(C, affine=False)(x)  # type: ignore[arg-type]
    got = BatchLayerNorm(C, **options)(x) - x_b  # type: ignore[arg-type]
    torch.testing.assert_close(got * m, x_f - x_b, atol=1e-10, rtol=0)


def test_batch_norm_checkpoint_loads_strictly() -> None:
    batch = nn.BatchNorm2d(C)
    batch(torch.randn(4, C, 2, 2))
    norm = BatchLayerNorm(C)
    norm.load_state_dict(batch.state_dict(), strict=True)
    for key, value in batch.state_dict().items():
        assert torch.equal(norm.state_dict()[key], value)


def test_inside_a_recurrent_cell() -> None:
    cell, norm = nn.LSTMCell(4, C), BatchLayerNorm(C)
    h, c = torch.zeros(5, C), torch.zeros(5, C)
    for step in torch.randn(6, 5, 4):
        h, c = cell(step, (norm(h), c))
    torch.autograd.backward(h.sum())
    assert norm.get_buffer("num_batches_tracked") == 6
    assert norm.weight is not None
    assert norm.weight.grad is not None


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match="neither feature_dims nor momentum with authors=True"):
        BatchLayerNorm(C, authors=True, feature_dims=(1,))
    with pytest.raises(OptionError, match=r"feature_dims >= 1 .*got \(0,\)"):
        BatchLayerNorm(C, feature_dims=(0,))
    with pytest.raises(OptionError, match="expected batch_var 'current' or 'population'; got 'running'"):
        InferenceStatistics(batch_var="running")  # type: ignore[arg-type]
