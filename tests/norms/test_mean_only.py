import numpy as np
import pytest
import torch

from norms import AdaptiveNorm, MeanOnlyBatchNorm
from tests.norms.tolerances import TOLERANCE

C = 3


def test_takes_the_mean_off_and_keeps_the_scale() -> None:
    rng = np.random.default_rng(0)
    norm = MeanOnlyBatchNorm(C).double()
    assert norm.bias is not None
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    mean = np.zeros(C)
    for _ in range(3):
        x = rng.normal(2, 3, (4, C, 5))
        want = x - x.mean((0, 2), keepdims=True) + np.array([1, 2, 3])[:, None]
        np.testing.assert_allclose(norm(torch.tensor(x)).detach().numpy(), want, atol=1e-12)
        mean = 0.9 * mean + 0.1 * x.mean((0, 2))
    got = norm.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(got, x - mean[:, None] + np.array([1, 2, 3])[:, None], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_gradients_are_those_of_float64_and_no_input_is_kept(dtype: torch.dtype, affine: bool) -> None:
    x = (torch.randn(4, C, 32, 32) * 3 + 2).to(dtype).requires_grad_()
    g = torch.randn(x.shape).to(dtype)
    norm = MeanOnlyBatchNorm(C, affine=affine)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, keep):
        y = norm(x)
    torch.autograd.backward(y, g)
    assert kept == []
    wide = x.detach().double().requires_grad_()
    bias = torch.zeros(C, dtype=torch.float64, requires_grad=True)
    z = wide - wide.mean((0, 2, 3), keepdim=True) + bias[:, None, None]
    torch.autograd.backward(z, g.double())
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=TOLERANCE[dtype] / 8, atol=TOLERANCE[dtype] / 8)
    if affine:
        assert norm.bias is not None
        assert norm.bias.grad is not None
        torch.testing.assert_close(norm.bias.grad.double(), bias.grad, rtol=1e-4, atol=1e-4)  # of 4096 values


def test_has_no_gamma_and_no_variance() -> None:
    norm = MeanOnlyBatchNorm(C)
    assert list(norm.state_dict()) == ["bias", "running_mean", "num_batches_tracked"]
    assert norm.population() is None
    gate = AdaptiveNorm(norm).eval()
    x = torch.randn(1, C)
    assert gate(x) is x
