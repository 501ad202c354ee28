"""The batch sampler of AssessedLoader: an epoch as batch requests, and how far it has come."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from clients.errors import LoaderError
from clients.layout import Layout
from clients.membership import Batches
from clients.sources import Lookup
from clients.steps import Numbers, in_runs

# Requests are made this many at a time: one call of NumPy for all, and few of them held at once.
_AT_ONCE = 256


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
    batches: Numbers
    handed: int = 0
    ahead: set[int] = field(default_factory=set)
    finished: bool = False

    def remaining(self) -> Iterator[NDArray[np.int64]]:
        """Return an iterator over the places in `batches` of those that are to be handed out as of now, in parts."""
        return _left_of(self.batches, self.handed, np.array(sorted(self.ahead), np.int64))

    def mark(self, index: int) -> None:
        """Note that a batch was handed out."""
        batches, handed = self.batches, self.handed
        if not self.ahead and batches[handed] == index:  # the usual case
            self.handed = handed + 1
            return
        self.ahead.add(index)
        while self.handed < len(batches) and (front := int(batches[self.handed])) in self.ahead:
            self.ahead.remove(front)
            self.handed += 1


def _left_of(batches: Numbers, handed: int, ahead: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for places in in_runs(len(batches) - handed, run=_AT_ONCE):
        places += handed
        left = places[~np.isin(batches[places], ahead)] if len(ahead) else places
        if len(left):
            yield left


class EpochSampler(Sampler[Any]):
    """Batch sampler: each iteration yields the next epoch's requests.

    Args:
        layout: how batches become epochs.
        look_up: which of them the plan holds.

    Attributes:
        epoch: the epoch that the next iteration yields.
        agree: a request names the other ranks' batches of its step too.
    """

    def __init__(self, layout: Layout, look_up: Lookup) -> None:
        self.layout = layout
        self.look_up = look_up
        self.epoch = 0
        self.agree = False
        self._resumed: Run | None = None
        self._armed: Run | None = None

    def __len__(self) -> int:
        return self.layout.n_batches // self.layout.world_size

    @property
    def batch_size(self) -> int:
        """Samples of the first batch, for frameworks that deal a DataLoader's batches out to ranks.

        Raises:
            LoaderError: they have been dealt out.
        """
        if self.layout.world_size > 1:
            raise LoaderError(
                "expected to deal out loader.dataloader's batches once; AssessedLoader has dealt them to "
                f"{self.layout.world_size} ranks, and another framework is about to do it again. Give it the "
                "AssessedLoader itself (accelerator.prepare lets it pass)"
            )
        bounds = self.layout.source.read(0).bounds
        return int(bounds[1] - bounds[0])

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch; a resumed position in it is kept."""
        self.layout.source.take_asked()  # what was set before counts no longer
        self._set(epoch)

    def _set(self, epoch: int) -> None:
        self.epoch = epoch
        if self._resumed is not None and self._resumed.epoch != epoch:
            self._resumed = None

    def resume(self, run: Run) -> None:
        """Let the next iteration yield what an interrupted pass had left."""
        self.layout.source.take_asked()
        self.epoch = run.epoch
        self._resumed = run

    def begin(self) -> Run:
        """Return the pass over the next epoch, and advance."""
        self._follow()
        run, self._resumed = self._resumed, None
        run = run or Run(self.epoch, self.layout.dealt(self.epoch))
        self.layout.source.read(run.epoch)
        self.epoch = run.epoch + 1
        self.layout.source.show(self.epoch)
        return run

    def _follow(self) -> None:
        asked = self.layout.source.take_asked()
        if asked is not None:
            self._set(asked)

    def position(self) -> Run:
        """Return where the next iteration would begin."""
        self._follow()
        return self._resumed or Run(self.epoch, np.zeros(0, np.int64))

    def arm(self, run: Run | None) -> None:
        """Let the iterators made from now on yield this pass; None, the next epoch."""
        self._armed = run

    def __iter__(self) -> Iterator[Any]:
        return EpochRequests(self, self._armed)


class EpochRequests(Iterator[tuple[Any, ...]]):
    """The requests of one pass.

    DataLoader makes two with workers and uses the second; so an epoch begins with the first
    request, not here. The state is what torchdata's StatefulDataLoader saves.
    """

    def __init__(self, sampler: EpochSampler, run: Run | None) -> None:
        self._sampler = sampler
        self._run = run
        self._requests: Iterator[tuple[Any, ...]] | None = None
        self._begun_at: dict[str, Any] = {}
        self._given = 0

    def __next__(self) -> tuple[Any, ...]:
        if self._requests is None:
            self._requests = self._start(self._run or self._sampler.begin())
        request = next(self._requests)
        self._given += 1
        return request

    def state_dict(self) -> dict[str, Any]:
        """Return the position, JSON-able."""
        if not self._begun_at:
            self._note(self._run or self._sampler.position())
        return {**self._begun_at, "given": self._given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken."""
        epoch = int(state["epoch"])
        run = Run(epoch, self._sampler.layout.dealt(epoch), int(state["handed"]), set(state["ahead"]))
        left = chain.from_iterable(run.batches[places].tolist() for places in run.remaining())
        for number in islice(left, int(state["given"])):
            run.mark(number)
        self._sampler.set_epoch(epoch + 1)
        self._requests, self._given = self._start(run), 0

    def _note(self, run: Run) -> None:
        self._begun_at = {"epoch": run.epoch, "handed": run.handed, "ahead": sorted(run.ahead)}

    def _start(self, run: Run) -> Iterator[tuple[Any, ...]]:
        self._note(run)
        sampler = self._sampler
        batches = sampler.layout.source.read(run.epoch)
        order = sampler.layout.order(run.epoch) if sampler.agree else None
        parts = _requests(batches, run, sampler.look_up, order, sampler.layout.world_size)
        return chain.from_iterable(parts)


def _requests(
    batches: Batches, run: Run, look_up: Lookup, order: Numbers | None, world_size: int
) -> Iterator[Iterator[tuple[Any, ...]]]:
    """Return an iterator over parts of the requests, as plain tuples (see `BatchRequest`).

    Args:
        batches: of the epoch.
        run: the pass over them, as it begins.
        look_up: which of them the plan holds.
        order: of all ranks' batches, where they must agree; a request then names the others of its step.
        world_size: that many make a step.
    """
    return (_part(batches, run.batches, places, look_up, order, world_size) for places in run.remaining())


def _part(
    batches: Batches,
    dealt: Numbers,
    places: NDArray[np.int64],
    look_up: Lookup,
    order: Numbers | None,
    world_size: int,
) -> Iterator[tuple[Any, ...]]:
    numbers = np.asarray(dealt[places], np.int64)
    planned = look_up(batches, numbers)
    step: Iterator[tuple[int, ...]] = repeat(())
    if order is not None:
        rows = np.asarray(order[places[:, None] * world_size + np.arange(world_size)], np.int64)
        held: Any = look_up(batches, rows.ravel()).reshape(rows.shape).tolist()
        step = (tuple(row) if min(row) >= 0 else () for row in held)
    return zip(batches.lists(numbers), numbers.tolist(), planned.tolist(), step, strict=False)
