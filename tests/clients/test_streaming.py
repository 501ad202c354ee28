"""Iterable datasets: each batch is scored as it is read."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import norms
from assessor import NonFiniteError, assess, profile_array
from clients import AssessedLoader, DatasetError, LoaderError, SampleError

from .datasets import Pairs, two_sources
from .recording import Recorder

X, Y = two_sources()
PLAN = assess(X, batch_size=8, threshold=0.4)


class Stream(IterableDataset[Any]):
    """Shares itself among workers by blocks, as torch's documentation advises."""

    def __init__(self, x: Any = X) -> None:
        self.x = torch.from_numpy(x)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            assert isinstance(info.dataset, Stream)  # the user's own, not a wrapper
        for row in range(start, len(self.x), step):
            yield self.x[row], row + 1000 * self.epoch


class Sized(Stream):
    def __len__(self) -> int:
        return len(self.x)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_what_torch_yields_with_the_plans_own_decisions(num_workers: int, drop_last: bool) -> None:
    arguments: dict[str, Any] = {"num_workers": num_workers, "drop_last": drop_last}
    loader = AssessedLoader(Stream(), 8, plan=PLAN, **arguments)
    rule = norms.rule_from_dict(PLAN.rule)
    plain = DataLoader(Stream(), 8, **arguments)
    for number, (ours, theirs) in enumerate(zip(loader.decisions(), plain, strict=True)):
        assert torch.equal(ours.batch[0], theirs[0])
        assert ours.decision.index == number
        assert ours.decision.normalize == bool(rule(theirs[0]))
        if num_workers == 0:
            assert ours.decision.score == pytest.approx(PLAN[number].score)
    assert loader.plan is PLAN


@pytest.mark.parametrize(
    ("method", "cutoff", "options"),
    [
        ("need", 0.4, {}),
        ("gaussian", 0.2, {}),
        ("scale_dispersion", 0.6, {}),
        ("location_share", 0.3, {}),
        ("location_share", 0.05, {"method_options": {"corrected": True}}),
        ("bartlett", 20, {}),
        ("population_divergence", 5.0, {"reference": profile_array(X[:45], batch_sizes=[8])}),
    ],
)
def test_a_cutoff_is_enough(method: str, cutoff: float, options: dict[str, Any]) -> None:
    loader = AssessedLoader(Stream(), 8, method=method, threshold=cutoff, **options)
    model = norms.adapt_input(torch.nn.Identity(), X.shape[1])
    loader.attach(model)
    (gate,) = norms.gates(model)
    verdicts = set()
    for (x, _), decision in loader.decisions():
        score = float(gate.rule.score(x))  # torch's reading of the same rule
        assert decision.score == pytest.approx(score, rel=1e-4)
        assert decision.normalize == (score > cutoff)
        verdicts.add(decision.normalize)
    assert verdicts == {True, False}
    with pytest.raises(LoaderError, match="expected a plan; an iterable dataset has none of its own"):
        assert loader.plan


def test_a_feature_that_is_constant_in_a_batch_is_left_out() -> None:
    x = X[:8].copy()
    x[:, 2] = 3.0
    (_, decision) = next(AssessedLoader(Stream(x), 8, threshold=0.4).decisions())
    other = next(AssessedLoader(Stream(np.delete(x, 2, axis=1)), 8, threshold=0.4).decisions()).decision
    assert decision.score == pytest.approx(other.score)
    flat = next(AssessedLoader(Stream(np.ones_like(x)), 8, threshold=0.4).decisions()).decision
    assert np.isnan(flat.score)
    assert not flat.normalize


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_model_is_told_about_its_batch(num_workers: int) -> None:
    loader = AssessedLoader(Stream(), 8, plan=PLAN, num_workers=num_workers)
    model = Recorder(X.shape[1])
    loader.attach(model)
    for x, _ in loader:
        model(x)
    rule = norms.rule_from_dict(PLAN.rule)
    assert len(model.told) == 12
    assert all(told == bool(rule(torch.from_numpy(x))) for told, x in model.told)


@pytest.mark.parametrize("nonfinite", ["exclude", "normalize"])
def test_samples_that_are_not_finite_count_as_in_a_plan(nonfinite: str) -> None:
    x = X.copy()
    x[3, 1], x[50], x[17:24] = np.nan, np.inf, np.nan  # of batch 2 one sample is left
    plan = assess(x, batch_size=8, threshold=0.4, nonfinite=nonfinite)
    for (rows, _), decision in AssessedLoader(Stream(x), 8, plan=plan, nonfinite=nonfinite).decisions():
        planned = plan[decision.index]
        assert decision.normalize == planned.normalize
        assert decision.score == pytest.approx(planned.score, nan_ok=True)
        bad = int((~rows.isfinite()).any(dim=1).sum())
        assert (f"{bad} of its samples hold values that are not finite" in decision.reason) == (bad > 0)
    assert np.isnan(plan[2].score) == (nonfinite == "exclude")


def test_epochs_and_lengths() -> None:
    loader = AssessedLoader(Sized(), 8, threshold=0.4)
    assert len(loader) == 12
    assert repr(loader) == "AssessedLoader(Sized of 90, batch_size=8, 12 batches)"
    loader.set_epoch(2)
    assert int(next(iter(loader))[1][0]) == 2000
    unsized = AssessedLoader(Stream(), 8, threshold=0.4)
    assert repr(unsized) == "AssessedLoader(Stream, batch_size=8)"
    with pytest.raises(TypeError):
        len(unsized)


def test_standardized_in_the_stream() -> None:
    loader = AssessedLoader(Stream(), 8, plan=PLAN, standardize_input=True)
    for (x, _), decision in loader.decisions():
        if decision.normalize:
            torch.testing.assert_close(x.mean(0), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, LoaderError, "expected plan=, or threshold= as a number.*got threshold=None"),
        ({"threshold": "fixed(1)"}, LoaderError, r"got threshold='fixed\(1\)'"),
        (
            {"threshold": 1.2, "method": "published"},
            LoaderError,
            "expected method among need, gaussian, scale_disp.*got",
        ),
        ({"threshold": 1.2, "method": "heterogeneity"}, LoaderError, "'heterogeneity', which needs more of the data"),
        ({"threshold": 1.2, "method": "population_divergence"}, LoaderError, "which needs more of the data"),
        ({"threshold": 1.2, "method_options": {"corrected": True}}, LoaderError, "expected no option 'corrected'"),
        ({"threshold": float("nan")}, LoaderError, "expected a finite number as threshold"),
        ({"threshold": 1.2, "nonfinite": "drop"}, LoaderError, "expected nonfinite among"),
        ({"plan": PLAN, "shuffle": True}, DatasetError, "expected no shuffle with an iterable dataset"),
        ({"plan": PLAN, "sampler": [1]}, DatasetError, "expected no sampler"),
        ({"plan": PLAN, "rank": 0, "world_size": 2}, DatasetError, "expected no .* with an iterable dataset"),
        ({"plan": PLAN, "service": "http://a.test"}, DatasetError, "expected no service"),
        ({"plan": PLAN, "score_dataset": Pairs(X, Y)}, DatasetError, "expected no score_dataset"),
    ],
)
def test_what_a_stream_cannot_have(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AssessedLoader(Stream(), 8, **options)


def test_a_stream_has_no_position() -> None:
    loader = AssessedLoader(Stream(), 8, threshold=0.4)
    for use in (loader.state_dict, lambda: loader.load_state_dict({})):
        with pytest.raises(LoaderError, match="save the dataset's own, or give dataloader_class="):
            use()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_samples(num_workers: int) -> None:
    x = X.copy()
    x[20, 1] = np.nan
    with pytest.raises(NonFiniteError, match="in a batch of a stream, whose samples are numbered from 0"):
        list(AssessedLoader(Stream(x), 8, threshold=0.4, num_workers=num_workers))
    with pytest.raises(SampleError, match="in a batch of a stream"):
        list(AssessedLoader(Stream(), 8, threshold=0.4, input_key="image", num_workers=num_workers))
