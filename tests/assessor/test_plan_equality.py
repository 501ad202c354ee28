"""Plans are equal where their JSON is the same text; it is not made, nor anything of the plan's size."""

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor import Plan, assess, plan_file
from assessor.packed_bits import PackedBits

PLAN = replace(assess(np.random.default_rng(0).normal(size=(8, 2)), batch_size=2), measure="none", details={})
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
NUMBERS = st.sampled_from([0.0, -0.0, 1.5, np.nextafter(1.5, 2), np.inf, -np.inf, np.nan, OTHER_NAN, 2.0**60])


def columns(n: int, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return columns of a few different numbers, so that two of them are often the same."""
    alike = numbers.map(lambda number: np.full(n, number))
    spread = numbers.map(lambda number: np.broadcast_to(np.array([number]), n))
    return st.lists(numbers, min_size=n, max_size=n).map(np.array) | alike | spread


@st.composite
def decisions(draw: st.DrawFn, n: int) -> Any:
    flags = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if draw(st.booleans()):
        return flags
    data = PackedBits.of(flags).data.copy()
    data[-1] |= 0xFF << (n - 1) % 8 + 1 & 0xFF  # bits after the last may be anything
    return PackedBits(data, n)


@st.composite
def fields(draw: st.DrawFn, n: int) -> dict[str, Any]:
    return {
        "scores": draw(columns(n, NUMBERS)),
        "cutoffs": draw(columns(n, NUMBERS)),
        "normalize": draw(decisions(n)),
        "details": {name: draw(columns(n, NUMBERS)) for name in draw(st.permutations("ab"))},
        "notes": draw(st.sampled_from([(), ("mine",)])),
    }


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "none": lambda fields: {},
    "other NaN": lambda fields: {"scores": np.where(np.isnan(fields["scores"]), OTHER_NAN, fields["scores"])},
    "other zeros": lambda fields: {"scores": np.where(fields["scores"] == 0, 0.0, fields["scores"])},
    "as many flagged": lambda fields: {"normalize": np.roll(np.asarray(fields["normalize"]), 1)},
    "details the other way round": lambda fields: {"details": dict(reversed(fields["details"].items()))},
    "one cutoff, spread": lambda fields: {"cutoffs": np.broadcast_to(fields["cutoffs"][:1], len(fields["scores"]))},
}


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """Return two plans that differ in some fields, in nothing, or in the number of batches."""
    n = draw(st.integers(1, 9))
    first = draw(fields(n))
    how = draw(st.sampled_from([*CHANGES, "drawn", "longer"]))
    if how in CHANGES:
        second = first | CHANGES[how](first)
    elif how == "drawn":
        chosen = draw(st.sets(st.sampled_from([*first]), max_size=2))
        second = first | {name: value for name, value in draw(fields(n)).items() if name in chosen}
    else:
        second = draw(fields(n + 1))
    return [replace(PLAN, n_rows=2 * len(each["scores"]), **each) for each in (first, second)]


@given(pair=plans(), at_once=st.integers(1, 10))
def test_plans_are_equal_where_their_json_is(pair: list[Plan], at_once: int) -> None:
    first, second = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_file, "COMPARED_AT_ONCE", at_once)
        same = first.to_json() == second.to_json()
        assert (first == second) == (second == first) == same
        assert first == replace(first)
    if same:
        assert hash(first) == hash(second)


@given(pair=plans())
def test_a_mapped_plan_equals_what_was_saved(pair: list[Plan], tmp_path_factory: pytest.TempPathFactory) -> None:
    first, second = pair
    for plan, name in ((first, "first.arrow"), (second, "second.arrow")):
        plan.save(tmp_path_factory.getbasetemp() / name)
    mapped, other = (Plan.load(tmp_path_factory.getbasetemp() / name) for name in ("first.arrow", "second.arrow"))
    assert (first == mapped) == (first.to_json() == mapped.to_json())
    assert (mapped == second) == (mapped == other) == (mapped.to_json() == second.to_json())


def test_other_things_are_no_plans() -> None:
    assert PLAN.to_json() != PLAN
    assert len({PLAN, replace(PLAN), replace(PLAN, method="mine")}) == 2


@pytest.mark.parametrize("use", [lambda a, b: a == b, lambda a, b: hash(a) == hash(b)], ids=["equal", "hash"])
@pytest.mark.parametrize("differ", [False, True])
def test_nothing_of_the_plans_size_is_allocated(
    use: Callable[[Plan, Plan], bool], differ: bool, tmp_path: Path
) -> None:
    n = 8_000_000
    scores = np.zeros(n)
    whole: dict[str, Any] = {"n_rows": 2 * n, "scores": scores, "details": {"a": scores}}
    plan = replace(PLAN, cutoffs=np.full(n, 2.0), normalize=np.zeros(n, bool), **whole)
    cutoffs = np.full(n, 2.0)
    cutoffs[-1] -= differ
    plan.save(tmp_path / "plan.arrow")
    replace(plan, cutoffs=cutoffs).save(tmp_path / "other.arrow")
    mapped, other = Plan.load(tmp_path / "plan.arrow"), Plan.load(tmp_path / "other.arrow")
    tracemalloc.start()
    try:
        for left, right in ((mapped, other), (plan, mapped), (plan, other)):
            assert use(left, right) or differ
        assert (mapped == other) != differ
        assert tracemalloc.get_traced_memory()[1] < n / 2  # half a byte a batch; JSON took 14
    finally:
        tracemalloc.stop()
