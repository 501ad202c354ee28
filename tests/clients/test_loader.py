"""AssessedLoader hands out exactly the batches that were assessed, with their own decisions."""

import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import norms
from assessor import Plan, SampleOrder, assess
from clients import AssessedBatch, AssessedLoader

from .datasets import Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)
Shuffle = bool | Literal["batches"]
WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


def expected_order(shuffle: Shuffle) -> SampleOrder:
    return SampleOrder.shuffled(0) if shuffle is True else SampleOrder.ROWS


@WORKERS
@pytest.mark.parametrize("shuffle", [True, False, "batches"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_are_those_assessed(num_workers: int, shuffle: Shuffle, drop_last: bool) -> None:
    loader = AssessedLoader(DATASET, 8, shuffle=shuffle, drop_last=drop_last, num_workers=num_workers)
    ids = expected_order(shuffle).ids(len(X))
    assert loader.plan.order == expected_order(shuffle)
    seen = []
    for (x, y), decision in loader.decisions():
        members = ids[decision.index * 8 : decision.index * 8 + 8]
        np.testing.assert_array_equal(x.numpy(), X[members])
        np.testing.assert_array_equal(y.numpy(), Y[members])
        assert decision == loader.plan[decision.index] == loader.decision
        seen.append(decision.index)
    assert sorted(seen) == list(range(len(loader))) == list(range(90 // 8 if drop_last else 12))
    assert (seen == sorted(seen)) == (shuffle is False)


@pytest.mark.parametrize("method", ["need", "heterogeneity", "published"])
@WORKERS
def test_plan_is_that_of_the_array(method: str, num_workers: int) -> None:
    loader = AssessedLoader(DATASET, 8, method=method, shuffle="batches", num_workers=num_workers)
    assert loader.plan.to_json() == assess(X, batch_size=8, labels=Y, method=method).to_json()


def test_settings_reach_the_assessor() -> None:
    images = torch.randn(40, 3, 4, 4) + 1
    loader = AssessedLoader(
        TensorDataset(images),
        4,
        method="published",
        threshold=0.5,
        shuffle=False,
        method_options={"published_exact": True},
    )
    want = assess(images.numpy(), batch_size=4, method="published", threshold=0.5, published_exact=True)
    assert loader.plan.to_json() == want.to_json()
    channels = AssessedLoader(TensorDataset(images), 4, shuffle=False, feature_axis="channel")
    assert channels.plan.to_json() == assess(images.numpy(), batch_size=4, feature_axis="channel").to_json()


@WORKERS
def test_for_loop_yields_what_a_dataloader_yields(num_workers: int) -> None:
    plain = list(DataLoader(DATASET, 8))
    ours = list(AssessedLoader(DATASET, 8, shuffle=False, num_workers=num_workers))
    assert len(plain) == len(ours)
    for a, b in zip(plain, ours, strict=True):
        assert type(a) is type(b) is list
        assert all(torch.equal(s, t) and s.dtype == t.dtype for s, t in zip(a, b, strict=True))


def epoch(loader: AssessedLoader) -> list[int]:
    return [decision.index for _, decision in loader.decisions()]


def test_epochs_advance_and_can_be_set() -> None:
    loader = AssessedLoader(DATASET, 8)
    first, second, third = (epoch(loader) for _ in range(3))
    assert len({tuple(first), tuple(second), tuple(third)}) == 3
    loader.set_epoch(1)
    assert epoch(loader) == second
    assert epoch(loader) == third
    assert loader.epoch == 3


def test_orders_depend_on_seed_and_epoch_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = [epoch(AssessedLoader(DATASET, 8, seed=4, num_workers=w)) for w in (0, 2)]
    torch.manual_seed(2)
    second = AssessedLoader(DATASET, 8, seed=4)
    assert first[0] == first[1] == epoch(second)
    assert epoch(AssessedLoader(DATASET, 8, seed=5)) != first[0]


def test_assessing_leaves_the_global_generators_alone() -> None:
    class Noisy(Pairs):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            torch.rand(1), random.random(), np.random.random()
            return super().__getitem__(index)

    states: Any = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert AssessedLoader(Noisy(X, Y), 8).plan
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    after: Any = np.random.get_state()
    np.testing.assert_array_equal(after[1], states[2][1])


def test_same_order_every_epoch() -> None:
    loader = AssessedLoader(DATASET, 8, reshuffle=False)
    first = epoch(loader)
    assert first != sorted(first)
    assert epoch(loader) == first


@WORKERS
def test_new_batches_are_scored_in_the_workers(num_workers: int) -> None:
    loader = AssessedLoader(DATASET, 8, reshuffle="samples", num_workers=num_workers)
    previous = None
    for _ in range(2):
        rows = []
        for (x, _), decision in loader.decisions():
            alone = assess_with(loader.plan, x.numpy())
            assert (decision.normalize, decision.score) == pytest.approx(alone, rel=1e-6)
            rows += [tuple(row) for row in x.numpy().tolist()]
        assert sorted(rows) == sorted(tuple(row) for row in X.tolist())
        assert rows != previous
        previous = rows


def assess_with(plan: Plan, x: np.ndarray[Any, Any]) -> tuple[bool, float]:
    """The verdict of the gates' own reading of the rule."""
    rule = norms.rule_from_dict(plan.rule)
    return bool(rule(torch.from_numpy(x))), float(rule.score(torch.from_numpy(x)))


class Recorder(nn.Module):
    """Remembers for each batch what its gate had been told, and what was in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = norms.AdaptiveNorm("batch", num_features=X.shape[1])
        self.told: list[tuple[bool, Any]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.gate.decision, bool)
        self.told.append((self.gate.decision, x.numpy().copy()))
        out: torch.Tensor = self.gate(x)
        return out


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "prefetch_factor": 8}])
def test_the_model_is_told_about_the_batch_it_is_fed(options: dict[str, Any]) -> None:
    loader = AssessedLoader(DATASET, 8, shuffle="batches", **options)
    model = Recorder()
    loader.attach(model)
    assert model.gate.rule.measure == "standard_divergence"
    for _ in range(2):
        for x, _y in loader:
            model(x)
    assert 0 < loader.plan.flagged_fraction < 1
    assert len(model.told) == 24
    for normalize, x in model.told:
        index = int(np.flatnonzero((x[0] == X).all(axis=1))[0]) // 8
        assert normalize == loader.plan[index].normalize


def test_plain_dataloader_carries_decisions() -> None:
    loader = AssessedLoader(DATASET, 8, shuffle="batches", num_workers=2)
    assert isinstance(loader.dataloader, DataLoader)
    assert len(loader.dataloader) == len(loader) == 12
    epochs = []
    for _ in range(2):
        indices = []
        for item in loader.dataloader:
            assert isinstance(item, AssessedBatch)
            (x, _), decision = item
            np.testing.assert_array_equal(x.numpy(), X[decision.index * 8 : decision.index * 8 + 8])
            indices.append(decision.index)
        epochs.append(indices)
    assert epochs[0] != epochs[1]
    assert epochs == [epoch(AssessedLoader(DATASET, 8, shuffle="batches")), epochs[1]]


def test_interleaved_iterators_are_epochs_of_their_own() -> None:
    alone = AssessedLoader(DATASET, 8)
    first, second = epoch(alone), epoch(alone)
    both = AssessedLoader(DATASET, 8)
    a, b = both.decisions(), both.decisions()
    pairs = [(y.decision.index, x.decision.index) for y, x in zip(b, a, strict=True)]
    assert [index for index, _ in pairs] == second
    assert [index for _, index in pairs] == first


def test_a_given_plan_says_which_samples_form_a_batch() -> None:
    order = SampleOrder.shuffled(11)
    plan = AssessedLoader(DATASET, 8, seed=11).plan
    assert plan.order == order
    for shuffle in (True, False, "batches"):
        loader = AssessedLoader(DATASET, 8, plan=plan, shuffle=shuffle, seed=3)
        assert loader.plan is plan
        indices = []
        for (x, _), decision in loader.decisions():
            np.testing.assert_array_equal(x.numpy(), X[order.ids(90)[decision.index * 8 :][:8]])
            indices.append(decision.index)
        assert (indices == sorted(indices)) == (shuffle is False)


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_whole_batches(world_size: int, shuffle: bool) -> None:
    loaders = [AssessedLoader(DATASET, 8, rank=r, world_size=world_size, shuffle=shuffle) for r in range(world_size)]
    for _ in range(2):
        shares = [epoch(loader) for loader in loaders]
        assert {len(share) for share in shares} == {12 // world_size} == {len(loaders[0])}
        dealt = [index for share in shares for index in share]
        assert len(dealt) == len(set(dealt))
    whole = AssessedLoader(DATASET, 8, shuffle=shuffle)
    whole.set_epoch(1)
    assert shares[0] == epoch(whole)[0 : 12 // world_size * world_size : world_size]


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert AssessedLoader(DATASET, 8).plan
    assert capsys.readouterr().err == ""  # no terminal here
    assert AssessedLoader(DATASET, 8, progress=True).plan
    shown = capsys.readouterr().err
    assert "assessing: 100%" in shown
    assert "90/90" in shown


def test_repr_and_attributes() -> None:
    loader = AssessedLoader(DATASET, 8, drop_last=True)
    assert repr(loader) == "AssessedLoader(Pairs of 90, batch_size=8, 11 batches)"
    assert (loader.dataset, loader.batch_size, loader.drop_last, loader.epoch) == (DATASET, 8, True, 0)
    assert loader.decision is None


@pytest.mark.parametrize("as_text", [True, False])
def test_a_plan_by_its_path(as_text: bool, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assess(X, batch_size=8).save(path)
    loader = AssessedLoader(DATASET, plan=str(path) if as_text else path)
    assert (loader.batch_size, loader.plan.to_json()) == (8, path.read_text())


def test_what_is_not_given_is_as_the_plan_has_it() -> None:
    plan = assess(X, batch_size=8, drop_last=True)
    loader = AssessedLoader(DATASET, plan=plan)
    assert (loader.batch_size, loader.drop_last) == (8, True)
    assert sum(1 for _ in loader) == len(plan)
    assert AssessedLoader(DATASET).batch_size == 32
    counted: Any = np.int64(8)
    assert AssessedLoader(DATASET, counted).batch_size == 8
