"""What an engine is: something that applies a function to many tasks, here or elsewhere."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

from assessor.kernels import choice
from assessor.registry import Registry

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
Report = Callable[[int], None]
"""Called with a number of bytes that were read."""
Work = Callable[[S, T, Report], R]
"""What a worker does: called with what all tasks share, one task and where to report bytes; all can be pickled."""

ATTEMPTS = 3
"""How often a task is begun whose worker dies."""


class EngineError(RuntimeError):
    """An engine cannot be started or goes on no longer."""


class WorkerLostError(EngineError):
    """The worker of a task died each time it was begun: killed, out of memory, or a crash in a library."""


class Engine(Protocol):
    """Applies functions to tasks. Engines differ in where; the results are the same.

    An engine is a context manager: leaving it stops its workers, whatever they are at.
    """

    name: str

    @property
    def workers(self) -> int:
        """Tasks that are worked on at a time."""
        ...

    def run(
        self, work: Work[S, T, R], shared: S, tasks: Iterable[T], on_bytes: Report
    ) -> Generator[tuple[T, R | WorkerLostError], None, None]:
        """Yield each task with its result, in the order of completion.

        Tasks are taken from the iterable as workers become free. A task whose worker dies is given to another one, up
        to `ATTEMPTS` times. Closing the iterator stops what is under way.

        Args:
            work: a function of a module, which the workers can import.
            shared: given to every call; sent to each worker once.
            tasks: what differs.
            on_bytes: called with what the workers report, while they work or when a task is done.

        Raises:
            EngineError: no worker can be started.
            Exception: `work` raised it.
        """
        ...

    def close(self) -> None:
        """Stop all workers; a closed engine may be run again, with new ones."""
        ...

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *exception: object) -> None: ...


engines: Registry[Callable[[str | None, int | None], Engine]] = Registry("engine")
"""By name, a function of an address (None: this machine) and a number of workers (None: as many as there are)."""


def open_engine(text: str, *, workers: int | None = None) -> Engine:
    """Return the engine that a text names, ready to be entered.

    Args:
        text: "serial", "processes", "ray", or "ray=ADDRESS" ("ray=auto", "ray=10.0.0.1:6379").
        workers: None takes the processors this process may use; for a Ray cluster, all of its own.

    Raises:
        UnknownNameError: no such engine. SettingError: workers below 1, or what it needs is not installed.

    >>> open_engine("serial").workers
    1
    """
    name, given, address = text.partition("=")
    return engines.get(name)(address if given else None, workers)


def use_one_thread() -> None:
    """Let the kernels of this worker use one thread: there are as many workers as processors."""
    choice().threads = 1


def portable(error: BaseException) -> BaseException:
    """Return an exception that can be pickled: itself, or its text."""
    import pickle

    try:
        restored: Any = pickle.loads(pickle.dumps(error))
        return error if type(restored) is type(error) else RuntimeError(repr(error))
    except Exception:  # an error's own pickling may raise anything; its text always travels
        return RuntimeError(repr(error))
