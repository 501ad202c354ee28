"""torchdata's StatefulDataLoader as the inner loader: the real package."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from clients import AssessedLoader

from .datasets import Pairs, two_sources
from .recording import Recorder, numbers_of_told

stateful_dataloader = pytest.importorskip("torchdata.stateful_dataloader", reason="needs normgauge[training]")
Stateful = stateful_dataloader.StatefulDataLoader

# torchdata calls what torch 2.13 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

X, Y = two_sources()
DATASET = Pairs(X, Y)
PLAN = AssessedLoader(DATASET, 8, shuffle="batches").plan


def make(**options: Any) -> AssessedLoader:
    return AssessedLoader(DATASET, 8, **{"plan": PLAN, "shuffle": "batches", "dataloader_class": Stateful, **options})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_model_is_told_about_its_batch(num_workers: int) -> None:
    loader, model = make(num_workers=num_workers), Recorder(X.shape[1])
    loader.attach(model)
    for _ in range(2):
        for x, _ in loader:
            model(x)
    assert isinstance(loader.dataloader, Stateful)
    plain = AssessedLoader(DATASET, 8, plan=PLAN)
    assert numbers_of_told(model.told, X, PLAN) == [d.index for _ in range(2) for _, d in plain.decisions()]


def seen(item: Any) -> tuple[int, bool, float]:
    (x, _), decision = item
    return decision.index, decision.normalize, float(x[0, 0])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("reshuffle", ["batches", "samples"])
@pytest.mark.parametrize("n_steps", [1, 12, 17, 24])
def test_its_own_state_resumes_our_batches(num_workers: int, reshuffle: Any, n_steps: int) -> None:
    """The state of `loader.dataloader`, which frameworks save, holds our sampler's epoch and position."""
    options = {"reshuffle": reshuffle, "num_workers": num_workers}
    inner: Any = make(**options).dataloader
    whole = [seen(item) for _ in range(3) for item in inner]
    inner = make(**options).dataloader
    state: Any = None
    steps = []
    while state is None:
        for item in inner:
            steps.append(seen(item))
            if len(steps) == n_steps:
                state = inner.state_dict()
                break
    assert steps == whole[:n_steps]
    again: Any = make(**options).dataloader
    again.load_state_dict(state)
    rest = [seen(item) for item in again]
    if n_steps % 12 == 0:  # saved at an epoch's end: torchdata yields its empty rest first
        assert rest == []
        rest = [seen(item) for item in again]
    assert rest == whole[n_steps : n_steps // 12 * 12 + 12]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_our_state_resumes_with_it_inside(num_workers: int) -> None:
    loader = make(num_workers=num_workers)
    alone = make()
    whole = [seen(item) for _ in range(2) for item in alone.decisions()]
    for step, _ in enumerate(loader):
        if step == 6:
            break
    again = make(num_workers=num_workers)
    again.load_state_dict(loader.state_dict())
    assert [seen(item) for _ in range(2) for item in again.decisions()] == whole[7:]


class Stream(IterableDataset[torch.Tensor]):
    """Rows that remember how far they were read."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Any:
        while self.position < len(X):
            self.position += 1
            yield torch.from_numpy(X[self.position - 1])
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def test_a_stream_resumes_through_it() -> None:
    def inner() -> Any:
        return AssessedLoader(Stream(), 8, threshold=0.5, dataloader_class=Stateful).dataloader

    whole = [x.numpy() for x, _ in inner()]
    first = inner()
    for step, _ in enumerate(first):
        if step == 4:
            break
    again = inner()
    again.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in again]), np.concatenate(whole[5:]))
