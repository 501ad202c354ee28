from typing import Any

import numpy as np
import pytest

from assessor import Plan, assess
from assessor.recommendation import ACTIONS

RNG = np.random.default_rng(97)
NORMAL = RNG.normal(size=(512, 40))


def mixed(x: Any) -> Any:
    """Every second batch of 8 from another source."""
    two = x.reshape(64, 8, 40).copy()
    two[::2] = two[::2] * 40 + 20
    return two.reshape(512, 40)


CASES = {
    "standardized": (NORMAL, "nothing", "nothing: no batch needs normalization"),
    "shifted and scaled": (NORMAL * 50 + 30, "scale", "scale globally: subtract 29.7 and divide by 49.9"),
    "features on other scales": (NORMAL * RNG.lognormal(0, 3, 40), "standardize", "standardize features once"),
    "features at other means": (NORMAL + RNG.normal(0, 30, 40), "standardize", "standardize features once"),
    "two sources": (mixed(NORMAL), "normalize", "normalize the flagged batches, 50% of all"),
    "constant": (np.ones((16, 3)), "unknown", "not enough evidence: no batch has a defined score"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_to_do_with_data_whose_answer_is_known(name: str) -> None:
    x, action, text = CASES[name]
    plan = assess(x, batch_size=8)
    assert plan.action == action
    assert plan.recommendation.startswith(text.split(" 29.7")[0])


def test_the_shift_and_scale_are_those_of_all_values() -> None:
    x = NORMAL * 50 + 30
    plan = assess(x, batch_size=8)
    assert f"subtract {x.mean():.4g} and divide by {x.std():.4g}, once" in plan.recommendation
    assert assess((x - x.mean()) / x.std(), batch_size=8).action == "nothing"


def test_standardizing_once_leaves_nothing_to_do() -> None:
    x = NORMAL * RNG.lognormal(0, 3, 40) + RNG.normal(0, 30, 40)
    plan = assess(x, batch_size=8)
    assert plan.action == "standardize"
    assert assess((x - x.mean(axis=0)) / x.std(axis=0), batch_size=8).action == "nothing"


def test_only_the_batches_of_one_source_are_flagged() -> None:
    plan = assess(mixed(NORMAL), batch_size=8)
    assert plan.normalize.tolist() == [True, False] * 32
    assert "as when several sources are mixed" in plan.recommendation


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (4, "add 0.33 nats of noise: where hidden layers have a norm, take layer norm"),
        (32, "add only 0.032 nats of noise: where hidden layers have a norm, take batch norm"),
    ],
)
def test_the_noise_of_small_batches_is_named(size: int, words: str) -> None:
    two = RNG.normal(size=(64, size, 40))
    two[::2] *= 60
    assert words in assess(two.reshape(-1, 40), batch_size=size).recommendation


def test_methods_without_a_decomposition() -> None:
    x = NORMAL * RNG.lognormal(0, 2, 40)
    plan = assess(x, batch_size=16, method="heterogeneity")
    assert plan.action == "normalize"
    assert plan.recommendation.startswith("normalize the flagged batches, 100% of all")
    assert assess(NORMAL, batch_size=16, method="heterogeneity").action == "nothing"


def test_a_few_batches_that_stand_out_are_no_matter_of_the_dataset() -> None:
    x = NORMAL.copy()
    x[:8] *= 5
    plan: Plan = assess(x, batch_size=8)
    assert plan.action == "nothing"
    assert plan.normalize.sum() == 1
    assert "the plan normalizes the 1.6% of batches that stand out" in plan.recommendation


def test_actions_are_frozen() -> None:
    assert ACTIONS == ("nothing", "scale", "standardize", "normalize", "unknown")
