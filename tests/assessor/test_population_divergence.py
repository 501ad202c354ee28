"""population_divergence against a plain reading of its formula, torch-free, and the exactness of merges with it."""

import math
from itertools import pairwise
from random import Random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from assessor import (
    FormatError,
    Plan,
    Profile,
    Profiler,
    SettingError,
    ShapeError,
    make_plan,
    merge,
    profile_array,
)
from assessor.kernels import choice
from tests.assessor import reference as plain
from tests.assessor.measured import Floats, batches, mixed


def plan_of(profile: Profile, size: int | None = None) -> Plan:
    return make_plan(profile, method="population_divergence", threshold="fixed(0.5)", batch_size=size)


def divergence(batch: Floats, population: Floats) -> float:
    """FORMULAS 2.4 by loops; a feature constant in the batch has ln v_f = ln V_f - 2 noise(B)."""
    terms = []
    for values, all_values in zip(batch.T.tolist(), population.T.tolist(), strict=True):
        m, v, pm, pv = plain.mean(values), plain.variance(values), plain.mean(all_values), plain.variance(all_values)
        if pv:
            log = math.log(v / pv) if v else -2 * plain.noise(len(values))
            terms.append((v / pv + (m - pm) ** 2 / pv - 1 - log) / 2)
    return plain.mean(terms)


@pytest.mark.parametrize("size", [2, 3, 8, 25])
@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
def test_against_a_plain_reading(size: int, kernel: str) -> None:
    x, earlier = mixed(size=size), np.random.default_rng(5).normal(0.3, 2, size=(40, 9))
    earlier[:, 2] = 5
    before, choice().name = choice().name, kernel
    try:
        profile = profile_array(x, batch_sizes=[size], reference=profile_array(earlier, batch_sizes=[7]))
    finally:
        choice().name = before
    plan = plan_of(profile)
    expected = [divergence(batch, earlier) for batch in batches(x, size) if len(batch) > 1]
    assert_allclose(plan.scores[: len(expected)], expected, rtol=1e-11)
    assert any("1 of 9 features are constant in the reference and left out" in note for note in plan.notes)
    assert any("pairs are constant within the batch" in note for note in plan.notes)


def test_everything_else_of_the_profile_is_as_without_a_reference() -> None:
    x = mixed()
    bare = profile_array(x, batch_sizes=[4, 8], first_row=3)
    with_one = profile_array(x, batch_sizes=[4, 8], first_row=3, reference=profile_array(x, batch_sizes=[4]))
    for size in (4, 8):
        assert_array_equal(with_one.lanes[size].records, bare.lanes[size].records)
    assert_array_equal(with_one.rows.means, bare.rows.means)
    assert_array_equal(with_one.moments.m2, bare.moments.m2)


def test_against_the_dataset_itself_the_mean_is_drift_and_noise() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 12)) * rng.lognormal(0, 1, 12) + rng.normal(size=12)
    x[:100] *= 3
    x[:30, 3] = 0
    once = profile_array(x, batch_sizes=[10])
    twice = profile_array(x, batch_sizes=[10], reference=once)
    parts = make_plan(once).decomposition
    assert parts is not None
    # The imputed log variances differ feature by feature; their mean is the same.
    assert_allclose(plan_of(twice).scores.mean(), parts["drift"] + parts["noise"], rtol=1e-10)


def test_alike_batches_show_the_noise() -> None:
    x = np.random.default_rng(7).normal(3, 2, size=(8000, 40))
    plan = plan_of(profile_array(x, batch_sizes=[4], reference=profile_array(x, batch_sizes=[4])))
    assert_allclose(plan.scores.mean(), plain.noise(4), rtol=0.01)
    assert_allclose(plan.details["noise"], plain.noise(4), rtol=1e-9)
    assert "alike batches of its size show 0.328 nats" in plan[0].reason


@settings(max_examples=20)
@given(st.sets(st.integers(1, 66), max_size=15), st.sampled_from(["element", "channel"]), st.randoms())
def test_any_cutting_gives_the_same_bytes(cuts: set[int], axis: str, random: Random) -> None:
    x = np.random.default_rng(8).normal(size=(67, 3, 4)).astype(np.float32)
    x[:20, 1] = 2
    reference = profile_array(x[:30] * 2, batch_sizes=[5], feature_axis=axis)
    settings = {"batch_sizes": [1, 4, 7], "feature_axis": axis, "reference": reference}
    once = profile_array(x, **settings)  # type: ignore[arg-type]  # a dict of keywords
    edges = sorted({0, 67, *cuts})
    parts = [profile_array(x[a:b], first_row=a, **settings) for a, b in pairwise(edges)]  # type: ignore[arg-type]
    stream = Profiler(**settings)  # type: ignore[arg-type]
    for a, b in pairwise(edges):
        stream.add(x[a:b])
    random.shuffle(parts)
    assert merge([Profile.from_bytes(part.to_bytes()) for part in parts]).to_bytes() == once.to_bytes()
    assert stream.finish().to_bytes() == once.to_bytes()
    for size in (1, 4, 7):
        assert plan_of(merge(parts), size).to_json() == plan_of(once, size).to_json()


def test_settings_that_do_not_fit() -> None:
    x = mixed()
    bare = profile_array(x, batch_sizes=[8])
    with pytest.raises(SettingError, match="expected a profile made with a reference for population_divergence"):
        plan_of(bare)
    with pytest.raises(ShapeError, match="expected samples of 9 features as in the reference; got 8 in samples"):
        profile_array(x[:, :8], batch_sizes=[8], reference=bare)
    with pytest.raises(SettingError, match="expected a profile with rows as reference; got ndarray"):
        profile_array(x, batch_sizes=[8], reference=x)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(SettingError, match="expected a profile with rows as reference; got one without rows"):
        profile_array(x, batch_sizes=[8], reference=Profile.empty())
    with pytest.raises(SettingError, match="expected a reference made with feature_axis 'channel'; got 'element'"):
        profile_array(x[:, :, None], batch_sizes=[8], feature_axis="channel", reference=bare)
    parts = [
        profile_array(x[:40], batch_sizes=[8], reference=bare),
        profile_array(x[40:], batch_sizes=[8], first_row=40),
        profile_array(x[40:], batch_sizes=[8], first_row=40, reference=profile_array(x[1:], batch_sizes=[8])),
    ]
    for other in parts[1:]:
        with pytest.raises(SettingError, match="expected profiles made with one reference"):
            merge([parts[0], other])


def test_a_reference_that_never_varies_and_batches_of_one() -> None:
    x = mixed()
    flat = profile_array(np.ones((4, 9)), batch_sizes=[2])
    plan = plan_of(profile_array(x, batch_sizes=[8], reference=flat))
    assert np.isnan(plan.scores).all()
    assert any("10 batches have one value per feature or no feature that varies" in note for note in plan.notes)
    own = profile_array(x, batch_sizes=[1])
    assert np.isnan(plan_of(profile_array(x, batch_sizes=[1], reference=own)).scores).all()


def test_altered_references_are_refused() -> None:
    whole = profile_array(mixed(), batch_sizes=[8], reference=profile_array(mixed(), batch_sizes=[8])).to_bytes()
    with pytest.raises(FormatError, match="do not fit the reference"):
        Profile.from_bytes(whole.replace(b"reference.75", b"xeference.75"))
    with pytest.raises(FormatError, match="do not fit the reference"):
        Profile.from_bytes(whole.replace(b"lane.8.divergences", b"lane.8.xivergences"))
    with pytest.raises(FormatError, match="of no values"):
        Profile.from_bytes(whole.replace(b"reference.75", b"reference.00"))
