import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import digamma

from assessor import noise, normal_divergence
from tests.assessor import reference
from tests.tolerances import Z


def test_noise_at_the_sizes_that_the_formulas_name() -> None:
    """FORMULAS 2.2: 0.98 at B = 2, 0.33 at 4, 0.14 at 8, 0.066 at 16, 0.032 at 32."""
    assert [float(f"{float(noise(b)):.2g}") for b in (2, 4, 8, 16, 32)] == [0.98, 0.33, 0.14, 0.066, 0.032]


def test_noise_against_exact_sums_and_scipy() -> None:
    sizes = np.arange(2, 400)
    assert_allclose(noise(sizes), [reference.noise(int(b)) for b in sizes], rtol=1e-12, atol=1e-14)
    assert_allclose(noise(sizes), (np.log(sizes / 2) - digamma((sizes - 1) / 2)) / 2, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("b", [2, 3, 4, 8, 16, 32, 128])
def test_noise_against_simulation(b: int) -> None:
    """noise(B) = -E[ln v] / 2, v the biased variance of B standard normal values."""
    rng = np.random.default_rng(20260 + b)
    draws = -np.log(rng.normal(size=(40_000, b)).var(axis=1)) / 2
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - float(noise(b))) < Z * error


def test_noise_is_undefined_below_two_and_vanishes_for_large_batches() -> None:
    assert np.isnan(noise([0, 1, -3])).all()
    assert 0 < float(noise(10**9)) < 1e-8


@pytest.mark.parametrize(("b", "f"), [(2, 2), (2, 64), (3, 7), (4, 512), (8, 64), (32, 10), (128, 3)])
def test_normal_divergence_against_exact_sums_and_scipy(b: int, f: int) -> None:
    assert_allclose(normal_divergence(b, f), reference.normal_divergence(b, f), rtol=1e-11, atol=1e-14)
    by_scipy = (digamma((b * f - 1) / 2) - np.log(b * f) - digamma((b - 1) / 2) + np.log(b)) / 2
    assert_allclose(normal_divergence(b, f), by_scipy, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("b", "f"), [(2, 8), (4, 64), (8, 64), (16, 32), (128, 8)])
def test_normal_divergence_against_simulation(b: int, f: int) -> None:
    rng = np.random.default_rng(7000 + b)
    x = rng.normal(size=(3000, b, f))
    pooled = x.reshape(3000, -1).var(axis=1)
    draws = (np.log(pooled) - np.log(x.var(axis=1)).mean(axis=1)) / 2
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - float(normal_divergence(b, f))) < Z * error


def test_normal_divergence_edges() -> None:
    assert np.isnan(normal_divergence([1, 4], [3, 0])).all()
    assert_allclose(normal_divergence([2, 5, 100], 1), 0, atol=1e-15)  # one feature is like itself
    assert normal_divergence([[4], [8]], [2, 3, 4]).shape == (2, 3)
