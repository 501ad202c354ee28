from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from assessor import Plan, SettingError, assess
from tests.assessor import reference

RNG = np.random.default_rng(81)


def published(x: Any, size: int, labels: Any = None, **options: Any) -> Plan:
    return assess(x, batch_size=size, labels=labels, method="published", **options)


def test_by_hand_with_two_classes() -> None:
    """Class 0: means 1, 3 (T = 2), class 1: 10, 20, 30 (T = 20)."""
    x = np.array([[0.0, 2.0], [10.0, 10.0], [3.0, 3.0], [15.0, 25.0], [30.0, 30.0]])
    plan = published(x, 2, [0, 1, 0, 1, 1])
    # |1-2|/2 = .5 and |10-20|/20 = .5; then .5 and 0; then .5
    assert plan.scores.tolist() == [0.5, 0.5, 0.5]
    assert plan.normalize.tolist() == [False] * 3
    assert plan.cutoffs.tolist() == [1.2] * 3
    lower = published(x, 2, [0, 1, 0, 1, 1], threshold=0.4)
    assert lower.normalize.tolist() == [True] * 3


def test_without_labels_all_samples_form_one_class() -> None:
    x = np.array([[1.0], [2.0], [3.0], [14.0]])  # T = 5
    plan = published(x, 2)
    assert plan.scores.tolist() == [0.8, 1.8]
    assert plan.normalize.tolist() == [False, True]
    assert "no labels came: all samples form one class" in plan.notes
    assert published(x, 2, [7, 7, 7, 7]).scores.tolist() == [0.8, 1.8]


def test_a_tie_is_inside_the_band() -> None:
    """T = 4, p = 0.5: 6 is T + pT, and 2 is T - pT, both inside."""
    x = np.array([[6.0], [2.0], [4.0], [4.0]])
    assert published(x, 2, threshold=0.5).normalize.tolist() == [False, False]
    nearby = x.copy()
    nearby[0] += 2e-9
    nearby[1] -= 2e-9
    assert published(nearby, 2, threshold=0.5).normalize.tolist() == [True, False]


def test_a_negative_class_mean() -> None:
    """T = -5: the score takes |T|; the published interval is empty, so that every batch with the class is flagged."""
    images = np.full((6, 2, 3), -5.0)
    images[4:] = 5.0
    labels = [0, 0, 0, 0, 1, 1]
    plan = published(images, 2, labels)
    assert plan.scores.tolist() == [0.0, 0.0, 0.0]
    assert "1 classes have a negative mean; |T_c| is taken" in plan.notes
    exact = published(images, 2, labels, published_exact=True)
    assert exact.scores.tolist() == [np.inf, np.inf, 0.0]
    assert exact.normalize.tolist() == [True, True, False]
    assert "1 classes have a negative mean; their interval is empty" in exact.notes


@pytest.mark.parametrize("exact", [False, True])
def test_a_class_mean_of_zero(exact: bool) -> None:
    """T = 0: deviation 0 where a_s = 0, infinite elsewhere."""
    images = np.zeros((4, 2, 2))
    images[0], images[1] = 1.0, -1.0
    plan = published(images, 2, published_exact=exact)
    assert plan.scores.tolist() == [np.inf, 0.0]
    assert plan.normalize.tolist() == [True, False]
    assert "score inf > cutoff 1.2" in plan[0].reason


def test_published_exact_leaves_out_the_last_row_and_column() -> None:
    images = np.array([[[1.0, 2.0, 90.0], [3.0, 4.0, 90.0], [90.0, 90.0, 90.0]], [[7.5, 7.5, -1.0]] * 2 + [[-1.0] * 3]])
    plan = published(images, 1, published_exact=True)  # means 2.5 and 7.5, T = 5
    assert plan.scores.tolist() == [0.5, 0.5]
    assert plan.details["worst_mean"].tolist() == [2.5, 7.5]
    assert published(images, 1).scores.tolist() != [0.5, 0.5]


def test_channels_of_images_lose_their_border_too() -> None:
    images = RNG.uniform(1, 2, size=(6, 3, 4, 5))
    plan = published(images, 1, published_exact=True)
    kept = images[:, :, :-1, :-1].reshape(6, -1).mean(axis=1)
    assert_allclose(plan.details["worst_mean"], kept, rtol=1e-14)
    assert_allclose(plan.scores, np.abs(kept - kept.mean()) / kept.mean(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(9,), (9, 1), (1, 9)])
def test_published_exact_needs_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=r"expected images .* for published_exact, .*; got samples of shape"):
        published(np.ones((4, *shape)), 2, published_exact=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 9), st.integers(0, 3), st.sampled_from([0.0, 3.0]))
def test_against_a_plain_reading(seed: int, n: int, size: int, classes: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    images = rng.normal(offset, 2, size=(n, 3, 4))
    labels = rng.integers(-classes, classes + 1, n)
    plan = published(images, size, labels)
    expected = reference.published_scores(images.reshape(n, -1).tolist(), labels.tolist(), size)
    assert_allclose(plan.scores, expected, rtol=1e-7, atol=1e-9)
    assert plan.normalize.tolist() == [score > 1.2 for score in plan.scores.tolist()]
    exact = published(images, size, labels, published_exact=True)
    flags = reference.published_flags(images.tolist(), labels.tolist(), size, 1.2)
    clear = np.abs(exact.scores - 1.2) > 1e-9
    assert exact.normalize[clear].tolist() == np.array(flags)[clear].tolist()


def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = load_digits(return_X_y=True)
    return np.asarray(x).reshape(-1, 8, 8), np.asarray(y)


@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("labelled", [True, False])
def test_on_digits_against_a_plain_reading(size: int, labelled: bool) -> None:
    images, labels = digits()
    classes = labels if labelled else np.zeros_like(labels)
    plan = published(images, size, labels if labelled else None)
    expected = reference.published_scores(images.reshape(-1, 64).tolist(), classes.tolist(), size)
    assert_allclose(plan.scores, expected, rtol=1e-11)
    exact = published(images, size, labels if labelled else None, published_exact=True)
    flags = reference.published_flags(images.tolist(), classes.tolist(), size, 1.2)
    assert exact.normalize.tolist() == flags


@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("labelled", [True, False])
def test_raw_digits_are_never_flagged_and_standardized_ones_always(size: int, labelled: bool) -> None:
    """FORMULAS 2.1: 0 % of raw batches, 100 % of batches standardized per feature, since T_c is then near 0."""
    images, labels = digits()
    flat = images.reshape(-1, 64)
    std = flat.std(axis=0)
    standardized = (flat - flat.mean(axis=0)) / np.where(std > 0, std, 1)
    given_labels = labels if labelled else None
    assert published(flat, size, given_labels).flagged_fraction == 0
    assert published(standardized, size, given_labels).flagged_fraction > (0.99 if labelled else 0.999)


def test_it_is_neither_shift_nor_scale_invariant_but_scaling_all_changes_nothing() -> None:
    x = RNG.normal(1, 1, size=(40, 6))
    scores = published(x, 4).scores
    assert_allclose(published(x * 7, 4).scores, scores, rtol=1e-12)
    assert not np.allclose(published(x + 5, 4).scores, scores)


def test_reasons_name_the_sample() -> None:
    x = np.array([[1.0], [2.0], [3.0], [14.0]])
    assert published(x, 2)[1].reason == (
        "score 1.8 > cutoff 1.2: the sample furthest from its class is row 3: mean 14, class 0 has 5"
    )
    plan = published(x, 2, [4, 9, 4, 9])
    assert plan.details["worst_row"].tolist() == [1, 3]
    assert plan.details["class_label"].tolist() == [9, 9]


def test_the_first_of_equal_samples_is_named_and_the_last_batch_may_be_ragged() -> None:
    x = np.array([[1.0], [3.0], [1.0], [3.0], [2.0]])
    plan = published(x, 2)
    assert plan.details["worst_row"].tolist() == [0, 2, 4]
    assert plan.scores.tolist() == [0.5, 0.5, 0.0]
    dropped = published(x, 2, drop_last=True)
    assert dropped.scores.tolist() == [0.5, 0.5]
    assert dropped.rule["class_means"] == (2.0,), "the first pass is over the whole training set"


def test_channels_do_not_matter() -> None:
    x = RNG.normal(1, 1, size=(20, 3, 4))
    assert published(x, 4, feature_axis="channel").scores.tolist() == published(x, 4).scores.tolist()


def test_a_tiny_class_mean_gives_infinity_without_a_warning() -> None:
    x = np.array([[1e10], [-1e10], [1e-310], [0.0]])
    assert published(x, 2, [0, 0, 1, 1]).scores[0] == np.inf
    plan = published(np.array([[1e10, -1e10 + 1e-5], [1e3, 1e3], [-1e3, -1e3]]), 3)
    assert plan.scores[0] > 1e8
