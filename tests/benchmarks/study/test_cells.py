from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.study import families
from benchmarks.study.cells import BATCH_SIZES, FACTORS, candidates, choose, grid
from benchmarks.study.mixtures import Mixture
from benchmarks.study.parts import COUNTS, STEPS
from benchmarks.study.records import Setting
from benchmarks.study.sources import sources
from benchmarks.study.treatments import treatments


def counts(chosen: tuple[Setting, ...], factor: str) -> list[int]:
    return list(Counter(getattr(setting, factor) for setting in chosen).values())


def square(levels: int) -> list[Setting]:
    """Return all cells of two networks, with as many levels of every other factor."""
    names = [f"level {index}" for index in range(levels)]
    return [
        Setting("grid", family, treatment, network, batch_size, optimizer, 1)
        for family, treatment, network, batch_size, optimizer in product(
            names, names, ("mlp", "lstm"), range(levels), names
        )
    ]


@pytest.fixture(scope="module")
def chosen() -> tuple[Setting, ...]:
    return grid(families.names(), COUNTS["grid"], STEPS)


def test_the_grid_has_as_many_cells_of_each_network_as_asked_for(chosen: tuple[Setting, ...]) -> None:
    assert Counter(setting.network for setting in chosen) == COUNTS["grid"]
    assert len(set(chosen)) == len(chosen)


@pytest.mark.parametrize(("factor", "levels"), [("treatment", treatments()), ("batch_size", BATCH_SIZES)])
def test_every_level_is_about_equally_often_in_the_grid(
    chosen: tuple[Setting, ...], factor: str, levels: tuple[object, ...]
) -> None:
    assert {getattr(setting, factor) for setting in chosen} == set(levels)
    assert max(counts(chosen, factor)) - min(counts(chosen, factor)) <= 2


def test_optimizers_share_the_grid(chosen: tuple[Setting, ...]) -> None:
    assert abs(counts(chosen, "optimizer")[0] - counts(chosen, "optimizer")[1]) <= 2


def test_every_family_is_in_cells_enough_to_be_left_out(chosen: tuple[Setting, ...]) -> None:
    assert {setting.family for setting in chosen} == set(families.names())
    assert min(counts(chosen, "family")) >= 5


def test_the_first_third_of_the_grid_is_balanced_too(chosen: tuple[Setting, ...]) -> None:
    third = chosen[: len(chosen) // 3]
    assert {setting.network for setting in third} == set(STEPS)
    assert {setting.family for setting in third} == set(families.names())
    assert max(counts(third, "batch_size")) - min(counts(third, "batch_size")) <= 2
    assert max(counts(third, "treatment")) <= 2


def test_cells_fit_their_data(chosen: tuple[Setting, ...]) -> None:
    for setting in chosen:
        data = families.load(setting.family, setting.treatment, 1, setting.batch_size)
        assert len(data.x) >= 2 * setting.batch_size
        assert setting.network in families.networks(setting.family)


def test_question_4_has_two_to_eight_sources_within_and_between() -> None:
    mixtures = {setting.treatment: Mixture.of(setting.treatment) for setting in sources(COUNTS["sources"], STEPS)}
    found = {(len(mixture.shares), mixture.between) for mixture in mixtures.values() if mixture}
    assert found == {(k, between) for k in (2, 4, 8) for between in (False, True)}
    assert {setting.batch_size for setting in sources(COUNTS["sources"], STEPS)} == {4, 16, 32}


@settings(max_examples=25)
@given(levels=st.integers(1, 4), each=st.integers(1, 8), seed=st.integers(0, 9))
def test_levels_differ_by_two_at_most_where_every_cell_is_possible(levels: int, each: int, seed: int) -> None:
    chosen = choose(square(levels), {"mlp": each, "lstm": each}, seed=seed)
    for factor in FACTORS:
        found = Counter(getattr(setting, factor) for setting in chosen)
        full = levels if factor != "network" else 2
        assert max(found.values()) - (min(found.values()) if len(found) == full else 0) <= 2


@settings(max_examples=15)
@given(seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_candidates(seed: int, order: object) -> None:
    cells = square(3)
    shuffled = list(cells)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis types its random as object
    wanted = {"mlp": 5, "lstm": 3}
    assert choose(cells, wanted, seed=seed) == choose(shuffled, wanted, seed=seed)


def test_more_cells_than_there_are_takes_them_all() -> None:
    cells = square(2)
    assert set(choose(cells, {"mlp": 1000, "lstm": 3})) >= {cell for cell in cells if cell.network == "mlp"}


def test_networks_without_steps_and_data_without_rows_take_no_part() -> None:
    found = list(candidates("grid", ("digits", "wine"), ("standardized",), (2, 128), {"mlp": 7}))
    assert {setting.network for setting in found} == {"mlp"}
    # wine has 178 rows: 108 for training are no two batches of 128
    assert {(setting.family, setting.batch_size) for setting in found} == {("digits", 2), ("digits", 128), ("wine", 2)}
