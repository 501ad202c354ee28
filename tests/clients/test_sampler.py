"""The user's own sampler and batch_sampler mean what they mean in torch, and decisions follow the content."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import norms
from assessor import FingerprintError, Plan, SampleOrder, assess
from clients import AssessedLoader, LoaderError, PlanMismatchWarning, StateError

from .datasets import Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)
EVENS_FIRST = [*range(0, 90, 2), *range(1, 90, 2)]


class Reversing:
    """A sampler that runs backwards in odd epochs: the same batches in another order and within."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids[::-1] if self.epoch % 2 else self.ids)


def rows(batches: Any) -> list[list[float]]:
    return [x[:, 0].tolist() for x, _ in batches]


def check_decision(plan: Plan, x: torch.Tensor, decision: Any) -> None:
    rule = norms.rule_from_dict(plan.rule)
    assert decision.score == pytest.approx(float(rule.score(x)), rel=1e-5)
    assert decision.normalize == bool(rule(x))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_sampler_yields_what_it_yields_in_torch(num_workers: int, drop_last: bool) -> None:
    plain = DataLoader(DATASET, 8, sampler=EVENS_FIRST, drop_last=drop_last)
    ours = AssessedLoader(DATASET, 8, sampler=EVENS_FIRST, drop_last=drop_last, num_workers=num_workers)
    assert rows(ours) == rows(plain) == rows(ours)
    assert len(ours) == len(plain)


def test_the_plan_is_that_of_the_ids() -> None:
    loader = AssessedLoader(DATASET, 8, sampler=EVENS_FIRST)
    want = assess(X[EVENS_FIRST], batch_size=8, labels=Y[EVENS_FIRST])
    np.testing.assert_array_equal(loader.plan.scores, want.scores)
    assert loader.plan.order == SampleOrder.explicit(EVENS_FIRST)
    assert [decision for _, decision in loader.decisions()] == list(loader.plan)


def test_ids_in_dataset_order_are_rows() -> None:
    loader = AssessedLoader(DATASET, 8, sampler=SequentialSampler(DATASET))
    assert loader.plan.to_json() == AssessedLoader(DATASET, 8, shuffle=False).plan.to_json()


def test_subsets_and_repeats() -> None:
    """Imbalanced sampling draws some samples often and others never."""
    weights = np.linspace(0, 1, 90)
    sampler = WeightedRandomSampler(weights.tolist(), 200, generator=torch.Generator().manual_seed(0))
    loader = AssessedLoader(DATASET, 8, sampler=sampler)
    seen = 0
    for (x, _), decision in loader.decisions():
        assert decision == loader.plan[decision.index]
        seen += len(x)
    assert seen == loader.plan.n_rows == 200


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_random_sampler_is_read_anew_each_epoch(num_workers: int) -> None:
    sampler = SubsetRandomSampler(range(10, 80), generator=torch.Generator().manual_seed(0))
    loader = AssessedLoader(DATASET, 8, sampler=sampler, num_workers=num_workers)
    previous: Any = None
    for _ in range(3):
        epoch = []
        for (x, _), decision in loader.decisions():
            check_decision(loader.plan, x, decision)
            epoch.append(x[:, 0].tolist())
        assert sorted(value for batch in epoch for value in batch) == sorted(X[10:80, 0].tolist())
        assert epoch != previous
        previous = epoch


def test_known_batches_keep_their_decisions_wherever_they_come() -> None:
    """A decision is keyed by what is in the batch."""
    loader = AssessedLoader(DATASET, 9, sampler=Reversing(list(range(90))))
    first = [decision for _, decision in loader.decisions()]
    second = [decision for _, decision in loader.decisions()]
    assert first == list(loader.plan)
    assert [d.index for d in second] == list(range(10))
    assert [(d.score, d.reason) for d in second] == [(d.score, d.reason) for d in first[::-1]]


@pytest.mark.parametrize("reshuffle", ["batches", False])
def test_the_first_reading_kept(reshuffle: Any) -> None:
    sampler = RandomSampler(DATASET, generator=torch.Generator().manual_seed(1))
    loader = AssessedLoader(DATASET, 8, sampler=sampler, reshuffle=reshuffle, seed=5)
    epochs = [[(d.index, x[:, 0].tolist()) for (x, _), d in loader.decisions()] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert (epochs[0] == epochs[1]) == (reshuffle is False)
    for index, values in epochs[1]:
        assert values == X[loader.plan.order.ids(90)[index * 8 : index * 8 + 8], 0].tolist()


BUCKETS: list[list[int]] = [[*range(8)], [*range(40, 48)], [*range(60, 68)], [*range(8, 12)]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_sampler_of_any_sizes(num_workers: int) -> None:
    plain = DataLoader(DATASET, batch_sampler=BUCKETS)
    ours = AssessedLoader(DATASET, batch_sampler=BUCKETS, num_workers=num_workers)
    assert rows(ours) == rows(plain)
    assert ours.batch_size == ours.plan.batch_size == 8
    decisions = [decision for _, decision in ours.decisions()]
    assert decisions == list(ours.plan)
    uneven = [BUCKETS[3], *BUCKETS[:3]]  # the plan's batches lie elsewhere: these are scored as they are read
    loader = AssessedLoader(DATASET, batch_sampler=uneven, num_workers=num_workers)
    for (x, _), decision in loader.decisions():
        check_decision(loader.plan, x, decision)


def test_torchs_own_batch_sampler() -> None:
    sampler = BatchSampler(RandomSampler(DATASET, generator=torch.Generator().manual_seed(3)), 8, drop_last=True)
    loader = AssessedLoader(DATASET, batch_sampler=sampler)
    assert len(loader) == len(rows(loader)) == 11


def test_a_distributed_sampler_shares_by_itself() -> None:
    """As in torch: the sampler deals, the loader does not deal again; set_epoch reaches it."""
    values = []
    for rank in range(2):
        sampler: DistributedSampler[Any] = DistributedSampler(DATASET, num_replicas=2, rank=rank, seed=1)
        plain_sampler: DistributedSampler[Any] = DistributedSampler(DATASET, num_replicas=2, rank=rank, seed=1)
        loader = AssessedLoader(DATASET, 8, sampler=sampler)
        for epoch in range(2):
            plain_sampler.set_epoch(epoch)
            ours = rows(loader)
            assert ours == rows(DataLoader(DATASET, 8, sampler=plain_sampler))
            values += [value for batch in ours for value in batch] if epoch == 0 else []
    assert sorted(values) == sorted(X[:, 0].tolist())


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_epoch_set_at_the_sampler_is_followed(before: bool, wrapped: bool) -> None:
    """As in a script of torch's that goes on at epoch 5, where the loader itself has counted none."""

    def made() -> tuple[DistributedSampler[Any], dict[str, Any]]:
        sampler: DistributedSampler[Any] = DistributedSampler(DATASET, num_replicas=2, rank=1, seed=1)
        if before:
            sampler.set_epoch(5)
        return sampler, {"batch_sampler": BatchSampler(sampler, 8, False)} if wrapped else {"sampler": sampler}

    sampler, options = made()
    plain_sampler, plain_options = made()
    loader = AssessedLoader(DATASET, **options) if wrapped else AssessedLoader(DATASET, 8, **options)
    assert (loader.sampler, loader.batch_sampler) == (options.get("sampler"), options.get("batch_sampler"))
    plain: DataLoader[Any] = DataLoader(DATASET, **({"batch_size": 1 if wrapped else 8} | plain_options))
    for epoch in (5, 6, 2, 0, 1):
        sampler.set_epoch(epoch)
        plain_sampler.set_epoch(epoch)
        assert len(loader) == len(plain)
        assert rows(loader) == rows(plain)
        assert loader.epoch == epoch + 1
    assert (
        loader.plan.to_json()
        == AssessedLoader(DATASET, 8, sampler=DistributedSampler(DATASET, 2, 1, seed=1)).plan.to_json()
    )


def dealt(epoch: int) -> list[list[float]]:
    sampler: DistributedSampler[Any] = DistributedSampler(DATASET, num_replicas=2, rank=0, seed=1)
    sampler.set_epoch(epoch)
    return rows(DataLoader(DATASET, 8, sampler=sampler))


def dealing(**options: Any) -> tuple[DistributedSampler[Any], AssessedLoader]:
    sampler: DistributedSampler[Any] = DistributedSampler(DATASET, num_replicas=2, rank=0, seed=1)
    return sampler, AssessedLoader(DATASET, 8, sampler=sampler, **options)


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_set_once_more_comes_once_more(epoch: int) -> None:
    sampler, loader = dealing()
    for _ in range(3):
        sampler.set_epoch(epoch)
        assert rows(loader) == dealt(epoch)
    assert rows(loader) == dealt(epoch + 1)
    sampler.set_epoch(2)
    next(iter(loader))  # and no further
    sampler.set_epoch(2)
    assert rows(loader) == dealt(2)


def test_an_epoch_that_is_set_is_in_the_state() -> None:
    sampler, loader = dealing()
    rows(loader)
    sampler.set_epoch(5)
    assert loader.state_dict()["epoch"] == 5
    assert rows(loader) == dealt(5)


def test_what_the_loader_is_told_last_counts() -> None:
    sampler, loader = dealing()
    sampler.set_epoch(7)
    loader.set_epoch(2)
    assert rows(loader) == dealt(2)


def test_a_state_counts_more_than_an_epoch_set_before() -> None:
    _, loader = dealing(reshuffle="batches")
    whole = [rows(loader) for _ in range(3)][2]
    loader.set_epoch(2)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    sampler, loader = dealing(reshuffle="batches")
    sampler.set_epoch(1)
    loader.load_state_dict(state)
    assert rows(loader) == whole[3:]


def test_a_sampler_that_counts_its_readings_has_been_set_nothing() -> None:
    class Counting(Reversing):
        def __iter__(self) -> Iterator[int]:
            yield from super().__iter__()
            self.epoch += 1

    loader = AssessedLoader(DATASET, 8, sampler=Counting(EVENS_FIRST))
    plain: DataLoader[Any] = DataLoader(DATASET, 8, sampler=Counting(EVENS_FIRST))
    for epoch in range(4):
        assert loader.epoch == epoch
        assert rows(loader) == rows(plain)


def test_a_resumed_position_is_kept_when_the_script_sets_its_epoch() -> None:
    sampler: DistributedSampler[Any] = DistributedSampler(DATASET, num_replicas=2, rank=0, seed=1)
    loader = AssessedLoader(DATASET, 8, sampler=sampler)
    rows(loader)
    whole = rows(loader)
    loader.set_epoch(1)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    state = loader.state_dict()
    sampler = DistributedSampler(DATASET, num_replicas=2, rank=0, seed=1)
    loader = AssessedLoader(DATASET, 8, sampler=sampler)
    loader.load_state_dict(state)
    sampler.set_epoch(1)
    assert rows(loader) == whole[2:]


def test_ranks_share_a_samplers_batches() -> None:
    shares = [
        [x for batch in rows(AssessedLoader(DATASET, 8, sampler=EVENS_FIRST, rank=r, world_size=2)) for x in batch]
        for r in range(2)
    ]
    assert len(set(shares[0]) & set(shares[1])) == 0
    assert len(shares[0]) + len(shares[1]) == 90


@pytest.mark.parametrize("n_steps", [3, 12, 15])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume(n_steps: int, num_workers: int) -> None:
    def make() -> AssessedLoader:
        return AssessedLoader(DATASET, 8, sampler=Reversing(EVENS_FIRST), num_workers=num_workers)

    def steps(loader: AssessedLoader, epochs: int) -> Iterator[Any]:
        for _ in range(epochs):
            yield from ((x[:, 0].tolist(), decision) for (x, _), decision in loader.decisions())

    whole = list(steps(make(), 2))
    loader = make()
    running = steps(loader, 2)
    before = [next(running) for _ in range(n_steps)]
    again = make()
    again.load_state_dict(loader.state_dict())
    assert before + list(steps(again, 2 - again.epoch)) == whole


def test_a_sampler_that_does_not_come_again_cannot_resume() -> None:
    state = None
    for seed in (0, 1):
        sampler = RandomSampler(DATASET, generator=torch.Generator().manual_seed(seed))
        plan = AssessedLoader(DATASET, 8, shuffle=False).plan
        loader = AssessedLoader(DATASET, 8, sampler=sampler, plan=plan, on_mismatch="warn")
        with pytest.warns(PlanMismatchWarning):
            assert loader.plan is plan
        if state is None:
            state = loader.state_dict()
    with pytest.raises(StateError):
        loader.load_state_dict(state or {})


def test_plans_of_other_samplers(tmp_path: Any) -> None:
    plan = AssessedLoader(DATASET, 8, sampler=EVENS_FIRST).plan
    plan.save(tmp_path / "plan.json")
    saved = Plan.load(tmp_path / "plan.json")
    loader = AssessedLoader(DATASET, 8, sampler=EVENS_FIRST, plan=saved)
    assert [decision for _, decision in loader.decisions()] == list(plan)
    with pytest.raises(LoaderError, match="expected the sampler with which the plan was made"):
        AssessedLoader(DATASET, 8, plan=saved)
    others = EVENS_FIRST[::-1]
    with pytest.raises(FingerprintError, match=r"order .* are asked for"):
        assert AssessedLoader(DATASET, 8, sampler=others, plan=saved).plan
    warned = AssessedLoader(DATASET, 8, sampler=others, plan=saved, on_mismatch="warn")
    with pytest.warns(PlanMismatchWarning, match="0 of 12 batches hold"):
        assert warned.plan is saved
    for (x, _), decision in warned.decisions():
        check_decision(saved, x, decision)
    again = AssessedLoader(DATASET, 8, sampler=others, plan=saved, on_mismatch="rescore")
    np.testing.assert_array_equal(again.plan.scores, assess(X[others], batch_size=8).scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": [1], "batch_sampler": [[1]]}, "expected a sampler or a batch_sampler; got both"),
        ({"sampler": [1], "shuffle": True}, "expected no shuffle beside a sampler.*reshuffle='batches'"),
        ({"batch_sampler": [[1]], "shuffle": "batches"}, "expected no shuffle beside a batch_sampler"),
        ({"batch_sampler": [[1]], "batch_size": 4}, "expected neither batch_size nor drop_last"),
        ({"batch_sampler": [[1]], "drop_last": True}, "expected neither batch_size nor drop_last"),
        ({"batch_sampler": [[1], []]}, "the batch_sampler yields an empty one"),
        ({"sampler": iter([1])}, "expected a sampler with __iter__ and __len__; got list_iterator"),
        ({"sampler": ["a", "b"]}, r"expected a sampler of integer indices >= 0; got \['a', 'b'\]"),
        ({"sampler": [1, -2]}, "integer indices >= 0"),
        ({"sampler": []}, "expected at least one batch; the sampler yields none"),
    ],
)
def test_samplers_that_contradict(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        AssessedLoader(DATASET, **options)
