"""Pieces of a body on their way through worker threads: in order, and every one to each consumer.

A thread that is done with a piece takes the next one by itself where it is there already. A turn of the event loop and
the start of a thread for each piece cost as much time as its work, and no processor works meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

P = TypeVar("P")
Consumer = Callable[[P], Iterator[None]]
"""Takes a piece, in steps: after each, the thread may be given to someone else."""


def at_once(take: Callable[[P], None]) -> Consumer[P]:
    """Return a consumer that takes a piece in one step."""

    def consume(piece: P) -> Iterator[None]:
        take(piece)
        return iter(())  # no step is left, for which it would have to wait for a thread again

    return consume


@dataclass(eq=False)
class _Handed(Generic[P]):
    """A piece, and how many lines it is still on."""

    piece: P
    left: int


class Lines(Generic[P]):
    """All consumers of one body; used in the event loop only.

    Args:
        consumers: each with the limiter of its threads; a consumer is in one thread at a time.
        on_done: called with a piece that every consumer has taken.
        most: returns how many pieces there may be that are not done, with the one that is put next.
    """

    def __init__(
        self,
        consumers: Sequence[tuple[Consumer[P], CapacityLimiter]],
        on_done: Callable[[P], None],
        *,
        most: Callable[[], int],
    ) -> None:
        self._lines = [_Line(consumer, limiter, self._on_taken) for consumer, limiter in consumers]
        self._on_done = on_done
        self._most = most
        self._outstanding: set[_Handed[P]] = set()
        self._moved = asyncio.Event()

    def put(self, piece: P) -> None:
        """Hand a piece to all consumers; nothing may be written to it before it is done."""
        handed = _Handed(piece, len(self._lines))
        self._outstanding.add(handed)
        for line in self._lines:
            line.put(handed, self._moved.set)

    async def has_room(self) -> None:
        """Return once another piece may be put.

        Raises:
            Exception: what a consumer raised; of several, the first one's.
        """
        while len(self._outstanding) >= self._most() and not self._failed:
            await self._move()
        self._raise()

    async def all_done(self) -> None:
        """Return once there is no piece that is not done; more may be put then.

        Raises:
            Exception: as `has_room`.
        """
        while self._outstanding and not self._failed:
            await self._move()
        self._raise()

    async def end(self) -> None:
        """Return once all pieces are done.

        Raises:
            Exception: as `has_room`.
        """
        for line in self._lines:
            await line.end()
        self._raise()

    async def abandon(self) -> None:
        """Return once no thread works for this body any more; what waits is dropped, and done with."""
        for line in self._lines:
            line.drop()
        for line in self._lines:
            await line.end()
        if not any(line.working for line in self._lines):
            while self._outstanding:
                self._on_done(self._outstanding.pop().piece)
        for line in self._lines:
            line.forget()

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    @property
    def _failed(self) -> bool:
        return any(line.failure is not None for line in self._lines)

    def _raise(self) -> None:
        for line in self._lines:
            if line.failure is not None:
                raise line.failure

    def _on_taken(self, handed: _Handed[P]) -> None:
        handed.left -= 1
        if not handed.left:
            self._outstanding.discard(handed)
            self._on_done(handed.piece)
            self._moved.set()


class _Line(Generic[P]):
    """The pieces that wait for one consumer, and the one that it works on."""

    def __init__(self, consumer: Consumer[P], limiter: CapacityLimiter, on_taken: Callable[[_Handed[P]], None]) -> None:
        self._consumer = consumer
        self._limiter = limiter
        self._on_taken = on_taken
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Handed[P]] = deque()
        self._current: tuple[_Handed[P], Iterator[None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._dropped = False
        self.failure: BaseException | None = None

    def put(self, handed: _Handed[P], on_failure: Callable[[], None]) -> None:
        """Let a piece wait; nothing comes of it after a failure."""
        if self.failure is not None or self._dropped:
            return
        self._waiting.append(handed)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(on_failure))

    def drop(self) -> None:
        """Take nothing more."""
        self._dropped = True
        self._waiting.clear()

    @property
    def working(self) -> bool:
        """Whether a thread may still work after `end`: that of a call that was cancelled."""
        return self.failure is not None and not isinstance(self.failure, Exception)

    def forget(self) -> None:
        """Hold no piece, nor a failure, whose traceback holds this and a piece: a cycle, until garbage is collected."""
        self._current = self.failure = None

    async def end(self) -> None:
        """Return once nothing waits and no thread works."""
        if self._task is not None and not self._task.done():
            # Not the task itself, which would be cancelled with who waits for it, while its thread goes on.
            await asyncio.wait([self._task])

    async def _run(self, on_failure: Callable[[], None]) -> None:
        try:
            while (self._waiting or self._current is not None) and not self._dropped:
                await to_thread.run_sync(self._work, limiter=self._limiter)
        except BaseException as failure:
            self.failure = failure
            self._waiting.clear()
            on_failure()
            if not isinstance(failure, Exception):
                raise

    def _work(self) -> None:
        """Take one piece after the other; in a worker thread, which is left as soon as others wait for one."""
        while not self._dropped:
            if self._current is None:
                try:
                    handed = self._waiting.popleft()
                except IndexError:  # not asked before: `drop` may come between
                    return
                self._current = handed, self._consumer(handed.piece)
            handed, steps = self._current
            for _ in steps:
                if self._dropped or self._is_waited_for():
                    return
            self._current = None
            self._loop.call_soon_threadsafe(self._on_taken, handed)
            if self._is_waited_for():
                return

    def _is_waited_for(self) -> bool:
        """Return whether others wait for a thread."""
        try:
            return bool(self._limiter.statistics().tasks_waiting)
        except RuntimeError:  # it copies a set, which the event loop may change meanwhile
            return True
