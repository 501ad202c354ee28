"""measure_drift against the integral of the divergence, and its edges."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm

from assessor import Profile, SettingError, ShapeError, profile_array
from assessor.drift import measure_drift
from tests.assessor import reference as plain
from tests.tolerances import Z

RNG = np.random.default_rng(41)


def test_against_the_integral_of_the_divergence() -> None:
    new, old = RNG.normal(1, 2, size=(50, 4)), RNG.normal(0, 1.5, size=(30, 4))
    drift = measure_drift(profile_array(new, batch_sizes=[8], first_row=30), profile_array(old, batch_sizes=[5, 9]))
    for f in range(4):
        p, q = norm(new[:, f].mean(), new[:, f].std()), norm(old[:, f].mean(), old[:, f].std())

        def integrand(t: float, p: object = p, q: object = q) -> float:
            return p.pdf(t) * (p.logpdf(t) - q.logpdf(t))  # type: ignore[attr-defined,no-any-return]  # frozen norm

        expected, _ = quad(integrand, -25, 25, limit=200)
        assert_allclose(drift.features[f], expected, rtol=1e-7)
    assert_allclose(drift.total, drift.features.mean())
    assert_allclose(drift.noise, plain.noise(50) - plain.noise(30) + 2 / 27)
    assert (drift.n_compared, drift.n_unlike) == (4, 0)


def test_data_that_has_not_moved_shows_the_noise() -> None:
    x = RNG.normal(3, 2, size=(100, 20_000))
    for n, n_earlier in ((20, 80), (50, 50), (80, 12)):
        new, earlier = profile_array(x[:n], batch_sizes=[4]), profile_array(x[-n_earlier:], batch_sizes=[4])
        shown = measure_drift(new, earlier)
        assert abs(shown.total - shown.noise) < Z * shown.features.std() / np.sqrt(20_000)
    assert np.isposinf(measure_drift(profile_array(x, batch_sizes=[4]), profile_array(x[:3], batch_sizes=[4])).noise)
    itself = profile_array(x[:100], batch_sizes=[4])
    assert measure_drift(itself, itself).total == 0


def test_features_that_do_not_vary() -> None:
    old, new = RNG.normal(size=(20, 5)), RNG.normal(size=(20, 5))
    old[:, 1] = new[:, 1] = 3
    old[:, 2], new[:, 2] = 3, 4
    old[:, 3] = 3
    new[:, 4] = 3
    drift = measure_drift(profile_array(new, batch_sizes=[4]), profile_array(old, batch_sizes=[4]))
    assert drift.features[1] == 0
    assert np.isposinf(drift.features[2:]).all()
    assert (drift.n_compared, drift.n_unlike) == (1, 3)
    assert drift.total == drift.features[0]
    flat = profile_array(np.ones((4, 2)), batch_sizes=[2])
    assert np.isnan(measure_drift(flat, flat).total)


def test_what_cannot_be_compared() -> None:
    x = profile_array(RNG.normal(size=(20, 5)), batch_sizes=[4])
    images = RNG.normal(size=(20, 5, 2))
    with pytest.raises(SettingError, match="expected two profiles with rows; got one without"):
        measure_drift(x, Profile.empty())
    with pytest.raises(ShapeError, match="expected 5 features as in the reference; got 10"):
        measure_drift(profile_array(images, batch_sizes=[4]), x)
    with pytest.raises(SettingError, match="with one feature_axis; got 'channel' and 'element'"):
        measure_drift(profile_array(images, batch_sizes=[4], feature_axis="channel"), x)
