"""DataLoader's own arguments keep their meaning; what cannot work says so."""

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset, TensorDataset, get_worker_info

import norms
from assessor import (
    NonFiniteError,
    SettingError,
    UnknownNameError,
    assess,
    make_plan,
    measures,
    profile_array,
)
from clients import (
    AssessedBatch,
    AssessedLoader,
    AsyncAssessorClient,
    DatasetError,
    LoaderError,
    RandomSampleWarning,
    SampleError,
)

from .datasets import Items, Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)


@dataclass
class Custom:
    """A batch type of the user's own."""

    rows: torch.Tensor

    def pin_memory(self) -> "Custom":
        return Custom(-self.rows)

    def to(self, device: Any) -> "Custom":
        return Custom(self.rows.to(device))


def to_custom(samples: list[Any]) -> Custom:
    return Custom(torch.stack([x for x, _ in samples]))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_collate_fn(num_workers: int) -> None:
    loader = AssessedLoader(DATASET, 8, shuffle=False, collate_fn=to_custom, num_workers=num_workers)
    batches = list(loader)
    assert all(isinstance(batch, Custom) for batch in batches)
    np.testing.assert_array_equal(torch.cat([batch.rows for batch in batches]).numpy(), X)


class Workers(Dataset[torch.Tensor]):
    """Samples that tell what worker_init_fn did."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([self.offset, float(index)])


def shift_dataset(worker_id: int) -> None:
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, Workers)  # the user's own, not a wrapper
    info.dataset.offset = 100.0 + worker_id


@pytest.mark.parametrize(("context", "num_workers"), [("fork", 2), ("spawn", 1)])  # a spawned one imports torch
def test_worker_init_fn_sees_the_users_dataset(context: str, num_workers: int) -> None:
    loader = AssessedLoader(
        Workers(),
        4,
        shuffle=False,
        num_workers=num_workers,
        worker_init_fn=shift_dataset,
        multiprocessing_context=multiprocessing.get_context(context) if context == "spawn" else context,
    )
    seen = torch.cat(list(loader))
    assert set(seen[:, 0].tolist()) == {100.0 + worker for worker in range(num_workers)}
    assert seen[:, 1].tolist() == list(range(24))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_persistent_workers_timeout_and_generator(num_workers: int) -> None:
    more: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 3, "timeout": 60} if num_workers else {}
    loader = AssessedLoader(DATASET, 8, num_workers=num_workers, generator=torch.Generator(), **more)
    plain = AssessedLoader(DATASET, 8)
    for _ in range(3):
        ours = [(x, d) for (x, _), d in loader.decisions()]
        theirs = [(x, d) for (x, _), d in plain.decisions()]
        assert len(ours) == len(theirs) == 12
        assert all(torch.equal(a, b) and d == e for (a, d), (b, e) in zip(ours, theirs, strict=True))


class Slow(Pairs):
    """The first sample comes when it is let go, so that its batch comes late."""

    def __init__(self, x: Any, y: Any) -> None:
        super().__init__(x, y)
        self.go = torch.multiprocessing.get_context().Event()

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 0 and get_worker_info() is not None:
            self.go.wait(60)
        return super().__getitem__(index)


def test_out_of_order_batches_keep_their_decisions() -> None:
    dataset = Slow(X, Y)
    dataset.go.set()
    loader = AssessedLoader(dataset, 8, shuffle=False, num_workers=2, in_order=False)
    assert len(loader.plan) == 12
    dataset.go.clear()
    indices = []
    for (x, _), decision in loader.decisions():
        np.testing.assert_array_equal(x.numpy(), X[decision.index * 8 : decision.index * 8 + 8])
        indices.append(decision.index)
        dataset.go.set()
    assert sorted(indices) == list(range(12))
    assert indices[0] != 0


class Many(Pairs):
    """A dataset that reads several samples at once."""

    def __getitems__(self, ids: list[int]) -> list[tuple[torch.Tensor, int]]:
        assert type(ids) is list
        return [self[i] for i in ids]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index], int(self.y[index])


def test_samples_read_together() -> None:
    batches = list(AssessedLoader(Many(X, Y), 8, shuffle=False))
    np.testing.assert_array_equal(torch.cat([x for x, _ in batches]).numpy(), X)


def test_too_few_samples_read_together() -> None:
    class Fewer(Pairs):
        def __getitems__(self, ids: list[int]) -> list[tuple[torch.Tensor, int]]:
            return [self[i] for i in ids[:8]]

    with pytest.raises(SampleError, match="expected 90 samples of the dataset's __getitems__, one an id; got 8"):
        assert AssessedLoader(Fewer(X, Y), 8).plan


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda row, y: row, {}),
        (lambda row, y: row.numpy(), {}),
        (lambda row, y: (row, y), {}),
        (lambda row, y: (y, row), {"input_key": 1, "label_key": 0}),
        (lambda row, y: {"a": row, "b": y}, {"input_key": "a", "label_key": "b"}),
        (lambda row, y: ({"a": row}, y), {"input_key": lambda s: s[0]["a"]}),
        (lambda row, y: (row.bfloat16(), float(y)), {}),
    ],
)
def test_samples_of_every_kind(make: Any, options: dict[str, Any]) -> None:
    items = [make(torch.from_numpy(row), int(y)) for row, y in zip(X, Y, strict=True)]
    loader = AssessedLoader(Items(items), 8, shuffle=False, **options)
    exact = torch.from_numpy(X).bfloat16().float().numpy() if "bfloat16" in str(items[0]) else X
    np.testing.assert_array_equal(loader.plan.scores, assess(exact, batch_size=8).scores)
    assert len(list(loader)) == 12


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float64", "bool"])
def test_dtypes(dtype: str) -> None:
    x = (np.abs(X) > 1).astype(dtype) if dtype == "bool" else (X * 5).clip(0, 200).astype(dtype)
    loader = AssessedLoader(TensorDataset(torch.from_numpy(x)), 8, shuffle=False)
    np.testing.assert_array_equal(loader.plan.scores, assess(x.astype(np.float64), batch_size=8).scores)


class Augmented(Pairs):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index] + torch.randn(1), 0


def test_random_samples_are_warned_about() -> None:
    with pytest.warns(RandomSampleWarning, match="two reads of sample 0 differ.*input_key") as caught:
        assert AssessedLoader(Augmented(X, Y), 8, shuffle=False).plan
    assert caught[0].filename == __file__  # where the caller is, not where it was found out


def test_nan_is_no_augmentation() -> None:
    x = torch.randn(20, 3)
    x[0, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 0 of the dataset"):
        assert AssessedLoader(TensorDataset(x), 4, shuffle=False).plan


class Endless(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return index


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "__len__ and __getitem__; got Endless"),
        (Items([]), "expected at least one sample; Items is empty"),
    ],
)
def test_datasets_that_cannot_be_assessed(dataset: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        AssessedLoader(dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size to be an integer >= 1; got 0"),
        ({"batch_size": "8"}, "got '8'"),
        ({"shuffle": "samples"}, r"expected shuffle among \(True, False, 'batches'\); got 'samples'"),
        ({"shuffle": 1}, "got 1"),
        ({"reshuffle": True}, "expected reshuffle among"),
        ({"on_mismatch": "ignore"}, "expected on_mismatch among"),
        ({"reshuffle": "samples", "shuffle": False}, "expected shuffle=True with reshuffle='samples'"),
        ({"reshuffle": "samples", "shuffle": "batches"}, "got shuffle='batches'"),
        ({"standardize_input": True, "input_key": lambda s: s[0]}, "a function reads the input"),
        ({"rank": 1}, "expected rank and world_size together"),
        ({"rank": 2, "world_size": 2}, "0 <= rank < world_size; got rank=2"),
        ({"rank": "0", "world_size": 2}, "expected rank and world_size together"),
        ({"seed": "a"}, "expected seed to be an integer; got 'a'"),
        ({"input_key": 1.5}, "expected input_key to be an item's number or name"),
        ({"label_key": []}, "expected label_key to be"),
        ({"plan": 5}, "expected a Plan, or the path of one that was saved"),
        ({"service": 5}, "expected service to be the URL of a normgauge service or an AssessorClient; got int"),
        ({"service": AsyncAssessorClient("http://127.0.0.1:9")}, "or an AssessorClient; got AsyncAssessorClient"),
        ({"service": "127.0.0.1:9"}, "service: expected the service's URL"),
        ({"score_dataset": Pairs(X[:80], Y)}, "the dataset's 90 samples as they are scored; it has 80"),
        ({"score_dataset": 5}, "expected a dataset with __len__ and __getitem__; got int"),
        ({"dataloader_class": "DataLoader"}, "expected dataloader_class to be torch's DataLoader"),
        ({"colour": "red"}, "expected arguments that DataLoader takes; got colour='red': .*unexpected keyword"),
        ({"num_workers": -1}, "got num_workers=-1: .*non-negative"),
        ({"prefetch_factor": 2}, "got prefetch_factor=2: .*num_workers"),
        ({"nonfinite": "drop"}, "expected nonfinite among"),
        ({"method_options": "exact"}, "expected method_options to be a dict"),
        ({"reference": X}, "expected reference to be a Profile, for assessing in this process; got ndarray"),
        ({"collate_fn": 5}, "expected collate_fn to be a function; got int"),
        ({"num_workers": 2.0}, "expected num_workers to be an integer; got 2.0"),
        ({"generator": 5}, "expected generator to be a torch.Generator; got int"),
        ({"cache": True}, "expected cache to be a folder, False or None; got True"),
        ({"agree": "yes"}, "expected agree among"),
        ({"progress": "bar"}, "expected progress among"),
        ({"drop_last": "no"}, "expected drop_last to be True or False; got 'no'"),
        ({"input_key": True}, "expected input_key to be an item's number or name"),
        ({"method_options": {1: 2}}, "expected method_options to be a dict.* got dict {1: 2}"),
        ({"rank": True, "world_size": 2}, "expected rank and world_size together, integers"),
        ({"batch_sampler": [5]}, "expected a batch_sampler of lists of indices; it yields 5"),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], message: str) -> None:
    """All are told where the loader is made, not when it is used."""
    with pytest.raises(LoaderError, match=message):
        AssessedLoader(DATASET, **options)


def test_unknown_methods_are_told_before_the_pass() -> None:
    class Unread(Pairs):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            raise AssertionError("read")

    with pytest.raises(UnknownNameError, match="need"):
        assert AssessedLoader(Unread(X, Y), 8, method="best").plan
    for options, message in (
        ({"threshold": "best()"}, "expected a threshold among"),
        ({"threshold": float("nan")}, "expected a finite cutoff"),
        ({"method_options": {"exact": True}}, "options of method 'need' among: network; got exact"),
        ({"method_options": {"network": "best"}}, "network"),
    ):
        with pytest.raises(SettingError, match=message):
            assert AssessedLoader(Unread(X, Y), 8, **options).plan


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_samples_are_named(num_workers: int) -> None:
    ragged = Items([(torch.zeros(3 + (i == 20)) + i, 0) for i in range(30)])
    with pytest.raises(SampleError, match=r"sample 20 has Tensor \(4,\)"):
        assert AssessedLoader(ragged, 4, shuffle=False, num_workers=num_workers).plan
    unlabelled = Items([(torch.zeros(3) + i, 0 if i < 20 else "b") for i in range(30)])
    with pytest.raises(SampleError, match=r"an integer label in every sample.* sample 20"):
        assert AssessedLoader(unlabelled, 4, shuffle=False, num_workers=num_workers).plan


def test_non_finite_samples() -> None:
    x = torch.randn(20, 3)
    x[13, 1] = torch.nan
    for shuffle in (True, False):
        with pytest.raises(NonFiniteError, match="sample 13 of the dataset holds NaN"):
            assert AssessedLoader(TensorDataset(x), 4, shuffle=shuffle).plan
    clean = AssessedLoader(TensorDataset(torch.randn(20, 3)), 4).plan
    with pytest.raises(NonFiniteError, match="sample 13 of the dataset"):
        list(AssessedLoader(TensorDataset(x), 4, plan=clean, reshuffle="samples"))
    for nonfinite in ("exclude", "normalize"):
        loader = AssessedLoader(TensorDataset(x), 4, reshuffle="samples", nonfinite=nonfinite)
        (found,) = [decision for (rows,), decision in loader.decisions() if not rows.isfinite().all()]
        assert "1 of its samples hold values that are not finite" in found.reason
        assert found.normalize == (nonfinite == "normalize") or found.score > found.cutoff


@pytest.mark.parametrize("reshuffle", ["batches", "samples"])
@pytest.mark.parametrize("measure", measures.names())
def test_measures_by_name(measure: str, reshuffle: Any) -> None:
    reference = profile_array(X[:40], batch_sizes=[8]) if measure == "population_divergence" else None
    loader = AssessedLoader(
        DATASET, 8, method=measure, threshold="quantile(0.6)", reshuffle=reshuffle, reference=reference
    )
    profile = profile_array(
        X[loader.plan.order.ids(len(X))],
        labels=Y[loader.plan.order.ids(len(X))],
        batch_sizes=[8],
        reference=reference,
    )
    plan = make_plan(profile, method=measure, threshold="quantile(0.6)", order=loader.plan.order)
    assert loader.plan.to_json() == plan.to_json()
    for _, decision in loader.decisions():
        assert decision.normalize == (decision.score > decision.cutoff)
        assert ("by the rule" in decision.reason) == (reshuffle == "samples")


def test_a_measure_needs_a_threshold_and_some_a_reference() -> None:
    with pytest.raises(SettingError, match="expected a threshold for the measure 'bartlett'"):
        assert AssessedLoader(DATASET, 8, method="bartlett").plan
    with pytest.raises(SettingError, match="expected a profile made with a reference"):
        assert AssessedLoader(DATASET, 8, method="population_divergence", threshold=1).plan


def test_a_replaced_sampler_is_noticed() -> None:
    loader = AssessedLoader(DATASET, 8)
    other = torch.utils.data.DataLoader(
        loader.dataloader.dataset, batch_sampler=[[1, 2]], collate_fn=loader.dataloader.collate_fn
    )
    with pytest.raises(LoaderError, match=r"Something replaced the sampler of loader\.dataloader"):
        list(other)


def test_a_batch_moves_and_pins_with_its_decision() -> None:
    decision = AssessedLoader(DATASET, 8).plan[0]
    nested: dict[str, Any] = {"a": [torch.ones(2), "text"], "b": (torch.zeros(1), 3)}
    moved = AssessedBatch(nested, decision).to("meta", non_blocking=True)
    assert moved.batch["a"][0].device.type == "meta"
    assert moved.batch["b"][0].device.type == "meta"
    assert moved.batch["a"][1] == "text"
    assert moved.decision is decision
    assert AssessedBatch(Custom(torch.ones(2)), decision).pin_memory().batch.rows.tolist() == [-1, -1]


def test_numbers_of_numpy_are_numbers() -> None:
    numbers: dict[str, Any] = {"batch_size": np.int64(8), "seed": np.uint64(3), "rank": np.int64(1)}
    ours = AssessedLoader(DATASET, **numbers, world_size=2)
    plain = AssessedLoader(DATASET, 8, seed=3, rank=1, world_size=2)
    assert [d for _, d in ours.decisions()] == [d for _, d in plain.decisions()]


@pytest.mark.parametrize("made", [False, True])
def test_a_loader_passes_between_processes(made: bool) -> None:
    """Its position and plan with it; models that follow it stay."""
    loader = AssessedLoader(DATASET, 8, seed=3)
    expected = [d for _, d in AssessedLoader(DATASET, 8, seed=3).decisions()]
    if made:
        model = norms.adapt_input(torch.nn.Linear(X.shape[1], 2), X.shape[1])
        loader.attach(model)
        batches = iter(loader)
        next(batches)
    sent = pickle.loads(pickle.dumps(loader))
    copied = copy.deepcopy(loader)
    loader.set_epoch(0)
    for other in (sent, copied, loader):
        other.set_epoch(0)
        assert [d for _, d in other.decisions()] == expected
    if made:
        (gate,) = norms.gates(model)
        for _, decision in loader.decisions():
            next(iter(copied))
            assert gate.decision == decision.normalize


def test_arguments_are_attributes_as_in_torch() -> None:
    options: dict[str, Any] = {
        "num_workers": 2,
        "prefetch_factor": 3,
        "persistent_workers": True,
        "collate_fn": to_custom,
    }
    plain: Any = DataLoader(DATASET, 8, **options)
    ours: Any = AssessedLoader(DATASET, 8, **options)
    names = ["dataset", "batch_size", "drop_last", *options, "pin_memory", "timeout", "worker_init_fn", "generator"]
    for name in (*names, "multiprocessing_context", "pin_memory_device", "in_order"):
        assert getattr(ours, name) == getattr(plain, name), name
    with pytest.raises(AttributeError, match="'AssessedLoader' object has no attribute 'colour'"):
        _ = ours.colour


def test_what_is_no_model_and_no_decision() -> None:
    loader = AssessedLoader(DATASET, 8)
    call: Any
    for call in (loader.attach, loader.apply):
        with pytest.raises(
            LoaderError, match=r"expected (a torch\.nn\.Module|the decision of a batch).*; got NoneType"
        ):
            call(None)


def test_fewer_batches_than_ranks() -> None:
    """Each rank would get none and train on nothing."""
    loader = AssessedLoader(DATASET, 45, rank=0, world_size=3)
    with pytest.raises(LoaderError, match="expected at least one batch a rank, 3 in all; epoch 0 has 2"):
        iter(loader)
    with pytest.raises(LoaderError, match="at least one batch a rank"):
        list(loader.dataloader)


def test_epochs_that_cannot_be() -> None:
    for epoch in (-1, "1", 0.5, True, 2**63):
        with pytest.raises(LoaderError, match="expected epoch to be an integer >= 0"):
            AssessedLoader(DATASET, 8).set_epoch(epoch)  # type: ignore[arg-type]  # what must be refused
    loader = AssessedLoader(DATASET, 8)
    loader.set_epoch(np.int64(3))  # type: ignore[arg-type]  # an integer all the same
    assert loader.epoch == 3


@pytest.mark.parametrize(
    "widen", [lambda x: x.astype(">f4"), lambda x: torch.from_numpy(x).to(torch.float8_e5m2)], ids=["swapped", "float8"]
)
def test_samples_that_numpy_or_torch_hold_otherwise(widen: Any) -> None:
    whole = np.round(X * 4).astype(np.float32).clip(-4, 4)  # float8 holds these
    rows = widen(whole)
    got = AssessedLoader(Items([(rows[i],) for i in range(len(X))]), 8, shuffle=False).plan
    np.testing.assert_array_equal(got.scores, assess(whole, batch_size=8).scores)


def test_sparse_samples_are_refused() -> None:
    with pytest.raises(SampleError, match=r"expected a dense tensor to score.*to_dense"):
        assert AssessedLoader(Items([(torch.eye(3).to_sparse(),)] * 9), 4).plan
