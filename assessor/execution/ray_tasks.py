"""The engine of a Ray cluster, or of a Ray that is started here: core tasks, one processor each.

Ray hands a task to another worker when its own dies. Bytes are reported when a task is done: Ray's tasks have no way
back before that which would cost less than the tasks are long.
"""

import os
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import suppress
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

OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a Ray that is started here: profiles of a few megabytes pass through it."""
UNDER_WAY = 3
"""Tasks handed to Ray for each processor, so that none waits for the next; with two, a run of 0.8 s took 3 % longer.

Where fewer workers are asked for than the cluster has processors, each has one: Ray would work on all at once."""
CONNECT_S = 10.0
"""Longest wait for a cluster's port to answer; Ray by itself goes on asking for minutes."""

_users: "set[RayEngine]" = set()
"""Engines on the Ray that the first of them started or reached: a process has one, and the last one leaves it."""
_users_lock = threading.Lock()
_ended = threading.Event()
"""Set when the Ray of `_users` is left."""


class RayEngine:
    """Works in the tasks of Ray.

    Args:
        address: of a cluster ("auto", "10.0.0.1:6379"); None takes RAY_ADDRESS, else starts Ray
            here, and stops it when the engine is closed.
        workers: processors of a Ray that is started here, and the tasks under way at most; None takes all.

    Raises:
        SettingError: Ray is not installed, or workers below 1.
        EngineError: the cluster cannot be reached.
    """

    name = "ray"

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise SettingError(f"expected workers >= 1; got {workers}: leave it out for one a processor")
        self._ray = _library()
        self._workers = workers
        self._address = address or os.environ.get("RAY_ADDRESS") or None

    @property
    def workers(self) -> int:
        """Processors of the cluster, or those asked for."""
        if self._workers is not None:
            return self._workers
        if self._ray.is_initialized():
            return self._processors()
        return usable_processors()

    def run(
        self, work: Work[S, T, R], shared: S, tasks: Iterable[T], on_bytes: Report
    ) -> Generator[tuple[T, R | WorkerLostError], None, None]:
        """Yield each task with its result, in the order of completion; see `Engine.run`."""
        self._connect()
        ray, exceptions = self._ray, self._ray.exceptions
        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_work_off)
        common = ray.put((work, shared))
        coming = iter(tasks)
        under_way: dict[Any, Any] = {}
        ended = False
        try:
            while True:
                most = self._most_under_way()
                while not ended and len(under_way) < most:
                    try:
                        task = next(coming)
                    except StopIteration:
                        ended = True
                    else:
                        under_way[remote.remote(common, task)] = task
                if not under_way:
                    return
                done, _ = ray.wait(list(under_way), num_returns=1)
                for reference in done:
                    task = under_way.pop(reference)
                    try:
                        failed, value, size_bytes = ray.get(reference)
                    except exceptions.RayTaskError:
                        raise
                    except exceptions.RayError as error:
                        yield task, WorkerLostError(_why(error))
                        continue
                    if failed:
                        raise value
                    on_bytes(size_bytes)
                    yield task, value
        finally:
            for reference in under_way:
                with suppress(exceptions.RayError):
                    ray.cancel(reference, force=True)

    def _most_under_way(self) -> int:
        """Return how many tasks Ray may have: it works on as many as there are processors, whatever was asked for."""
        return self.workers if self.workers < self._processors() else UNDER_WAY * self.workers

    def _processors(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def close(self) -> None:
        """Stop a Ray that was started here, unless another engine uses it; a cluster goes on."""
        with _users_lock:
            if self in _users:
                _users.remove(self)
                if not _users:
                    self._ray.shutdown()
                    _ended.set()

    def __enter__(self) -> "RayEngine":
        self._connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _connect(self) -> None:
        """Start or reach a Ray; one that this process has already is taken as it is."""
        with _users_lock:
            if self._ray.is_initialized():
                for other in _users - {self}:
                    if other._address != self._address:
                        raise EngineError(
                            f"expected one Ray at a time; this process uses another already, {_place(other._address)}: "
                            f"close that engine before one with {_place(self._address)} is opened"
                        )
                if _users:
                    _users.add(self)
                return
            _users.clear()
            _ended.clear()
            _in_lasting_thread(self._begin)
            _users.add(self)

    def _begin(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            options |= {
                "num_cpus": self.workers,
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "address": "local",
            }
        else:
            options["address"] = self._address
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _check_port(self._address)
            self._ray.init(**options)
        except (ConnectionError, ImportError, OSError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"expected {_place(self._address)}; it cannot be reached or started: {error!s:.300}"
            ) from error


def _in_lasting_thread(begin: Callable[[], None]) -> None:
    """Call in a thread that lasts until `_ended`: Linux kills what Ray starts with the thread that started it."""
    begun: Future[None] = Future()

    def last() -> None:
        try:
            begin()
        except BaseException as error:  # whatever it is, the caller's to see
            begun.set_exception(error)
        else:
            begun.set_result(None)
            _ended.wait()

    threading.Thread(target=last, name="ray", daemon=True).start()
    begun.result()


def _place(address: str | None) -> str:
    return f"a Ray at {address or 'this machine'}"


def _check_port(address: str | None) -> None:
    """Connect to a cluster's port once. Raises OSError: nothing answers there."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _work_off(common: Any, task: Any) -> tuple[bool, Any, int]:
    """Return (False, the result, bytes read), or (True, the exception, 0): one task, in a worker of Ray's."""
    use_one_thread()
    work, shared = common
    read: list[int] = []
    try:
        return False, work(shared, task, read.append), sum(read)
    except Exception as error:  # whatever the work raises is the caller's to see
        return True, portable(error), 0


def _why(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"expected a worker to finish; Ray gave it up after {ATTEMPTS} attempts: {first:.300}: "
        "look for a lack of memory, or leave the source out"
    )


def _library() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise SettingError("expected ray; it is not installed: run pip install 'normgauge[ray]'") from error
    return ray


@engines.register("ray")
def make_ray(address: str | None, workers: int | None) -> Engine:
    """Return the engine.

    Raises:
        SettingError: Ray is not installed, or workers below 1.
    """
    return RayEngine(address, workers)
