import numpy as np
import torch

from norms import AdaptiveNorm, MeanOnlyBatchNorm

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


def test_has_no_gamma_and_no_variance() -> None:
    norm = MeanOnlyBatchNorm(C)
    assert list(norm.state_dict()) == ["bias", "running_mean", "num_batches_tracked"]
    assert norm.population() is None
    gate = AdaptiveNorm(norm).eval()
    x = torch.randn(1, C)
    assert gate(x) is x
