"""Half-precision batch norms against NumPy's float16 and torch's own layer."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.study.claims.half import KINDS, HalfBatchNorm, Kind, rounded, usable_range
from benchmarks.study.claims.networks import UnguardedBatchNorm


def test_rounding_is_numpys_and_passes_the_gradient() -> None:
    values = np.array([0.1, -3.3333, 6e-8, 1e-9, 7e4, -7e4, 2049.0], dtype=np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    x = torch.tensor(values, requires_grad=True)
    y = rounded(x, torch.float16)
    torch.autograd.backward(y.nan_to_num(posinf=0, neginf=0).sum())
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("make", [lambda c: HalfBatchNorm(c, "batch", torch.float32), UnguardedBatchNorm])
def test_without_rounding_it_is_batch_norm(make: type[UnguardedBatchNorm]) -> None:
    x = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    ours, theirs = make(3), nn.BatchNorm2d(3)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)


def test_a_batch_of_one_value_gives_beta() -> None:
    norm = UnguardedBatchNorm(3)
    nn.init.constant_(norm.bias, 0.5)
    assert norm(torch.randn(1, 3)).tolist() == [[0.5, 0.5, 0.5]]


def test_squares_overflow_and_distances_do_not() -> None:
    x = torch.tensor([[-300.0], [300.0]])  # 300^2 = 90,000 > 65,504
    assert HalfBatchNorm(1, "batch", torch.float16)(x).tolist() == [[0.0], [0.0]]
    # L1: scale = sqrt(pi / 2) 300 = 376
    y = HalfBatchNorm(1, "l1_batch", torch.float16)(x)
    assert y.flatten().tolist() == pytest.approx([-0.798, 0.798], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_stay_finite_where_squares_overflow(kind: Kind) -> None:
    x = (torch.randn(8, 2) * 2000).requires_grad_()
    torch.autograd.backward(HalfBatchNorm(2, kind, torch.float16)(x).square().sum())
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_usable_range() -> None:
    low, high = usable_range("batch", torch.float16)
    # The greatest of 2,048 normal values is about 3.5: its square overflows from 2^7 on at the latest.
    assert high <= 6
    # eps = 1e-5 is a tenth of the variance at a standard deviation of 2^-6.6.
    assert -8 <= low <= -6
    # Distances overflow where values do: 3.5 * 2^14 < 65,504 < 3.5 * 2^15.
    assert usable_range("l1_batch", torch.float16)[1] in (13, 14)
    assert usable_range("batch", torch.bfloat16)[1] == 40
