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
from assessor import assess
from clients import AssessedLoader
from tests.clients.datasets import Pairs, two_sources

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


def main() -> None:
    """Check every way in which ranks can agree."""
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
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

    ids = [d.index for _, d in AssessedLoader(DATASET, 8, plan=PLAN).decisions()]
    dealt = [index for share in everyones(ids) for index in share]
    assert sorted(dealt) == list(range(12))
    print(f"rank {rank} done")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
