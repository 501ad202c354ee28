"""A run that is interrupted anywhere and resumed equals the run that was not."""

import io
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor import Plan
from clients import AssessedLoader, StateError

from .datasets import Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)
PLAN = AssessedLoader(DATASET, 8).plan
LENGTH = 12

Step = tuple[int, int, tuple[float, ...], bool]


def make(**options: Any) -> AssessedLoader:
    return AssessedLoader(DATASET, 8, **{"plan": PLAN, "seed": 2, **options})


def run(loader: AssessedLoader, epochs: int, *, first: int = 0) -> list[Step]:
    """Everything that a training loop sees over the epochs from `first` to `epochs`."""
    return [
        (epoch, decision.index, tuple(batch[0][:, 0].tolist()), decision.normalize)
        for epoch in range(first, epochs)
        for batch, decision in loader.decisions()
    ]


def stopped_after(loader: AssessedLoader, n_steps: int) -> tuple[list[Step], dict[str, Any]]:
    """The steps up to an interruption in mid-loop, and the state saved in the last one's body."""
    steps: list[Step] = []
    epoch = 0
    while True:
        for batch, decision in loader.decisions():
            steps.append((epoch, decision.index, tuple(batch[0][:, 0].tolist()), decision.normalize))
            if len(steps) == n_steps:
                return steps, loader.state_dict()
        epoch += 1


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert json.loads(json.dumps(state)) == loaded == state
    return loaded


OPTIONS = st.sampled_from(
    [{}, {"shuffle": False}, {"reshuffle": False}, {"reshuffle": "samples"}, {"rank": 1, "world_size": 3}]
)


@settings(max_examples=60, deadline=None)
@given(n_steps=st.integers(1, 3 * 4), options=OPTIONS)
def test_resume_anywhere(n_steps: int, options: dict[str, Any]) -> None:
    whole = run(make(**options), 4)
    before, state = stopped_after(make(**options), n_steps)
    resumed = make(**options)
    resumed.load_state_dict(through_a_file(state))
    assert resumed.epoch == state["epoch"]
    assert before + run(resumed, 4, first=resumed.epoch) == whole


@pytest.mark.parametrize("n_steps", [1, 5, 11, 12, 13, 20])
@pytest.mark.parametrize(("first_workers", "then_workers"), [(2, 2), (2, 0), (0, 2)])
def test_resume_with_workers_that_prefetch(n_steps: int, first_workers: int, then_workers: int) -> None:
    whole = run(make(), 3)
    before, state = stopped_after(make(num_workers=first_workers), n_steps)
    resumed = make(num_workers=then_workers)
    resumed.load_state_dict(state)
    assert before + run(resumed, 3, first=resumed.epoch) == whole


def test_state_between_epochs_is_the_next_epochs_beginning() -> None:
    loader = make()
    run(loader, 1)
    state = loader.state_dict()
    assert (state["epoch"], state["batches"]) == (1, 0)
    resumed = make()
    resumed.load_state_dict(state)
    assert run(resumed, 2, first=1) == run(make(), 2)[LENGTH:]


def test_state_before_the_first_batch() -> None:
    state = make().state_dict()
    assert (state["epoch"], state["batches"]) == (0, 0)
    resumed = make()
    resumed.load_state_dict(state)
    assert run(resumed, 1) == run(make(), 1)


def test_state_right_after_loading_is_what_was_loaded() -> None:
    _, state = stopped_after(make(), 17)
    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state


def test_set_epoch_keeps_the_resumed_position_in_that_epoch() -> None:
    """As a training loop does that sets each epoch."""
    whole = run(make(), 3)
    before, state = stopped_after(make(), 17)
    resumed = make()
    resumed.load_state_dict(state)
    after = []
    for epoch in range(state["epoch"], 3):
        resumed.set_epoch(epoch)
        after += run(resumed, epoch + 1, first=epoch)
    assert before + after == whole
    resumed.load_state_dict(state)
    resumed.set_epoch(0)
    assert run(resumed, 1) == whole[:LENGTH]


def test_an_abandoned_epoch_is_followed_by_the_next() -> None:
    loader = make()
    stopped_after(loader, 5)
    assert run(loader, 2, first=1) == run(make(), 2)[LENGTH:]


def test_resume_when_batches_come_out_of_order() -> None:
    """The state names the batches handed out beyond the front of the epoch's order."""
    loader = make(shuffle=False)
    state = loader.state_dict() | {"batches": 2, "ahead": [3, 5]}
    loader.load_state_dict(state)
    assert loader.state_dict() == state
    assert [index for _, index, _, _ in run(loader, 1)] == [2, 4, 6, 7, 8, 9, 10, 11]


OTHER_PLAN = AssessedLoader(DATASET, 8, threshold=-5.0).plan


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"seed": 3}, "seed"),
        ({"shuffle": False}, "shuffled"),
        ({"reshuffle": "samples"}, "reshuffle"),
        ({"rank": 0, "world_size": 2}, "world_size"),
        ({"plan": OTHER_PLAN}, "decisions"),
        ({"plan": AssessedLoader(DATASET, 8, seed=1).plan}, "fingerprint"),
    ],
)
def test_states_of_other_runs(options: dict[str, Any], name: str) -> None:
    with pytest.raises(StateError, match=f"expected the state of a loader with {name}="):
        make(**options).load_state_dict(make().state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": 13}, "0 to 12 batches; got epoch 0, 13 batches"),
        ({"epoch": -1}, "expected an epoch from 0 to [0-9]+; got -1"),
        ({"epoch": 2**70}, "expected an epoch from 0"),
        ({"epoch": "one"}, "made by state_dict; its position cannot be read: ValueError"),
        ({"ahead": None}, "made by state_dict; its position cannot be read: TypeError"),
        ({"ahead": [12]}, "expected ahead to hold batches that were still to come"),
        ({"version": 99}, "with version=1; got 99"),
    ],
)
def test_states_that_are_none(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StateError, match=message):
        make().load_state_dict(make().state_dict() | change)
    with pytest.raises(StateError):
        make().load_state_dict({})
    with pytest.raises(StateError, match="expected a mapping made by state_dict; got NoneType"):
        make().load_state_dict(None)  # type: ignore[arg-type]  # what must be refused


def test_the_same_state_on_every_rank() -> None:
    states = []
    for rank in range(3):
        loader = make(rank=rank, world_size=3)
        states.append(stopped_after(loader, 2)[1])
    assert states[0] == states[1] == states[2]


def test_a_plan_from_a_file_is_the_same_plan() -> None:
    state = make().state_dict()
    make(plan=Plan.from_json(PLAN.to_json())).load_state_dict(state)
