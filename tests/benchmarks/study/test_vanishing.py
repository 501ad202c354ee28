import numpy as np
import pytest

from assessor import assess
from benchmarks.study.vanishing import scores, shrunk_noise


def test_without_vanishing_variances_leaving_out_gives_the_assessors_own_scores() -> None:
    x = np.random.default_rng(0).normal(2, 3, (64, 10)).astype(np.float32)
    own = assess(x, batch_size=8, method="need").scores
    np.testing.assert_allclose(scores(x, 8)["standard_divergence/left_out"], own, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [2, 4, 16])
def test_shrunk_scores_of_alike_normal_batches_are_zero_on_average(batch_size: int) -> None:
    x = np.random.default_rng(1).normal(size=(2048, 100)).astype(np.float32)
    found = scores(x, batch_size)["standard_divergence/shrunk"]
    # The standard error of the mean over 2048 100 / B values, of which each deviates by less than 1.
    assert abs(found.mean()) < 4 / (2048 * 100 / batch_size) ** 0.5


def test_shrunk_noise_is_that_of_simulated_batches() -> None:
    v = np.random.default_rng(2).normal(size=(200_000, 4)).var(1)
    assert shrunk_noise(4) == pytest.approx(-np.log(0.75 * v + 0.25).mean() / 2, abs=3e-3)


def test_a_feature_that_is_constant_within_a_batch() -> None:
    x = np.zeros((4, 2), np.float32)
    x[:, 0] = [1, 3, 1, 3]
    x[2:, 1] = [0, 2]
    found = scores(x, 2)
    # By hand: v = (1, 0) and m = (2, 0) in the first batch; noise(2) is 0.98175.
    assert found["standard_divergence/left_out"][0] == pytest.approx((1 + 4 - 1 - 0) / 2 - 0.98175, abs=1e-4)
    overall = np.array([1.0, 0.75])
    terms = [1 + 4 - 1 - np.log(0.5 + 0.5 * overall[0]), 0 + 0 - 1 - np.log(0.5 * overall[1])]
    assert found["standard_divergence/shrunk"][0] == pytest.approx(np.mean(terms) / 2 - shrunk_noise(2))
