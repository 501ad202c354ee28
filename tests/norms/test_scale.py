import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from norms import AdaptiveNorm, BatchNorm, L1BatchNorm, LInfBatchNorm, OptionError, RunningNorm, TopKBatchNorm
from norms.scale import maximum_factor
from tests.norms.reference import Floats

C = 3


def constant(n: int) -> float:
    return float(0.5 * (1 + (np.pi * np.log(4)) ** 0.5) / ((2 * np.log(n)) ** 0.5))


def scales(column: Floats, k: int) -> dict[str, float]:
    """Per kind the scale of one channel's values."""
    distance = np.sort(np.abs(column - column.mean()))[::-1]
    return {
        "l1": float(distance.mean() * (np.pi / 2) ** 0.5),
        "topk": constant(len(column)) * float(distance[:k].mean()),
        "linf": constant(len(column)) * float(distance[0]),
    }


def layers(k: int) -> dict[str, RunningNorm]:
    return {"l1": L1BatchNorm(C), "topk": TopKBatchNorm(C, k=k), "linf": LInfBatchNorm(C)}


@given(n=st.integers(2, 12), positions=st.integers(1, 5), k=st.integers(1, 12))
def test_output_and_running_scale(n: int, positions: int, k: int) -> None:
    x = np.random.default_rng(n).normal(2, 3, (n, C, positions))
    for name, norm in layers(k).items():
        norm.double()
        got = norm(torch.tensor(x)).detach().numpy()
        for c in range(C):
            column = x[:, c].ravel()
            scale = scales(column, k)[name]
            np.testing.assert_allclose(got[:, c], (x[:, c] - column.mean()) / (scale + 1e-5), atol=1e-10)
            running = float(norm.get_buffer("running_scale")[c])
            assert running == pytest.approx(0.9 + 0.1 * scale)
            assert float(norm.get_buffer("running_mean")[c]) == pytest.approx(0.1 * column.mean())


@pytest.mark.parametrize("name", ["l1", "topk", "linf"])
def test_inference_uses_the_running_scale(name: str) -> None:
    norm = layers(2)[name]
    norm(torch.randn(8, C) * 3 + 1)
    x = torch.randn(4, C)
    rm, rs = norm.get_buffer("running_mean"), norm.get_buffer("running_scale")
    torch.testing.assert_close(norm.eval()(x), (x - rm) / (rs + 1e-5))


def test_l1_scale_is_the_standard_deviation_of_normal_data() -> None:
    x = torch.randn(4000, C) * torch.tensor([0.5, 1.0, 7.0])
    y = L1BatchNorm(C)(x)
    torch.testing.assert_close(y.std(0), torch.ones(C), atol=0.03, rtol=0)


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_factor(n: int) -> None:
    assert maximum_factor(n, torch.zeros(1)).item() == pytest.approx(constant(n))


@pytest.mark.parametrize("name", ["l1", "topk", "linf"])
def test_finite_where_a_variance_overflows(name: str) -> None:
    x = torch.randn(16, C)
    far = x * 1e25
    assert not BatchNorm(C)(far)[:, 0].abs().max() > 0.1  # x^2 overflows float32: all zeros, or not a number
    norm = layers(2)[name]
    torch.testing.assert_close(norm(far), layers(2)[name](x), atol=1e-3, rtol=1e-3)
    assert norm.get_buffer("running_scale").isfinite().all()


def test_half_precision_arithmetic_needs_no_squares() -> None:
    # Without the float32 statistics of these layers: float16 ends at 65504, so squares of 300 overflow.
    x = torch.randn(64, 1).half() * 300
    assert (x - x.mean()).square().amax().isinf()
    assert (x - x.mean()).abs().mean().isfinite()


@pytest.mark.parametrize("name", ["l1", "topk", "linf"])
def test_in_a_gate_small_batches_are_compared_by_scale(name: str) -> None:
    gate = AdaptiveNorm(layers(5)[name])
    for _ in range(60):
        gate(torch.randn(16, C) * 5 + 30)
    gate.eval()
    near, far = torch.randn(1, C), torch.randn(1, C) * 5 + 30
    assert gate(near) is near
    torch.testing.assert_close(gate(far), gate.norm.eval()(far))


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match="expected k >= 1; got 0: the paper has 10"):
        TopKBatchNorm(C, k=0)
