"""The batch sampler of AssessedLoader: an epoch as batch requests, and how far it has come."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import Sampler

from assessor import SampleOrder
from clients.batches import BatchRequest
from clients.epochs import batch_order, count_batches, deal, epoch_membership
from clients.errors import LoaderError

Reshuffle = Literal["batches", "samples", False]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How samples become batches and batches epochs; every field is part of a saved state.

    Attributes:
        n_rows: samples of the dataset.
        batch_size: samples a batch.
        drop_last: leave out the last batch when it is not full.
        order: how the samples are laid out; what was assessed.
        seed: of the epochs' orders.
        shuffled: the order of the batches is shuffled.
        reshuffle: what is drawn anew each epoch.
        rank: this process's number among world_size.
        world_size: processes that share an epoch.
    """

    n_rows: int
    batch_size: int
    drop_last: bool
    order: SampleOrder
    seed: int
    shuffled: bool
    reshuffle: Reshuffle
    rank: int
    world_size: int

    @property
    def n_batches(self) -> int:
        """Batches of the whole dataset, over all ranks."""
        return count_batches(self.n_rows, self.batch_size, drop_last=self.drop_last)

    def epoch_batches(self, epoch: int) -> list[int]:
        """Return this rank's batch numbers in the order of an epoch."""
        if not self.shuffled:
            order = np.arange(self.n_batches, dtype=np.int64)
        else:
            drawn = 0 if self.reshuffle is False else epoch
            order = batch_order(self.n_batches, seed=self.seed, epoch=drawn)
        dealt: list[int] = deal(order, rank=self.rank, world_size=self.world_size).tolist()
        return dealt

    def epoch_order(self, epoch: int) -> SampleOrder:
        """Return how an epoch lays out the samples."""
        if self.reshuffle == "samples":
            return epoch_membership(seed=self.seed, epoch=epoch)
        return self.order


@dataclass
class Run:
    """One pass over an epoch: its batches, and which of them were handed out.

    Attributes:
        epoch: the epoch.
        batches: this rank's batch numbers, in order.
        handed: how many from the front were handed out.
        ahead: batch numbers handed out beyond those (`in_order=False`).
        finished: the loop over it came to its end.
    """

    epoch: int
    batches: list[int]
    handed: int = 0
    ahead: set[int] = field(default_factory=set)
    finished: bool = False

    def remaining(self) -> list[int]:
        """Return the batch numbers still to hand out."""
        return [i for i in self.batches[self.handed :] if i not in self.ahead]

    def mark(self, index: int) -> None:
        """Note that a batch was handed out."""
        self.ahead.add(index)
        while self.handed < len(self.batches) and self.batches[self.handed] in self.ahead:
            self.ahead.remove(self.batches[self.handed])
            self.handed += 1


class EpochSampler(Sampler[Any]):
    """Batch sampler: each iteration yields the next epoch's requests.

    Args:
        layout: how samples become batches and batches epochs.
        held: per batch whether the plan holds a decision on it; None for all.

    Attributes:
        epoch: the epoch that the next iteration yields.
    """

    def __init__(self, layout: Layout, held: NDArray[np.bool_] | None) -> None:
        self.layout = layout
        self.batch_size = layout.batch_size
        self.drop_last = layout.drop_last
        self.epoch = 0
        self._held = held
        self._resumed: Run | None = None
        self._armed: Run | None = None
        self._ids: tuple[SampleOrder, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self.layout.n_batches // self.layout.world_size

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch; a resumed position in it is kept."""
        self.epoch = epoch
        if self._resumed is not None and self._resumed.epoch != epoch:
            self._resumed = None

    def resume(self, *, epoch: int, handed: int, ahead: Iterable[int]) -> None:
        """Let the next iteration yield what an interrupted pass had left."""
        batches = self.layout.epoch_batches(epoch)
        self.epoch = epoch
        self._resumed = Run(epoch, batches, handed, set(ahead))

    def begin(self) -> Run:
        """Return the pass over the next epoch, and advance."""
        run, self._resumed = self._resumed, None
        run = run or Run(self.epoch, self.layout.epoch_batches(self.epoch))
        self.epoch = run.epoch + 1
        return run

    def position(self) -> Run:
        """Return where the next iteration would begin."""
        return self._resumed or Run(self.epoch, [])

    def arm(self, run: Run | None) -> None:
        """Let the iterators made from now on yield this pass; None, the next epoch."""
        self._armed = run

    def __iter__(self) -> Iterator[BatchRequest]:
        # DataLoader calls this twice with workers and uses the second; so no epoch begins here
        return self._requests(self._armed)

    def _requests(self, run: Run | None) -> Iterator[BatchRequest]:
        run = run or self.begin()
        ids = self._sample_ids(self.layout.epoch_order(run.epoch))
        size = self.batch_size
        scored_anew = self.layout.reshuffle == "samples"
        for index in run.remaining():
            yield BatchRequest(
                ids[index * size : (index + 1) * size].tolist(),
                batch_index=index,
                planned=not scored_anew and (self._held is None or bool(self._held[index])),
            )

    def _sample_ids(self, order: SampleOrder) -> NDArray[np.int64]:
        if self._ids is None or self._ids[0] != order:
            self._ids = order, order.ids(self.layout.n_rows)
        return self._ids[1]


def place_in_group(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return (rank, world_size): as given, else those of torch's process group, else (0, 1).

    Raises:
        LoaderError: only one of them, or a rank out of range.
    """
    if rank is None and world_size is None:
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise LoaderError(
            "expected rank and world_size together, 0 <= rank < world_size; "
            f"got rank={rank!r}, world_size={world_size!r}"
        )
    return rank, world_size
