"""The published rule's own treatment of a flagged batch, against NumPy."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from assessor import assess
from clients import AssessedLoader, LoaderError, standardize_input
from clients.standardize import standardize_in

from .datasets import Items, Pairs, two_sources

X, Y = two_sources()


def reference(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = x.astype(np.float64)
    return np.asarray((wide - wide.mean(axis=0)) / np.sqrt(wide.var(axis=0) + 2.22e-16))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float64", 1e-12), ("float32", 2e-6), ("float16", 2e-3), ("uint8", 2e-6), ("int64", 2e-6)],
)
def test_against_numpy(dtype: str, tolerance: float) -> None:
    x = (np.random.default_rng(0).normal(size=(16, 3, 4)) * 30 + 100).astype(dtype)
    got = standardize_input(torch.from_numpy(x))
    assert str(got.dtype) == f"torch.{dtype if dtype.startswith('float') else 'float32'}"
    np.testing.assert_allclose(got.numpy(), reference(x), atol=tolerance)


def test_constant_elements_and_a_batch_of_one_give_zeros() -> None:
    x = torch.full((6, 3), 0.1)
    x[:, 1] = torch.arange(6.0)
    got = standardize_input(x)
    assert torch.equal(got[:, [0, 2]], torch.zeros(6, 2))
    assert torch.equal(standardize_input(torch.randn(1, 4)), torch.zeros(1, 4))
    assert standardize_input(torch.randn(3, 4, device="meta")).device.type == "meta"


class Named(NamedTuple):
    x: torch.Tensor
    y: int


X8 = torch.from_numpy(X[:8])
DONE = standardize_input(X8)


@pytest.mark.parametrize(
    ("batch", "key", "place"),
    [
        ((X8, 1), None, 0),
        ([X8, 1], None, 0),
        ((1, X8), 1, 1),
        ({"a": X8, "b": 1}, "a", "a"),
        (Named(X8, 1), None, 0),
        (Named(X8, 1), "x", 0),
    ],
)
def test_batch_structures(batch: Any, key: Any, place: Any) -> None:
    got = standardize_in(batch, key)
    assert type(got) is type(batch)
    assert torch.equal(got[place], DONE)
    assert torch.equal(batch[place], X8)
    assert len(got) == len(batch)
    assert torch.equal(standardize_in(X8, None), DONE)


@pytest.mark.parametrize(
    ("batch", "key"), [("text", None), ((1, 2), None), ({"a": X8}, "b"), ((X8,), 3), (Named(X8, 1), "z"), (3, 0)]
)
def test_no_input_in_the_batch(batch: Any, key: Any) -> None:
    with pytest.raises(LoaderError, match="standardize_input=True: expected a tensor at"):
        standardize_in(batch, key)


def test_a_function_cannot_put_it_back() -> None:
    with pytest.raises(LoaderError, match="cannot put it back"):
        standardize_in((X8,), lambda s: s[0])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("reshuffle", "method"), [("batches", "published"), ("samples", "need")])
def test_loader_standardizes_flagged_batches_only(num_workers: int, reshuffle: Any, method: str) -> None:
    scores = AssessedLoader(Pairs(X, Y), 8, method=method).plan.scores
    loader = AssessedLoader(
        Pairs(X, Y),
        8,
        method=method,
        threshold=float(np.median(scores)),
        standardize_input=True,
        reshuffle=reshuffle,
        num_workers=num_workers,
    )
    same = AssessedLoader(Pairs(X, Y), 8, plan=loader.plan, reshuffle=reshuffle)
    verdicts = set()
    for ours, plain in zip(loader.decisions(), same.decisions(), strict=True):
        assert ours.decision == plain.decision
        want = reference(plain.batch[0].numpy()) if ours.decision.normalize else plain.batch[0].numpy()
        np.testing.assert_allclose(ours.batch[0].numpy(), want, atol=2e-5)
        assert torch.equal(ours.batch[1], plain.batch[1])
        verdicts.add(ours.decision.normalize)
    assert verdicts == {True, False}


def test_dictionary_samples() -> None:
    items = [{"row": torch.from_numpy(row), "id": i} for i, row in enumerate(X)]
    loader = AssessedLoader(Items(items), 8, shuffle=False, input_key="row", standardize_input=True)
    plan = assess(X, batch_size=8)
    for i, batch in enumerate(loader):
        want = reference(X[i * 8 : i * 8 + 8]) if plan[i].normalize else X[i * 8 : i * 8 + 8]
        np.testing.assert_allclose(batch["row"].numpy(), want, atol=2e-5)
        assert batch["id"].tolist() == list(range(i * 8, min(i * 8 + 8, 90)))


class Seen(torch.nn.Module):
    """Keeps what its forward gets."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        self.inputs.append(x)
        return x * scale


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_model_standardizes_where_it_runs(num_workers: int) -> None:
    """The batch is handed out as it is; the model sees it standardized, in training only."""
    loader = AssessedLoader(Pairs(X, Y), 8, standardize_input="model", shuffle="batches", num_workers=num_workers)
    model = Seen()
    loader.attach(model)
    verdicts = set()
    for (x, _), decision in loader.decisions():
        np.testing.assert_array_equal(x.numpy(), X[decision.index * 8 : decision.index * 8 + 8])
        model(x, scale=2.0)
        want = standardize_input(x) if decision.normalize else x
        assert torch.equal(model.inputs[-1], want)
        on_device = x.to("meta")
        assert model(on_device).device.type == "meta"  # computed where the model got it
        model.eval()
        model(x)
        assert model.inputs[-1] is x
        model.train()
        verdicts.add(decision.normalize)
    assert verdicts == {True, False}
    loader.detach(model)
    model(x)
    assert model.inputs[-1] is x


def test_attaching_twice_standardizes_once() -> None:
    loader = AssessedLoader(Pairs(X, Y), 8, standardize_input="model", threshold=-100.0)
    model = Seen()
    loader.attach(model)
    loader.attach(model)
    for x, _ in loader:
        model(x)
        torch.testing.assert_close(model.inputs[-1], standardize_input(x), rtol=0, atol=0)


def test_a_model_whose_input_is_no_tensor() -> None:
    loader = AssessedLoader(Pairs(X, Y), 8, standardize_input="model", threshold=-100.0)
    model = Seen()
    loader.attach(model)
    next(iter(loader))
    with pytest.raises(LoaderError, match="expected a tensor as the model's first positional argument; got dict"):
        model({"x": 1})
