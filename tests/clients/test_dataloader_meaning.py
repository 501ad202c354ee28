"""Arguments of torch's DataLoader mean under AssessedLoader what they mean there: side by side."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from clients import AssessedLoader

from .datasets import Items, Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)


@dataclass
class Scan:
    """A sample of the user's own type."""

    image: torch.Tensor
    site: int


@dataclass
class Scans:
    """A batch of the user's own type, with its own way to be pinned."""

    images: torch.Tensor
    sites: list[int]
    pinned: bool = False

    def pin_memory(self) -> "Scans":
        return Scans(self.images, self.sites, pinned=True)


def collate_scans(samples: list[Scan]) -> Scans:
    return Scans(torch.stack([scan.image for scan in samples]), [scan.site for scan in samples])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_samples_and_batches_of_own_types(num_workers: int) -> None:
    items = Items([Scan(torch.from_numpy(row), i) for i, row in enumerate(X)])
    arguments: dict[str, Any] = {"collate_fn": collate_scans, "num_workers": num_workers}
    ours = AssessedLoader(items, 8, input_key="image", label_key="site", shuffle=False, **arguments)
    for mine, theirs in zip(ours, DataLoader(items, 8, **arguments), strict=True):
        assert isinstance(mine, Scans)
        assert mine.sites == theirs.sites
        assert torch.equal(mine.images, theirs.images)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_nested_dictionaries(num_workers: int) -> None:
    items = Items([{"in": {"x": torch.from_numpy(row)}, "name": f"s{i}"} for i, row in enumerate(X)])
    ours = AssessedLoader(items, 8, input_key=_inner, shuffle=False, num_workers=num_workers)
    for mine, theirs in zip(ours, DataLoader(items, 8), strict=True):
        assert mine["name"] == theirs["name"]
        assert torch.equal(mine["in"]["x"], theirs["in"]["x"])


def _inner(sample: Any) -> torch.Tensor:
    value: torch.Tensor = sample["in"]["x"]
    return value


class Noisy(Pairs):
    """Samples that hold what the worker's own generator draws, which DataLoader seeds from `generator`."""

    def __getitem__(self, index: int) -> Any:
        return self.x[index], torch.rand(())


@pytest.mark.parametrize("num_workers", [1, 2])
def test_generator_seeds_the_workers(num_workers: int) -> None:
    def epochs(make: Any) -> list[torch.Tensor]:
        loader = make(generator=torch.Generator().manual_seed(7), num_workers=num_workers)
        return [torch.cat([noise for _, noise in loader]) for _ in range(2)]

    plan = AssessedLoader(DATASET, 8, shuffle=False).plan
    ours = epochs(lambda **more: AssessedLoader(Noisy(X, Y), 8, plan=plan, shuffle=False, **more))
    theirs = epochs(lambda **more: DataLoader(Noisy(X, Y), 8, **more))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)


class Place(Dataset[Any]):
    """Samples that say in which process they were read, and how often this process has read."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        info = get_worker_info()
        return torch.tensor([float(index), float(self.reads), float(-1 if info is None else info.id)])


PLAN = AssessedLoader(Place(), 4, shuffle=False, input_key=lambda s: s[:1]).plan


@pytest.mark.parametrize("persistent", [True, False])
def test_persistent_workers_keep_their_dataset(persistent: bool) -> None:
    options: dict[str, Any] = {"num_workers": 2, "persistent_workers": persistent}
    ours = AssessedLoader(Place(), 4, plan=PLAN, shuffle=False, **options)
    theirs = DataLoader(Place(), 4, **options)
    for _ in range(2):
        assert torch.equal(torch.cat(list(ours)), torch.cat(list(theirs)))


@pytest.mark.parametrize("prefetch_factor", [1, 3])
def test_prefetch_factor_bounds_what_is_read_ahead(prefetch_factor: int) -> None:
    ours = AssessedLoader(Place(), 4, plan=PLAN, num_workers=1, prefetch_factor=prefetch_factor)
    inner = ours.dataloader
    assert inner.prefetch_factor == prefetch_factor
    batches: Any = iter(inner)
    next(batches)
    assert batches._tasks_outstanding <= prefetch_factor


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator:UserWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_pin_memory_reaches_the_loader(num_workers: int) -> None:
    """Without an accelerator torch pins nothing and says so; with one the batch's own pin_memory is called."""
    items = Items([Scan(torch.from_numpy(row), i) for i, row in enumerate(X)])
    arguments: dict[str, Any] = {"collate_fn": collate_scans, "pin_memory": True, "num_workers": num_workers}
    ours = AssessedLoader(items, 8, input_key="image", shuffle=False, **arguments)
    assert ours.dataloader.pin_memory
    pinned = [batch.pinned for batch in ours]
    assert pinned == [batch.pinned for batch in DataLoader(items, 8, **arguments)]
    assert set(pinned) == {torch.accelerator.is_available()}
    item = next(iter(ours.dataloader))
    assert item.pin_memory().batch.pinned
    assert item.pin_memory().decision == item.decision


def test_in_order_is_handed_on() -> None:
    for in_order in (True, False):
        assert AssessedLoader(DATASET, 8, num_workers=2, in_order=in_order).dataloader.in_order is in_order


def test_an_iterator_dropped_before_its_first_batch_costs_no_epoch() -> None:
    """Frameworks make one to see whether they can."""
    loader = AssessedLoader(DATASET, 8)
    first = [d.index for _, d in AssessedLoader(DATASET, 8).decisions()]
    iter(loader)
    iter(loader)
    assert [d.index for _, d in loader.decisions()] == first
    assert loader.epoch == 1
