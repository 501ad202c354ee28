"""Functions for the workers of the engines' tests; run as a program, it works until it is interrupted."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from assessor.execution import open_engine

Report = Callable[[int], None]


def add(shared: int, task: int, report: Report) -> int:
    """Return the sum."""
    report(task)
    return shared + task


def die_on(shared: tuple[str, int], task: int, report: Report) -> int:
    """Return the task; kill the worker on those that `shared` says, until it has been done so often."""
    folder, times = shared
    deaths = sorted(Path(folder).glob(f"{task}.*"))
    if task % 5 == 3 and len(deaths) < times:
        Path(folder, f"{task}.{len(deaths)}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def tell_process(shared: None, task: int, report: Report) -> int:
    """Return this process's number, after a moment, so that other workers take the next tasks."""
    time.sleep(0.3)
    return os.getpid()


def tell_span(shared: None, task: int, report: Report) -> tuple[float, float]:
    """Return when the task began and when it ended, by a clock that all processes of a machine share."""
    began = time.monotonic()
    time.sleep(0.2)
    return began, time.monotonic()


def fail(shared: None, task: int, report: Report) -> int:
    """Raise what no engine knows."""
    raise ZeroDivisionError(f"task {task}")


def hang_up(shared: None, task: int, report: Report) -> int:
    """Close this process's pipe, and stay."""
    for pipe in [thing for thing in gc.get_objects() if isinstance(thing, Connection)]:
        pipe.close()
    time.sleep(600)
    return task


def wait_long(shared: str, task: int, report: Report) -> int:
    """Note this process's number in a folder, and wait."""
    Path(shared, str(os.getpid())).touch()
    time.sleep(600)
    return task


if __name__ == "__main__":
    with open_engine(sys.argv[1], workers=2) as engine:
        list(engine.run(wait_long, sys.argv[2], range(4), print))
