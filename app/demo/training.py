"""Small networks trained on the digits: the plan against the norms it competes with.

Every arm sees the very same batches from the same AssessedLoader in the same order; only the plan's arm is told the
decisions. Learning rate and steps are the same for all arms and tuned for none.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from tqdm import tqdm

from app.demo.variants import Array, alternate, digits, scales, standardize
from clients import AssessedLoader, AssessorClient
from norms import adapt_input, create

ARMS = {
    "plan": "gate at the input, under the plan",
    "advice": "plan's recommendation",
    "batch": "batch norm everywhere",
    "batch_layer": "BLN everywhere",
    "layer": "layer norm everywhere",
    "none": "no normalization",
}
BATCH_SIZES = (4, 32)
SOURCES = ("one source", "two sources")
HIDDEN = 64
LEARNING_RATE = 0.05
EPOCHS = {4: 4, 32: 16}
"""Batches of 32 make an eighth of the steps of an epoch; four times the epochs leaves them half the steps."""
N_TRAIN = 1440


@dataclass(frozen=True)
class Cell:
    """One setting: sources, batch size, arm, seed."""

    sources: str
    batch_size: int
    arm: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a run gave: test accuracy over all sources (0 to 1), seconds an epoch, share of normalized batches."""

    cell: Cell
    accuracy: float
    epoch_s: float
    normalized: float


@dataclass(frozen=True, eq=False)
class Data:
    """Training rows, and the test rows as each source would deliver them."""

    x: Array
    y: Tensor
    tests: tuple[Array, ...]
    test_y: Tensor


def make_data(sources: str, seed: int) -> Data:
    """Return raw digits, or standardized ones of which every other run comes from a source with spread scales."""
    x, y = digits()
    train, test = x[:N_TRAIN], x[N_TRAIN:]
    labels, test_labels = torch.from_numpy(y[:N_TRAIN]), torch.from_numpy(y[N_TRAIN:])
    if sources == "one source":
        return Data(train, labels, (test,), test_labels)
    first, first_test = standardize(train), standardize(test, train)
    spread = scales(100 + seed)
    mixed = np.where(alternate(N_TRAIN)[:, None, None], first * spread, first)
    return Data(mixed, labels, (first_test, first_test * spread), test_labels)


def cells(seeds: int) -> list[Cell]:
    """Return all settings, arms innermost."""
    return [
        Cell(sources, size, arm, seed)
        for sources in SOURCES
        for size in BATCH_SIZES
        for seed in range(seeds)
        for arm in ARMS
    ]


def train_all(client: AssessorClient, seeds: int) -> Iterator[Outcome]:
    """Yield the outcome of every cell, with a progress bar."""
    torch.set_num_threads(1)
    for cell in tqdm(cells(seeds), desc="training", unit="run", disable=None):
        yield train(client, cell)


def train(client: AssessorClient, cell: Cell) -> Outcome:
    """Train and test one cell; the plan comes from the service."""
    data = make_data(cell.sources, cell.seed)
    loader = _loader(client, cell, data)
    arm = cell.arm
    if arm == "advice":
        action = loader.plan.action
        arm = "plan" if action == "normalize" else "none"
        if action in ("scale", "standardize"):
            data = _rescale(data, each_feature=action == "standardize")
            loader = _loader(client, cell, data)
    torch.manual_seed(cell.seed)
    model = make_model(arm)
    if arm == "plan":
        loader.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    plan = loader.plan
    start = time.perf_counter()
    for _ in range(EPOCHS[cell.batch_size]):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            optimizer.step()
    epoch_s = (time.perf_counter() - start) / EPOCHS[cell.batch_size]
    share = plan.flagged_fraction if arm == "plan" else 0.0 if arm == "none" else 1.0
    return Outcome(cell, test(model, data, cell.batch_size), epoch_s, share)


def _loader(client: AssessorClient, cell: Cell, data: Data) -> AssessedLoader:
    return AssessedLoader(
        TensorDataset(torch.from_numpy(data.x), data.y),
        cell.batch_size,
        service=client,
        # Batches of one source each: keep the rows together, shuffle the batches.
        shuffle=True if cell.sources == "one source" else "batches",
        seed=cell.seed,
        drop_last=True,
        progress=False,
    )


def _rescale(data: Data, *, each_feature: bool) -> Data:
    """Return the data shifted and scaled once, by the training rows' moments."""
    axes = 0 if each_feature else None
    mean, std = data.x.mean(axis=axes, dtype=np.float64), data.x.std(axis=axes, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)

    def rescaled(x: Array) -> Array:
        result: Array = ((x - mean) / std).astype(np.float32)
        return result

    return Data(rescaled(data.x), data.y, tuple(rescaled(x) for x in data.tests), data.test_y)


def make_model(arm: str) -> nn.Module:
    """Return a network of two hidden layers, with the arm's norms."""
    if arm == "plan":
        return adapt_input(_network("none"), (8, 8))
    return _network(arm)


def _network(norm: str) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        create(norm, 64),
        nn.Linear(64, HIDDEN),
        create(norm, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        create(norm, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, 10),
    )


@torch.no_grad()
def test(model: nn.Module, data: Data, batch_size: int) -> float:
    """Return the accuracy over all sources' test rows, in batches of one source and of the training size."""
    model.eval()
    right = total = 0
    for source in data.tests:
        for start in range(0, len(source), batch_size):
            y = data.test_y[start : start + batch_size]
            scores = model(torch.from_numpy(source[start : start + batch_size]))
            right += int((scores.argmax(1) == y).sum())
            total += len(y)
    return right / total
