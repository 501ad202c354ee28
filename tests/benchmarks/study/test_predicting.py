"""Question 1 against scikit-learn and SciPy, and on records of a planted truth."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.study.gathered import gather
from benchmarks.study.predicting import held_out, predict, rank_correlation, roc_area, section
from benchmarks.study.records import Assessed, Record, Setting
from tests.benchmarks.study import synthetic

PAIRS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30)


@given(PAIRS)
def test_roc_area_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    scores, gains = np.array(pairs, float).T
    assume(0 < (gains > 1).sum() < len(gains))
    assert roc_area(scores[None], gains[None])[0] == pytest.approx(roc_auc_score(gains > 1, scores))


@given(PAIRS)
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    scores, gains = np.array(pairs, float).T
    assume(np.ptp(scores) > 0 and np.ptp(gains) > 0)
    assert rank_correlation(scores[None], gains[None])[0] == pytest.approx(spearmanr(scores, gains).statistic)


def test_undefined_where_there_is_nothing_to_order() -> None:
    assert np.isnan(roc_area(np.zeros((1, 3)), np.zeros((1, 3)))).all()
    assert np.isnan(rank_correlation(np.zeros((1, 3)), np.arange(3.0)[None])).all()


def test_a_family_is_predicted_by_the_others_only() -> None:
    scores, gains = np.array([0.0, 1, 0, 1]), np.array([0.0, 10, 2, 20])
    curve, constant = held_out(scores, gains, ["a", "a", "b", "b"])
    assert curve.tolist() == [2, 20, 0, 10]
    assert constant.tolist() == [11, 11, 5, 5]


def test_the_measure_that_knows_is_found() -> None:
    found = {p.name: p for p in predict(gather(synthetic.grid(), "grid"))}
    knows, unknowing = found["standard_divergence"], found["spread_divergence"]
    assert knows.auc.value == pytest.approx(1)
    assert knows.explained.low > 0.5
    assert unknowing.auc.low < 0.5 < unknowing.auc.high
    assert unknowing.less.below
    assert set(knows.without) == set(synthetic.FAMILIES)


def test_words_follow_the_numbers() -> None:
    good = section(gather(synthetic.grid(), "grid"))
    assert good is not None
    assert good.answer.startswith("`standard_divergence` tells best")
    swapped: list[Record] = []
    for record in synthetic.grid():
        if isinstance(record, Assessed):
            scores = record.scores
            other = {
                "standard_divergence": scores["spread_divergence"],
                "spread_divergence": scores["standard_divergence"],
            }
            swapped.append(Assessed(record.setting, record.seed, other, {}, {}, "nothing"))
        else:
            swapped.append(record)
    other_way = section(gather(swapped, "grid"))
    assert other_way is not None
    assert other_way.answer.startswith("`spread_divergence` tells best")
    assert "it loses beyond noise" in other_way.answer


def of_the_same_data() -> list[Record]:
    """Return cells of two families of one dataset and of wine, where batch norm gains 10 points in the first two."""
    found: list[Record] = []
    for i in range(12):
        family, gain = (("digits", 10.0), ("digit_rows", 10.0), ("wine", 0.0))[i % 3]
        cell = Setting("grid", family, f"scales({i})", "mlp", 4, "sgd", 10)
        for seed in synthetic.SEEDS:
            found.append(synthetic.assessed(cell, seed, 5.0 + i))
        found += [synthetic.result(cell, "none", dict.fromkeys(synthetic.SEEDS, 50.0))]
        found += [synthetic.result(cell, "batch", dict.fromkeys(synthetic.SEEDS, 50.0 + gain))]
    return found


def test_families_of_one_dataset_do_not_predict_each_other() -> None:
    found = {p.name: p for p in predict(gather(of_the_same_data(), "grid"))}["standard_divergence"]
    assert set(found.without) == {"digits", "wine"}
    # Wine alone predicts no gain for the digits, and these 10 points for wine: all wrong.
    assert found.explained.value <= 0


def test_what_the_batch_size_alone_tells_is_said() -> None:
    answer = section(gather(synthetic.grid(), "grid"))
    assert answer is not None
    assert "The batch size alone, which is no measure of the data, reaches" in answer.answer
    assert "worse than the default" in answer.answer
    assert "the other way" not in answer.answer


def test_nothing_is_said_of_nothing() -> None:
    assert section(gather([], "grid")) is None
