"""What a rank holds beside a mapped plan: a few bytes a batch, in making the loader, in an epoch and in its state."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from assessor import SampleOrder, assess
from clients import AssessedLoader

SMALL, LARGE = 2_000_000, 4_000_000
B = 2


class Zeros(Dataset[torch.Tensor]):
    """Samples that are all alike, of any number."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(1)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    """Return files of plans, by number of batches and kind of order."""
    folder = tmp_path_factory.mktemp("plans")
    small = assess(np.random.default_rng(0).normal(size=(8, 2)), batch_size=B)
    files = {}
    for order in (SampleOrder.ROWS, SampleOrder.shuffled(3)):
        for n in (SMALL, LARGE):
            columns: dict[str, Any] = {"scores": np.zeros(n), "cutoffs": np.zeros(n), "normalize": np.zeros(n, bool)}
            file = files[n, order.kind] = folder / f"{order.kind}{n}.arrow"
            replace(small, measure="none", order=order, n_rows=B * n, details={}, **columns).save(file)
    return files


def held_and_peak(plan: Path, n: int, settings: dict[str, Any]) -> tuple[int, int]:
    """Return the bytes that a loader holds in an epoch, and those that it has held at most."""
    tracemalloc.start()
    try:
        loader = AssessedLoader(Zeros(B * n), plan=plan, **settings)
        next(iter(loader))
        loader.load_state_dict(loader.state_dict())
        iterator = iter(loader)
        next(iterator)
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("settings", "order", "bytes_a_batch"),
    [
        ({"shuffle": False}, "rows", 0),
        ({}, "rows", 4),
        ({"reshuffle": False}, "rows", 4),
        ({"shuffle": False}, "shuffled", 4 * B),
        ({}, "shuffled", 4 * B + 4),
        # half the batches are this rank's; those of a step are found in the order of all
        ({"rank": 1, "world_size": 2}, "rows", 2),
        ({"rank": 1, "world_size": 2, "agree": True}, "rows", 2 + 4),
    ],
)
def test_a_rank_holds_a_few_bytes_a_batch(
    plans: dict[tuple[int, str], Path], settings: dict[str, Any], order: str, bytes_a_batch: float
) -> None:
    measured = [held_and_peak(plans[n, order], n, settings) for n in (SMALL, LARGE)]
    held, peak = ((large - small) / (LARGE - SMALL) for small, large in zip(*measured, strict=True))
    assert held < bytes_a_batch + 0.1
    assert peak < bytes_a_batch + 4.1  # the order that the next pass begins with comes beside that of the last
