import string
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from assessor import Scores, SettingError, UnknownNameError
from assessor.thresholds import Threshold, parse_threshold

QUANTILES = np.array([0.3, 0.05, 0.2])
WITH_NULL = Scores(
    values=np.zeros(3), details={}, rule={"measure": "some"}, null_quantile=lambda alpha: QUANTILES * (1 - alpha)
)
WITHOUT = Scores(values=np.zeros(3), details={}, rule={"measure": "standard_divergence"})

Finite = st.floats(allow_nan=False, allow_infinity=False)
Alpha = st.floats(1e-300, 1, exclude_max=True)
Calls = st.recursive(
    Finite.map(lambda c: f"fixed({c!r})") | Alpha.map(lambda a: f"null({a!r})"),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"max({','.join(parts)})"),
    max_leaves=5,
).filter(lambda text: len(text) <= 120)


def cutoffs(threshold: Threshold, scores: Scores = WITH_NULL) -> Any:
    return np.broadcast_to(np.asarray(threshold(scores)), (3,)).tolist()


@pytest.mark.parametrize(
    ("text", "canonical", "expected"),
    [
        (1, "fixed(1)", [1.0, 1.0, 1.0]),
        (1.5, "fixed(1.5)", [1.5, 1.5, 1.5]),
        (np.float64(0.1), "fixed(0.1)", [0.1, 0.1, 0.1]),
        (np.int32(2), "fixed(2)", [2.0, 2.0, 2.0]),
        ("1.2", "fixed(1.2)", [1.2, 1.2, 1.2]),
        (" -3e-2 ", "fixed(-0.03)", [-0.03, -0.03, -0.03]),
        (".5", "fixed(0.5)", [0.5, 0.5, 0.5]),
        ("+1.", "fixed(1)", [1.0, 1.0, 1.0]),
        ("fixed(1.20)", "fixed(1.2)", [1.2, 1.2, 1.2]),
        ("fixed( 1e20 )", "fixed(1e+20)", [1e20, 1e20, 1e20]),
        ("fixed(0.12345678912)", "fixed(0.12345678912)", [0.12345678912] * 3),
        ("null(0.5)", "null(0.5)", [0.15, 0.025, 0.1]),
        ("max(fixed(0.1),null(.5))", "max(fixed(0.1), null(0.5))", [0.15, 0.1, 0.1]),
        ("max(0.1, null(.5))", "max(fixed(0.1), null(0.5))", [0.15, 0.1, 0.1]),
        ("max( otsu(),quantile(.5))", "max(otsu(), quantile(0.5))", [0.0, 0.0, 0.0]),
        ("max(max(fixed(-1)), fixed(-2))", "max(max(fixed(-1)), fixed(-2))", [-1.0, -1.0, -1.0]),
    ],
)
def test_texts_and_their_cutoffs(text: Any, canonical: str, expected: list[float]) -> None:
    got, threshold = parse_threshold(text)
    assert got == canonical
    assert_allclose(cutoffs(threshold), expected, rtol=1e-15)


@given(Calls | Finite.map(repr))
def test_the_canonical_text_reads_back_as_the_same_threshold(text: str) -> None:
    canonical, threshold = parse_threshold(text)
    if len(canonical) <= 200:
        again, same = parse_threshold(canonical)
        assert again == canonical
        assert cutoffs(same) == cutoffs(threshold)


@given(Finite)
def test_a_number_is_kept_to_the_last_bit(cutoff: float) -> None:
    text, threshold = parse_threshold(cutoff)
    assert cutoffs(threshold)[0] == cutoff
    assert cutoffs(parse_threshold(text)[1])[0] == cutoff


@given(
    st.text(max_size=60)
    | st.text(alphabet="fixednulmax(),.-+e0123456789 _", max_size=40)
    | st.text(alphabet=string.printable, max_size=250)
)
def test_junk_is_a_setting_error_or_a_threshold(text: str) -> None:
    try:
        canonical, _ = parse_threshold(text)
    except SettingError:
        return
    assert parse_threshold(canonical)[0] == canonical


NOT_A_THRESHOLD = (
    "",
    " ",
    "fixed",
    "fixed(",
    "fixed)",
    "fixed()",
    "fixed(1, 2)",
    "fixed(fixed(1))",
    "fixed(1)(2)",
    "fixed(1) null(0.1)",
    "fixed(cutoff=1)",
    "fixed(*[1])",
    "fixed(1+1)",
    "fixed(10**9)",
    "fixed(--1)",
    "fixed(1j)",
    "fixed('1')",
    "max(-fixed(1))",
    "max(fixed(1),)",
    "max(,fixed(1))",
    "null(fixed(0.1))",
    "1 2",
    "1if",
    "fixed(1);null(0.1)",
    "fixed(\\1)",
    "fixed(1)\0",
    "(1)",
    ",",
    "[1]",
    "fixed",
    "quantile",
    "mean(1)",
    "otsu(1)",
    "kmeans(2)",
    "gaussian_mixture(fixed(1))",
    "quantile()",
    "mean_std()",
    "median_mad(1, 2)",
    "mean_std(mean())",
)


@pytest.mark.parametrize("name", ["mean", "otsu", "kmeans", "gaussian_mixture"])
def test_a_name_alone_will_do_where_there_are_no_arguments(name: str) -> None:
    assert parse_threshold(f" {name} ")[0] == parse_threshold(f"{name}()")[0] == f"{name}()"


@pytest.mark.parametrize("text", NOT_A_THRESHOLD)
def test_what_is_not_a_threshold(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_threshold(text)
    assert str(caught.value) == (
        "expected a threshold: a number, or one of fixed(...), null(...), max(...), mean(...), mean_std(...), "
        "median_mad(...), quantile(...), otsu(...), kmeans(...), gaussian_mixture(...), such as "
        f"'max(fixed(0.1), null(0.01))'; got {text.strip()!r}"
    )


@pytest.mark.parametrize("text", ["median()", "inf", "nan", "True", "fixed(nan)", "__import__('os')", "eval"])
def test_unknown_names_list_the_known_ones(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_threshold(text)
    if isinstance(caught.value, UnknownNameError):
        assert "expected a threshold among: fixed, null, max, mean, mean_std, median_mad, quantile, otsu, " in str(
            caught.value
        )


def test_nothing_is_ever_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    for text in (f"open({str(proof)!r}, 'w')", f"fixed(open({str(proof)!r}, 'w'))", "fixed(exit())", "fixed(1/0)"):
        with pytest.raises(SettingError):
            parse_threshold(text)
    assert not proof.exists()


@pytest.mark.parametrize("value", [True, None, [1], b"1", 1j, {"fixed": 1}])
def test_other_types(value: Any) -> None:
    with pytest.raises(SettingError, match=r"expected a threshold such as 1.0 or 'fixed\(1.0\)'; got"):
        parse_threshold(value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**400, "1e999", "fixed(1e999)"])
def test_a_cutoff_must_be_finite(value: Any) -> None:
    with pytest.raises(SettingError, match="expected a finite cutoff; got"):
        parse_threshold(value)


def test_an_integer_too_long_to_print() -> None:
    with pytest.raises(SettingError, match="expected a finite cutoff; got inf"):
        parse_threshold(10**5000)


@pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "1.5", "1e999"])
def test_alpha_must_lie_between_zero_and_one(alpha: str) -> None:
    with pytest.raises(SettingError, match=r"expected 0 < alpha < 1 in null\(alpha\); got"):
        parse_threshold(f"null({alpha})")


def test_long_texts_are_refused_not_cut() -> None:
    with pytest.raises(SettingError, match="expected a threshold of at most 200 characters; got 213: shorten it"):
        parse_threshold("fixed(1)" + " " * 200 + "junk(")
    with pytest.raises(SettingError, match="at most 200 characters"):
        parse_threshold("max(" * 100_000)
    assert parse_threshold("fixed(1)" + " " * 500)[0] == "fixed(1)"


def test_nesting_within_the_length_is_no_problem() -> None:
    depth = 38
    text, threshold = parse_threshold("max(" * depth + "fixed(1)" + ")" * depth)
    assert text.count("max") == depth
    assert cutoffs(threshold)[0] == 1


def test_max_of_nothing() -> None:
    with pytest.raises(SettingError, match=r"expected at least one threshold in max\(...\); got none"):
        parse_threshold("max()")


def test_null_needs_a_measure_with_a_null() -> None:
    with pytest.raises(SettingError, match=r"gaussian_divergence; got standard_divergence: use fixed\(cutoff\)"):
        cutoffs(parse_threshold("max(fixed(1), null(0.01))")[1], WITHOUT)
