"""The engine of worker processes on this machine.

The processes are spawned, not forked: a fork copies locks that another thread holds. Each has a pipe of its own, so a
worker that dies is known with the task that it had, and the others go on; `concurrent.futures` would end its pool, and
could not tell which of the tasks under way was to blame.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

from assessor.errors import SettingError
from assessor.execution.engines import (
    ATTEMPTS,
    Engine,
    EngineError,
    R,
    Report,
    S,
    T,
    Work,
    WorkerLostError,
    engines,
    portable,
    use_one_thread,
)
from assessor.kernels import usable_processors

REPORT_S = 0.1
"""Least time between two reports of a worker."""
STOP_S = 2.0
"""Time that a worker has to end before it is killed."""


class ProcessEngine:
    """Works in processes that live until the engine is closed, so a second run finds them started.

    Args:
        workers: how many; None takes as many as there are processors.

    Raises:
        SettingError: fewer than 1.
    """

    name = "processes"

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise SettingError(f"expected workers >= 1; got {workers}: leave it out for one a processor")
        self.workers = workers or usable_processors()
        self._crew: list[_Worker] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Process numbers of the workers that live."""
        return tuple(worker.process.pid for worker in self._crew if worker.process.pid is not None)

    def run(
        self, work: Work[S, T, R], shared: S, tasks: Iterable[T], on_bytes: Report
    ) -> Generator[tuple[T, R | WorkerLostError], None, None]:
        """Yield each task with its result, in the order of completion; see `Engine.run`."""
        coming = iter(tasks)
        again: deque[_Assignment] = deque()
        for worker in self._crew:
            worker.begin(work, shared)
        whole = False
        try:
            while True:
                self._hand_out(coming, again, work, shared)
                busy = [worker for worker in self._crew if worker.assignment is not None]
                if not busy:
                    break
                done, failed = self._receive(busy, again, on_bytes)
                if failed is None:
                    self._hand_out(coming, again, work, shared)  # so that none waits while the caller merges
                yield from done
                if failed is not None:
                    raise failed
            whole = True
        finally:
            if not whole:
                self._stop([worker for worker in self._crew if worker.assignment is not None])

    def close(self) -> None:
        """Stop all workers."""
        self._stop(list(self._crew))

    def __enter__(self) -> "ProcessEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _hand_out(
        self, coming: Iterator[Any], again: deque["_Assignment"], work: Work[Any, Any, Any], shared: Any
    ) -> None:
        """Give each idle worker a task, first those that lost theirs; start workers as long as there are tasks."""
        idle = deque(worker for worker in self._crew if worker.assignment is None)
        while idle or len(self._crew) < self.workers:
            if again:
                assignment = again.popleft()
            else:
                try:
                    assignment = _Assignment(next(coming))
                except StopIteration:
                    return
            if idle:
                worker = idle.popleft()
            else:
                worker = _Worker()
                self._crew.append(worker)
                worker.begin(work, shared)
            assignment.begin()
            worker.give(assignment)

    def _receive(
        self, busy: list["_Worker"], again: deque["_Assignment"], on_bytes: Report
    ) -> tuple[list[tuple[Any, Any]], BaseException | None]:
        """Wait for workers to say something; return the tasks that are done, and what work raised."""
        by_connection = {worker.connection: worker for worker in busy}
        done: list[tuple[Any, Any]] = []
        for ready in wait(list(by_connection)):
            worker = by_connection[ready]  # type: ignore[index]  # wait returns what it was given
            assignment = worker.assignment
            assert assignment is not None
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                lost = self._bury(worker)
                if assignment.attempts < ATTEMPTS:
                    again.append(assignment)
                else:
                    done.append((assignment.task, lost))
                continue
            worker.came_up = True
            if kind == "bytes":
                on_bytes(assignment.count(value))
            elif kind == "done":
                worker.assignment = None
                done.append((assignment.task, value))
            elif kind == "raised":
                worker.assignment = None
                error, text = value
                error.add_note(f"in a worker process:\n{text}")
                return done, error
        return done, None

    def _bury(self, worker: "_Worker") -> WorkerLostError:
        self._crew.remove(worker)
        worker.connection.close()
        worker.process.join(STOP_S)
        if worker.process.exitcode is None:  # without its pipe it is of no use, nor can it be asked
            worker.process.kill()
            worker.process.join()
        code = worker.process.exitcode
        killed = code is not None and code < 0
        if not worker.came_up and not killed:
            raise EngineError(
                f"expected a worker process to start; it ended with status {code} before it did: in a script, call "
                "this below `if __name__ == '__main__':`, and see what the process wrote on standard error"
            )
        how = f"by signal {signal.Signals(-code).name}" if code is not None and killed else f"with status {code}"
        return WorkerLostError(
            f"expected a worker to finish; it ended {how} in each of {ATTEMPTS} attempts: "
            "look for a lack of memory, or leave the source out"
        )

    def _stop(self, workers: list["_Worker"]) -> None:
        for worker in workers:
            if worker in self._crew:
                self._crew.remove(worker)
            worker.connection.close()
            if worker.assignment is not None:
                worker.process.terminate()
        deadline = monotonic() + STOP_S
        for worker in workers:
            worker.process.join(max(0.0, deadline - monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.process.close()


@dataclass
class _Assignment:
    """A task and how often it was begun."""

    task: Any
    attempts: int = 0
    _read_bytes: int = 0
    _told_bytes: int = 0

    def begin(self) -> None:
        """Count one more attempt."""
        self.attempts += 1
        self._read_bytes = 0

    def count(self, size_bytes: int) -> int:
        """Count bytes of this attempt; return how many of them no earlier attempt has read."""
        self._read_bytes += size_bytes
        new = max(0, self._read_bytes - self._told_bytes)
        self._told_bytes += new
        return new


class _Worker:
    """A process as the engine sees it.

    Attributes:
        connection: its pipe.
        assignment: what it works on.
        came_up: whether it has answered yet.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), name="normgauge-worker", daemon=True)
        self.process.start()
        theirs.close()
        self.assignment: _Assignment | None = None
        self.came_up = False

    def begin(self, work: Work[Any, Any, Any], shared: Any) -> None:
        """Tell what is to be done with the tasks that follow."""
        with suppress(OSError):  # a dead one is found when it is asked for a result
            self.connection.send((work, shared))

    def give(self, assignment: _Assignment) -> None:
        """Hand a task over."""
        self.assignment = assignment
        with suppress(OSError):
            self.connection.send((assignment.task,))


def _serve(connection: Connection) -> None:
    """Work off tasks until the pipe is closed; the life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interrupted engine stops its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_one_thread()
    reporter = _Reporter(connection)
    work: Any = None
    shared: Any = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(("up", None))
        while True:
            message = connection.recv()
            if len(message) == 2:
                work, shared = message
                continue
            try:
                answer = ("done", work(shared, message[0], reporter.add))
            except Exception as error:  # whatever the work raises is the caller's to see
                answer = ("raised", (portable(error), traceback.format_exc()))
            reporter.flush()
            connection.send(answer)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, also by a signal that it could not catch."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Reporter:
    """Sends how many bytes were read, now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bytes = 0
        self._sent_at = 0.0

    def add(self, size_bytes: int) -> None:
        """Count bytes."""
        self._bytes += size_bytes
        if monotonic() - self._sent_at >= REPORT_S:
            self.flush()

    def flush(self) -> None:
        """Send the count."""
        if self._bytes:
            self._connection.send(("bytes", self._bytes))
        self._bytes, self._sent_at = 0, monotonic()


@engines.register("processes")
def make_processes(address: str | None, workers: int | None) -> Engine:
    """Return the engine.

    Raises:
        SettingError: an address, or workers below 1.
    """
    if address is not None:
        raise SettingError(f"expected the engine 'processes' without address; got {address!r}: take ray for a cluster")
    return ProcessEngine(workers)
