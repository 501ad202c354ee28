"""Where an epoch's batches come from: a fixed order, one drawn anew, or the user's own sampler."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assessor import SampleOrder
from assessor.order import sort_by_hash
from clients.epochs import epoch_membership
from clients.errors import LoaderError
from clients.membership import Batches, as_ids
from clients.steps import Numbers, Steps, in_runs

# From an epoch's batches, and the numbers of some of them, to the number of each in the plan, -1 for one that the plan
# does not hold.
Lookup = Callable[[Batches, NDArray[np.int64]], NDArray[np.int64]]


class Source(Protocol):
    """An epoch's batches."""

    def read(self, epoch: int) -> Batches:
        """Return the batches of an epoch; the same whenever it is asked."""
        ...

    def digest(self, epoch: int) -> str | None:
        """Return a name of the epoch's batches where nothing else names them, else None."""
        ...

    def take_asked(self) -> int | None:
        """Return the epoch that a script has set at its sampler since this was last asked, None if none."""
        ...

    def show(self, epoch: int) -> None:
        """Let the sampler show the epoch that comes next, so that setting any other is noticed."""
        ...


def lay_ids(order: SampleOrder, n_rows: int) -> Numbers:
    """Return `order.ids(n_rows)`, in as little memory as they can be: none at all in dataset order."""
    if order.kind == "rows":
        return Steps(range(n_rows))
    return order.ids(n_rows) if order.seed is None else sort_by_hash(order.seed, n_rows)


class FixedBatches:
    """The same batches every epoch: the plan's order, cut."""

    def __init__(self, order: SampleOrder, n_rows: int, batch_size: int, *, drop_last: bool) -> None:
        self.order = order
        self.n_rows = n_rows
        self.batch_size = batch_size
        self.drop_last = drop_last

    @cached_property
    def _batches(self) -> Batches:
        return Batches.cut(lay_ids(self.order, self.n_rows), self.batch_size, drop_last=self.drop_last)

    def read(self, epoch: int) -> Batches:
        """Return the batches."""
        return self._batches

    def digest(self, epoch: int) -> None:
        """Return None: the order names them."""
        return

    def take_asked(self) -> None:
        """Return None: there is no sampler."""
        return

    def show(self, epoch: int) -> None:
        """Do nothing: there is no sampler."""


class DrawnBatches:
    """New batches every epoch, from (seed, epoch) alone."""

    def __init__(self, seed: int, n_rows: int, batch_size: int, *, drop_last: bool) -> None:
        self.seed = seed
        self.n_rows = n_rows
        self.batch_size = batch_size
        self.drop_last = drop_last
        self._last: tuple[int, Batches] | None = None

    def read(self, epoch: int) -> Batches:
        """Return the batches of an epoch."""
        if self._last is None or self._last[0] != epoch:
            ids = lay_ids(epoch_membership(seed=self.seed, epoch=epoch), self.n_rows)
            self._last = epoch, Batches.cut(ids, self.batch_size, drop_last=self.drop_last)
        return self._last[1]

    def digest(self, epoch: int) -> None:
        """Return None: the seed names them."""
        return

    def take_asked(self) -> None:
        """Return None: there is no sampler."""
        return

    def show(self, epoch: int) -> None:
        """Do nothing: there is no sampler."""


class SamplerBatches:
    """What the user's sampler or batch_sampler yields.

    It is read once to be assessed; that reading is epoch 0. Where it has `set_epoch`, as torch's
    DistributedSampler, that is called before each later reading; an epoch that a script sets there itself is followed.

    Args:
        sampler: yields sample ids, batch_size of which make a batch.
        batch_sampler: yields batches of sample ids; one of both.
        batch_size: of a sampler.
        drop_last: of a sampler.
        anew: read it again for every epoch; else the first reading stays.
    """

    def __init__(self, sampler: Any, batch_sampler: Any, batch_size: int, *, drop_last: bool, anew: bool) -> None:
        self._sampler = sampler
        self._batch_sampler = batch_sampler
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._anew = anew
        self._last: tuple[int, Batches] | None = None
        given = sampler if batch_sampler is None else batch_sampler
        counting = [inner for inner in (given, getattr(given, "sampler", None)) if hasattr(inner, "set_epoch")]
        self._counting: Any = counting[0] if counting else None
        # the epoch that the sampler shows unless a script has set one
        self._known: Any = 0 if isinstance(self._shown, int) else self._shown

    @cached_property
    def first(self) -> Batches:
        """The first reading, which is assessed: epoch 0's, whichever a script has begun with."""
        begun = self._shown
        if begun == self._known:
            batches = self._read()
        else:
            self._set_epoch(0)
            batches = self._read()
            self._counting.set_epoch(begun)
        if not len(batches):
            raise LoaderError("expected at least one batch; the sampler yields none")
        return batches

    def read(self, epoch: int) -> Batches:
        """Return the batches of an epoch."""
        if epoch == 0 or not self._anew:
            return self.first
        if self._last is None or self._last[0] != epoch:
            _ = self.first  # a later epoch must not become the first reading
            asked = self.take_asked()
            self._set_epoch(epoch)
            self._last = epoch, self._read()
            if asked is not None:
                self._counting.set_epoch(asked)  # still to be followed
        return self._last[1]

    def digest(self, epoch: int) -> str:
        """Return the name of what was read: only the user's sampler knows whether it comes again."""
        return self.read(epoch).digest()

    def _read(self) -> Batches:
        if self._batch_sampler is not None:
            batches = Batches.listed(self._batch_sampler)
        else:
            batches = Batches.cut(as_ids(self._sampler), self._batch_size, drop_last=self._drop_last)
        self._known = self._shown  # some count the readings themselves
        return batches

    def _set_epoch(self, epoch: int) -> None:
        if self._counting is not None:
            self._counting.set_epoch(epoch)
            self._known = self._shown

    @property
    def _shown(self) -> Any:
        return getattr(self._counting, "epoch", None)

    def show(self, epoch: int) -> None:
        """Let the sampler show the epoch that comes next, so that a script that sets the same one again is noticed."""
        if isinstance(self._shown, int):
            self._set_epoch(epoch)

    def take_asked(self) -> int | None:
        """Return the epoch that the script has set at the sampler since this was last asked, None if none."""
        shown = self._shown
        if shown == self._known or isinstance(shown, bool) or not isinstance(shown, int) or shown < 0:
            return None
        self._known = shown
        return shown


def hold_none(batches: Batches, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return -1 for every batch: each is scored as it is read."""
    return np.full(len(numbers), -1, np.int64)


def held_by_number(held: NDArray[np.bool_] | None) -> Lookup:
    """Return the lookup for batches in the plan's own order; held says which, None says all."""
    return partial(_numbered, held)  # not a function in here: a loader can be pickled


def _numbered(held: NDArray[np.bool_] | None, batches: Batches, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return numbers if held is None else np.where(held[numbers], numbers, -1)


def held_by_content(planned: Batches) -> Lookup:
    """Return the lookup for batches of the same samples as one of the plan's, wherever they come."""
    keys = (key for numbers in in_runs(len(planned)) for key in planned.keys(numbers))
    return partial(_found, {key: number for number, key in enumerate(keys)})


def _found(places: dict[bytes, int], batches: Batches, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array([places.get(key, -1) for key in batches.keys(numbers)], np.int64)


def count_held(look_up: Lookup, batches: Batches) -> int:
    """Return how many of an epoch's batches the plan holds."""
    return sum(int((look_up(batches, numbers) >= 0).sum()) for numbers in in_runs(len(batches)))
