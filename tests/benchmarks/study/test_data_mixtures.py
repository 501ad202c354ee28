import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.study.mixtures import Mixture
from benchmarks.study.treatments import treatments


def mixture(name: str) -> Mixture:
    found = Mixture.of(name)
    assert found is not None
    return found


def assigned(name: str, rows: int, batch_size: int, seed: int = 1) -> NDArray[np.int64]:
    return mixture(name).assign(rows, batch_size, np.random.default_rng(seed))


def test_only_mixed_treatments_name_a_mixture() -> None:
    assert {name for name in treatments() if Mixture.of(name)} == {name for name in treatments() if "mixed" in name}


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("mixed(4,within)", (0.25, 0.25, 0.25, 0.25)),
        ("mixed(2,between,0.1)", (0.9, 0.1)),
        ("mixed(3,between,0.2)", (0.6, 0.2, 0.2)),
    ],
)
def test_shares_are_those_of_the_name(name: str, shares: tuple[float, ...]) -> None:
    assert mixture(name).shares == pytest.approx(shares)


@given(st.integers(2, 8), st.integers(8, 60), st.sampled_from([2, 4, 16]), st.integers(0, 2**32))
def test_between_gives_each_batch_one_source_and_each_source_its_share(
    sources: int, batches: int, batch_size: int, seed: int
) -> None:
    source = assigned(f"mixed({sources},between)", batches * batch_size, batch_size, seed).reshape(batches, batch_size)
    assert (source == source[:, :1]).all()
    counts = np.bincount(source[:, 0], minlength=sources)
    assert counts.max() - counts.min() <= 1


@given(st.integers(2, 8), st.integers(8, 500), st.integers(0, 2**32))
def test_within_gives_each_source_its_share_of_rows(sources: int, rows: int, seed: int) -> None:
    counts = np.bincount(assigned(f"mixed({sources},within)", rows, 4, seed), minlength=sources)
    assert counts.max() - counts.min() <= 1


def test_within_mixes_the_sources_in_the_batches() -> None:
    source = assigned("mixed(2,within)", 1024, 16).reshape(-1, 16)
    # Of 64 batches drawn without order about 2^-15 are of one source.
    assert (source.min(axis=1) < source.max(axis=1)).all()


@pytest.mark.parametrize(("way", "unit"), [("between", 64), ("within", 1024)])
def test_a_stated_share_is_met(way: str, unit: int) -> None:
    source = assigned(f"mixed(2,{way},0.1)", 1024, 16)
    assert np.bincount(source)[1] == round(0.1 * unit) * (1024 // unit)


def test_the_order_of_sources_is_seeded() -> None:
    first, again, other = (assigned("mixed(4,between)", 1024, 16, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("way", "unit"), [("between", "batch"), ("within", "row")])
def test_too_few_rows_for_the_sources_are_refused(way: str, unit: str) -> None:
    with pytest.raises(ValueError, match=f"expected a {unit} for each of 8 sources, got 7 rows in batches of 7"):
        assigned(f"mixed(8,{way})", 7, 7)


def test_sources_leave_spread_move_and_rescale_in_turn() -> None:
    rows = np.random.default_rng(5).normal(size=(500, 300))
    kept, spread, moved, rescaled, again = mixture("mixed(5,within)").distort(rows, np.random.default_rng(1))
    np.testing.assert_array_equal(kept(rows), rows)
    for transform in (spread, again):
        scale = transform(rows) / rows
        np.testing.assert_allclose(scale, np.broadcast_to(scale[0], scale.shape))
        # The spread is drawn from 1 to 2; 300 features tell it to about 4 %.
        assert 1 - 4.5 * 0.04 < np.log(scale[0]).std() < 2 + 4.5 * 0.08
    mean = moved(rows) - rows
    np.testing.assert_allclose(mean, np.broadcast_to(mean[0], mean.shape), atol=1e-12)
    assert 1 - 4.5 * 0.04 < mean[0].std() < 3 + 4.5 * 0.12
    zero, one = rescaled(np.zeros((1, 300))), rescaled(np.ones((1, 300)))
    assert np.ptp(zero) == np.ptp(one) == 0
    scale = one[0, 0] - zero[0, 0]
    assert 3 <= scale <= 30
    assert abs(zero[0, 0]) <= 3 * scale
    assert not np.allclose(spread(rows), again(rows))


@pytest.mark.parametrize(
    "name",
    [
        "mixed",
        "mixed(2)",
        "mixed(0,within)",
        "mixed(1,within)",
        "mixed(two,within)",
        "mixed(2,beside)",
        "mixed(2,within,0)",
        "mixed(2,within,1)",
        "mixed(2,within,nan)",
        "mixed(11,between,0.1)",
        "mixed(2,within,0.1,0.9)",
    ],
)
def test_mixtures_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected mixed\(sources,within\|between\)"):
        Mixture.of(name)
