"""Intervals and verdicts against hand-worked examples and SciPy."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.study.claims.statements import Verdict, interval, judge, together

DIFFERENCES = st.lists(st.integers(-40, 40).map(lambda points: points / 400), min_size=2, max_size=6)


def test_two_pairs_give_their_range() -> None:
    # With 2 pairs t is 12.7, so the quantiles are the ends: the resample of one value alone.
    found = interval([0.0, 0.5])
    assert (found.mean, found.low, found.high) == (0.25, 0.0, 0.5)


def test_interval_is_the_percentile_bootstrap_at_expanded_quantiles() -> None:
    values = np.array([0.011, -0.02, 0.03, 0.004, 0.017, 0.026, -0.008, 0.012])
    # t(0.975, 7) = 2.3646; Phi(-sqrt(8 / 7) 2.3646) = 0.00574: a 98.85 % percentile interval.
    reference = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * 0.00574, n_resamples=100_000, method="percentile", rng=1
    ).confidence_interval
    found = interval(values.tolist())
    assert found.low == pytest.approx(reference.low, abs=7e-4)  # three standard errors of such a quantile
    assert found.high == pytest.approx(reference.high, abs=7e-4)


def test_five_pairs_are_enumerated() -> None:
    # Four zeros and a one: k of 5 draws are the one with Binomial(5, 1/5). t(0.975, 4) = 2.776, so the tail is
    # Phi(-3.104) = 0.00095, and P(k >= 5) = 0.00032 < 0.00095 < P(k >= 4) = 0.00672: the upper end is 4/5.
    found = interval([0, 0, 0, 0, 1])
    assert (found.low, found.high) == (0.0, 0.8)


@given(DIFFERENCES)
@settings(max_examples=40, deadline=None)
def test_interval_holds_the_mean_and_turns_with_the_sign(values: list[float]) -> None:
    found, turned = interval(values), interval([-value for value in values])
    assert found.low <= found.mean <= found.high
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@given(DIFFERENCES, st.randoms())
@settings(max_examples=30, deadline=None)
def test_order_of_seeds_does_not_matter(values: list[float], random: "np.random.Generator") -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    before, after = interval(values), interval(shuffled)
    assert (before.low, before.high) == pytest.approx((after.low, after.high), abs=1e-9)


@pytest.mark.parametrize(
    ("differences", "relation", "verdict"),
    [
        ([0.02, 0.03, 0.02, 0.04, 0.02], "above", "reproduced"),
        ([0.001, 0.002, 0.001, 0.001, 0.002], "above", "reproduced"),  # small and sure
        ([0.001, -0.001, 0.0, 0.002, 0.0], "above", "not reproduced"),  # a gain of a point is excluded
        ([-0.03, -0.02, -0.05, -0.04, -0.02], "above", "not reproduced"),
        ([0.04, -0.03, 0.05, -0.02, 0.03], "above", "undecided at this scale"),
        ([0.0] * 5, "above", "not reproduced"),
        ([0.005, -0.005, 0.01, 0.0, 0.0], "equal", "reproduced"),
        ([0.03, 0.04, 0.05, 0.03, 0.04], "equal", "not reproduced"),
        ([-0.03, -0.04, -0.05, -0.03, -0.04], "equal", "not reproduced"),
        ([0.01, 0.03, 0.02, 0.0, 0.04], "equal", "undecided at this scale"),
        ([0.2, 0.2, 0.2, 0.2], "above", "undecided at this scale"),  # four seeds decide nothing
    ],
)
def test_verdicts(differences: Sequence[float], relation: str, verdict: Verdict) -> None:
    assert judge(differences, relation) == verdict  # type: ignore[arg-type]  # a literal


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "undecided at this scale"], "undecided at this scale"),
        (["undecided at this scale", "not reproduced", "reproduced"], "not reproduced"),
        ([], "not testable here"),
    ],
)
def test_a_claim_has_the_least_favourable_verdict(verdicts: list[Verdict], whole: Verdict) -> None:
    assert together(verdicts) == whole


def test_one_pair_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 paired differences"):
        interval([0.1])
