import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import kurtosis
from sklearn.preprocessing import StandardScaler

from benchmarks.study.treatments import Rows, fit, parse, standardize, treatments

SIMPLE = [name for name in treatments() if parse(name)[0] != "mixed"]


def normal(features: int = 400, rows: int = 2000) -> Rows:
    return np.random.default_rng(7).normal(size=(rows, features))


def treated(name: str, rows: Rows, seed: int = 1) -> Rows:
    return fit(name, rows, np.random.default_rng(seed))(rows)


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=20), elements=st.integers(-99, 99)))
def test_standardizing_is_what_scikit_learn_does(rows: Rows) -> None:
    scaler = StandardScaler().fit(rows)
    transform = standardize(rows)
    np.testing.assert_allclose(transform(rows), scaler.transform(rows), atol=1e-12)
    np.testing.assert_allclose(transform(rows + 3), scaler.transform(rows + 3), rtol=1e-12, atol=1e-12)


def test_a_constant_feature_stays_constant_though_its_mean_is_rounded() -> None:
    rows = np.full((1000, 1), 0.1)
    assert rows.mean() != 0.1
    assert not standardize(rows)(rows).any()


@pytest.mark.parametrize("name", SIMPLE)
def test_the_same_generator_gives_the_same_rows(name: str) -> None:
    rows = normal(features=8, rows=50)
    np.testing.assert_array_equal(treated(name, rows), treated(name, rows))


@pytest.mark.parametrize("name", ["scales(1)", "means(1)", "dead_features"])
def test_another_seed_draws_another_treatment(name: str) -> None:
    rows = normal(features=8, rows=50)
    assert not np.array_equal(treated(name, rows, 1), treated(name, rows, 2))


@pytest.mark.parametrize(
    ("name", "expected"), [("shifted(10)", 10 + 1.5), ("scaled(100)", 150), ("scaled(0.01)", 0.015)]
)
def test_shifts_and_scales_are_those_of_the_name(name: str, expected: float) -> None:
    assert treated(name, np.full((3, 2), 1.5)) == pytest.approx(np.full((3, 2), expected))


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_scales_spread_log_normally_by_the_number_in_the_name(spread: float) -> None:
    rows = normal()
    scale = treated(f"scales({spread})", rows) / rows
    np.testing.assert_allclose(scale, np.broadcast_to(scale[0], scale.shape))
    # Standard errors over 400 features: spread / sqrt(400) of the mean, spread / sqrt(800) of the deviation.
    assert abs(np.log(scale[0]).mean()) < 4.5 * spread / 20
    assert abs(np.log(scale[0]).std() - spread) < 4.5 * spread / 28


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_means_spread_by_the_number_in_the_name(spread: float) -> None:
    rows = normal()
    mean = treated(f"means({spread})", rows) - rows
    np.testing.assert_allclose(mean, np.broadcast_to(mean[0], mean.shape), atol=1e-12)
    assert abs(mean[0].mean()) < 4.5 * spread / 20
    assert abs(mean[0].std() - spread) < 4.5 * spread / 28


@pytest.mark.parametrize("name", ["raw", "standardized", "sorted"])
def test_some_treatments_keep_every_value(name: str) -> None:
    np.testing.assert_array_equal(treated(name, normal(4, 9)), normal(4, 9))


def test_heavy_tails_keep_order_mean_and_variance() -> None:
    rows = normal(features=4, rows=200_000)
    tailed = treated("heavy_tails", rows)
    np.testing.assert_array_equal(np.argsort(rows, axis=0), np.argsort(tailed, axis=0))
    np.testing.assert_allclose(tailed.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(tailed.var(axis=0), 1)
    # 105 / 9 for normal values. The estimate's own standard deviation at 200,000 rows is about 0.27.
    np.testing.assert_allclose(kurtosis(tailed, axis=0, fisher=False), 105 / 9, atol=4.5 * 0.27)


def test_dead_features_are_three_in_ten_of_a_thousandth_of_the_spread() -> None:
    rows = normal(features=50)
    killed = treated("dead_features", rows)
    dead = (killed != rows).any(axis=0)
    assert dead.sum() == 15
    # 15 deviations of 2000 values: standard error 1 / sqrt(4000) = 0.016 of each.
    np.testing.assert_allclose(killed[:, dead].std(axis=0), 1e-3, rtol=4.5 * 0.016)
    np.testing.assert_array_equal(rows, normal(features=50))  # the rows that came are left as they were


def test_dead_features_are_the_same_ones_in_other_rows_and_hold_no_copy() -> None:
    rows = normal(features=20)
    transform = fit("dead_features", rows, np.random.default_rng(1))
    first, second = transform(rows), transform(rows)
    np.testing.assert_array_equal((first != rows).any(axis=0), (second != rows).any(axis=0))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", ["scales(0.5)", "means(3)", "heavy_tails", "shifted(10)", "scaled(100)"])
def test_rows_are_treated_as_the_training_rows_were(name: str) -> None:
    rows = normal(features=6, rows=40)
    transform = fit(name, rows, np.random.default_rng(1))
    np.testing.assert_array_equal(transform(rows[5:9]), transform(rows)[5:9])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw", ("raw", ())),
        ("scales(0.5)", ("scales", ("0.5",))),
        ("mixed(2, between,0.1)", ("mixed", ("2", "between", "0.1"))),
    ],
)
def test_names_are_taken_apart(name: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert parse(name) == expected


@pytest.mark.parametrize("name", ["", "Scales(1)", "scales(", "scales(1))", "scales()", "scales(1) "])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a treatment such as"):
        parse(name)


@pytest.mark.parametrize("name", ["stretched", "scales", "scales(1,2)", "scales(wide)", "heavy_tails(2)", "scales(-1)"])
def test_an_unknown_treatment_or_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of raw, standardized.*got '"):
        fit(name, normal(features=2, rows=4), np.random.default_rng(0))
