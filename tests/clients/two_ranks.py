"""Runs on two ranks under torchrun: gates around a layer that waits for the other rank."""

import datetime
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, IterableDataset

import norms
from assessor import NonFiniteError, assess
from clients import AssessedLoader, LoaderError
from tests.clients.datasets import Pairs, two_sources
from tests.process_group import leave

X, Y = two_sources(96)
DATASET = Pairs(X, Y)
PLAN = assess(X, batch_size=8)


class SyncNorm(nn.Module):
    """Normalizes with the statistics of all ranks' batches, as SyncBatchNorm, which needs a GPU."""

    num_features = 5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums = torch.stack([x.detach().sum(0), x.detach().square().sum(0), torch.full((5,), float(len(x)))])
        dist.all_reduce(sums)  # hangs where the other rank skips
        mean = sums[0] / sums[2]
        return (x - mean) / (sums[1] / sums[2] - mean.square() + 1e-5).sqrt()


class Stream(IterableDataset[Any]):
    """Each rank reads its own rows: rank 0 of the first source, rank 1 of the second."""

    def __iter__(self) -> Iterator[Any]:
        half = X[48 * dist.get_rank() :][:48]
        return iter(zip(torch.from_numpy(half), range(48), strict=True))


def everyones(values: list[Any]) -> list[list[Any]]:
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, values)
    return gathered


def train(loader: AssessedLoader, *, through_dataloader: bool = False) -> list[bool]:
    """Return what the gates were told, after two epochs in which each flagged batch meets the other rank."""
    gate = norms.AdaptiveNorm(SyncNorm())
    model = DistributedDataParallel(nn.Sequential(gate, nn.Linear(5, 2)))
    loader.attach(model)
    told = []
    for _ in range(2):
        for item in loader.dataloader if through_dataloader else loader.decisions():
            if through_dataloader:
                loader.apply(item.decision)
            assert loader.decision is not None
            assert gate.decision is loader.decision.normalize
            told.append(loader.decision.normalize)
            model(item.batch[0]).sum().backward()
    return told


class Counted(Pairs):
    """Counts the reads on this rank."""

    reads = 0

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.reads += 1
        return super().__getitem__(index)


def check_one_assesses_for_all() -> None:
    """Check that the first rank to ask makes the plan, whoever asks, and that all have it."""
    for first in (0, 1):
        dataset = Counted(X, Y)
        loader = AssessedLoader(dataset, 8, seed=first)
        if dist.get_rank() == first:  # alone: a collective would hang here
            assert len(loader.plan) == 12
        dist.barrier()
        plans = everyones([loader.plan.to_json(), loader.plan.scores.tolist(), dataset.reads])
        assert plans[0][:2] == plans[1][:2]
        # 96 to tell the content by, on each; two reads of eight to tell randomness, one of all, one of the first
        assert plans[1 - first][2] == 96
        assert plans[first][2] == 2 * 96 + 2 * 8 + 1

    bad = X.copy()
    bad[50] = float("nan")
    try:
        assert AssessedLoader(Pairs(bad, Y), 8).plan
    except (NonFiniteError, LoaderError) as error:
        texts = everyones([type(error).__name__, str(error)])
        assert sorted(name for name, _ in texts) == ["LoaderError", "NonFiniteError"], texts
        assert all("sample 50 of the dataset holds NaN" in text for _, text in texts), texts
    else:
        raise AssertionError("no error")


def check_a_synchronizing_norm() -> None:
    """Check that a gate around a norm of ours that synchronizes is recognized: it would hang where one rank skips."""
    gate = norms.AdaptiveNorm("batch", num_features=5, affine=False)
    norms.synchronize(gate)
    model = DistributedDataParallel(nn.Sequential(gate, nn.Linear(5, 2)))
    loader = AssessedLoader(DATASET, 8, plan=PLAN)
    loader.attach(model)
    told = []
    for x, _ in loader:
        told.append(gate.decision)
        model(x).sum().backward()
    own = everyones([PLAN[d.index].normalize for _, d in AssessedLoader(DATASET, 8, plan=PLAN).decisions()])
    assert own[0] != own[1]
    assert told == [a or b for a, b in zip(*own, strict=True)]


def main() -> None:
    """Check every way in which ranks can agree."""
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=200))
    rank = dist.get_rank()

    alone = AssessedLoader(DATASET, 8, plan=PLAN)
    flags = [[d.normalize for _, d in alone.decisions()] for _ in range(2)]
    own = everyones(flags[0] + flags[1])
    assert own[0] != own[1], "the ranks' own decisions must differ for this to test anything"
    either = [a or b for a, b in zip(*own, strict=True)]

    for through_dataloader in (False, True):
        for workers in (0, 2):
            planned = AssessedLoader(DATASET, 8, plan=PLAN, agree=True, num_workers=workers)
            assert everyones(train(planned, through_dataloader=through_dataloader)) == [either, either]
        drawn = AssessedLoader(DATASET, 8, plan=PLAN, reshuffle="samples", shuffle=True, agree=True)
        told = everyones(train(drawn, through_dataloader=through_dataloader))
        assert told[0] == told[1]
        assert len(told[0]) == 12

    sampler: DistributedSampler[Any] = DistributedSampler(DATASET, shuffle=False)
    told = everyones(train(AssessedLoader(DATASET, 8, sampler=sampler, agree=True)))
    assert told[0] == told[1]

    told = everyones(train(AssessedLoader(Stream(), 8, plan=PLAN, agree=True)))
    assert told == [[True] * 12] * 2  # rank 1 reads the source that needs it

    check_one_assesses_for_all()
    check_a_synchronizing_norm()

    ids = [d.index for _, d in AssessedLoader(DATASET, 8, plan=PLAN).decisions()]
    dealt = [index for share in everyones(ids) for index in share]
    assert sorted(dealt) == list(range(12))
    print(f"rank {rank} done")


if __name__ == "__main__":
    main()
    leave()
