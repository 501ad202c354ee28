"""Question 2: a planted cutoff is found, on families that did not choose it."""

import numpy as np
import pytest

from benchmarks.study.cutoffs import CANDIDATES, choose, held_out, judge, keeps, one_sided, section
from benchmarks.study.gathered import gather
from tests.benchmarks.study import synthetic


def test_of_equal_candidates_the_middle_is_chosen() -> None:
    assert choose(np.array([1.0, 5, 5, 5, 2])) == 2
    assert choose(np.array([5.0, 1])) == 0


def test_a_planted_cutoff_is_found_and_the_wrong_one_loses() -> None:
    gathered = gather(synthetic.grid(60, cutoff=7.0), "grid")
    wrong = judge(gathered, "standard_divergence", 0.1)
    assert wrong.alike[0] <= 7 <= wrong.alike[1]
    assert wrong.gain.above
    assert not keeps(wrong)
    right = judge(gathered, "standard_divergence", 7.0)
    assert keeps(right)
    assert right.at_today.value == pytest.approx(float(right.curve[CANDIDATES.index(7.0)]))


def test_a_measure_that_knows_nothing_gets_always_or_never() -> None:
    cutoff = judge(gather(synthetic.grid(60, gain=5.0), "grid"), "spread_divergence", 0.05)
    better = max(cutoff.curve[0], cutoff.curve[-1])
    assert cutoff.held_out.value <= better + 1


def test_a_family_does_not_choose_its_own_cutoff() -> None:
    # Family a gains from candidate 0 only, family b from candidate 1 only: each is given the other's.
    followed = np.zeros((len(CANDIDATES), 2, 1))
    followed[0, 0], followed[1, 1] = 10, 20
    values, cutoffs = held_out(followed, np.array(["a", "b"]))
    assert values.tolist() == [[0], [0]]
    assert cutoffs == {"a": CANDIDATES[1], "b": CANDIDATES[0]}


def test_batches_of_one_side_are_counted() -> None:
    assert one_sided(gather(synthetic.grid(8), "grid"), "standard_divergence", 1.0) == 1
    assert np.isnan(one_sided(gather(synthetic.grid(8), "grid"), "bartlett", 1.0))


def test_the_answer_names_every_measure_with_a_method() -> None:
    found = section(gather(synthetic.grid(), "grid"))
    assert found is not None
    assert "`standard_divergence`: 1 stays" in found.answer
    assert "left_out" in found.answer
