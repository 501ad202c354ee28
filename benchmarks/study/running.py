"""Runs cells in worker processes and keeps what they found: stopped at any moment, the next run goes on from there.

A worker hands its records up one by one; the parent, the only writer, adds a cell to its part's file in one write when
the cell is finished. So a file holds whole cells, and at most the torn end of one.
"""

import fcntl
import os
import platform
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Never

from tqdm import tqdm

from benchmarks.study.kept import clean
from benchmarks.study.records import Finished, Record, Result, Setting, append


@dataclass(frozen=True)
class Cell:
    """One cell to be run.

    Attributes:
        setting: what is run.
        arms: what is compared in it; with other arms than last time the cell is run again.
        seeds: of its runs; likewise.
        cost: expected seconds on one core; weighs the progress, and nothing else.
        work: a function of a module's top level that yields the cell's records, all of this setting.
        device: "cpu" or "cuda".
    """

    setting: Setting
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    cost: float
    work: Callable[["Cell"], Iterable[Record]]
    device: str = "cpu"


@dataclass(frozen=True)
class Failure:
    """A cell that could not be run, and why."""

    setting: Setting
    reason: str


@dataclass
class _Worker:
    process: BaseProcess
    pipe: "connection.Connection[Cell, Record | Finished | Failure]"
    cell: Cell | None = None
    records: list[Record] = field(default_factory=list)


def path_of(folder: Path, part: str) -> Path:
    """Return the file that keeps a part's records."""
    return folder / f"{part}.jsonl"


def run(cells: Sequence[Cell], folder: Path, *, jobs: int = 2) -> list[Failure]:
    """Run the cells that the folder does not hold yet, `jobs` at a time, in their order; return those that failed.

    Args:
        cells: what to run; of cells kept under other steps, arms or seeds the old records are removed.
        folder: of the results, one file a part; made where it is missing.
        jobs: worker processes, 1 or more; each should compute on one thread.

    Raises:
        BlockingIOError: another run writes to this folder.
        KeyboardInterrupt: passed on, after the workers have ended; the finished cells are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        parts = sorted({cell.setting.part for cell in cells})
        done = {setting for part in parts for setting in clean(path_of(folder, part), _wanted(cells, part))}
        waiting = deque(cell for cell in cells if cell.setting not in done)
        failures: list[Failure] = []
        with _bar(cells, waiting) as bar:
            for failure in _work_off(waiting, folder, jobs, bar):
                failures.append(failure)
                bar.write(f"failed: {failure.setting}\n{failure.reason}")
        _note(failures, folder / "failures.txt")
        return failures


def _note(failures: Sequence[Failure], path: Path) -> None:
    """Keep the failures of the last run that came to its end in a file; none, no file."""
    path.unlink(missing_ok=True)
    if failures:
        path.write_text("".join(f"{failure.setting}\n{failure.reason}\n" for failure in failures), encoding="utf-8")


def _wanted(cells: Sequence[Cell], part: str) -> dict[Setting, tuple[tuple[str, ...], tuple[int, ...]]]:
    return {cell.setting: (cell.arms, cell.seeds) for cell in cells if cell.setting.part == part}


def _work_off(waiting: deque[Cell], folder: Path, jobs: int, bar: "tqdm[Never]") -> Iterator[Failure]:
    """Give the workers cells until none is left, and yield the failures."""
    workers = [_start() for _ in range(min(jobs, len(waiting)))]
    try:
        for worker in workers:
            _give(worker, waiting.popleft())
        while busy := {worker.pipe: worker for worker in workers if worker.cell is not None}:
            for pipe in connection.wait(list(busy)):
                worker = next(worker for known, worker in busy.items() if known is pipe)
                cell, message = worker.cell, _receive(worker)
                assert cell is not None
                if isinstance(message, Finished | Failure):
                    bar.update(_units(cell) - _units(cell, worker.records))
                    if isinstance(message, Finished):
                        append(path_of(folder, cell.setting.part), *worker.records, message)
                    else:
                        yield message
                    worker.cell = None
                    if not worker.process.is_alive():
                        workers.remove(worker)
                        if waiting:
                            workers.append(worker := _start())
                    if waiting:
                        _give(worker, waiting.popleft())
                else:
                    before = _units(cell, worker.records)
                    worker.records.append(message)
                    bar.update(_units(cell, worker.records) - before)
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.process.join()
            worker.pipe.close()


def _start() -> _Worker:
    """Start a worker. Ctrl-C is the parent's business: the worker ignores it from its first instruction on."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, cell: Cell) -> None:
    worker.cell, worker.records = cell, []
    # A worker that is gone already shows in the next receive.
    with _gone_is_fine():
        worker.pipe.send(cell)


def _receive(worker: _Worker) -> Record | Finished | Failure:
    """Return a worker's next message; the end of its process is a failure of its cell."""
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        code = worker.process.exitcode
        assert worker.cell is not None
        return Failure(worker.cell.setting, f"the worker process ended with exit code {code} (-9: killed, memory?)")


def _units(cell: Cell, records: Sequence[Record] | None = None) -> int:
    """Return the progress that a cell is worth, in milliseconds: all of it, or as far as its records tell.

    Whole numbers, so that the bar's sum is its total exactly.
    """
    whole = max(1, round(1000 * cell.cost))
    if records is None:
        return whole
    results = sum(isinstance(record, Result) for record in records)
    return whole * min(results, len(cell.arms)) // max(1, len(cell.arms))


def _serve(pipe: "connection.Connection[Record | Finished | Failure, Cell]") -> None:
    """Work off cells until the parent is gone, which a closed pipe tells."""
    with _gone_is_fine():
        while True:
            cell = pipe.recv()
            try:
                started = time.process_time()
                for record in cell.work(cell):
                    if record.setting != cell.setting:
                        raise ValueError(f"expected records of {cell.setting}, got one of {record.setting}")
                    pipe.send(record)
                pipe.send(_finished(cell, time.process_time() - started))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception:  # whatever a cell does wrong is reported, and the next one is run
                pipe.send(Failure(cell.setting, traceback.format_exc()))


def _finished(cell: Cell, seconds: float) -> Finished:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    versions = {"python": platform.python_version(), "torch": version("torch")}
    return Finished(cell.setting, cell.arms, cell.seeds, date, round(seconds, 1), cell.device, versions)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BlockingIOError(f"another run writes to {folder}: wait for its end, or give another --results") from error
    finally:
        os.close(handle)


def _bar(cells: Sequence[Cell], waiting: Sequence[Cell]) -> "tqdm[Never]":
    """Return a progress bar over expected seconds of work, so that its remaining time weighs dear cells as such."""
    left, total = (sum(_units(cell) for cell in some) for some in (waiting, cells))
    form = "{l_bar}{bar}| {elapsed} < {remaining}"
    return tqdm(total=total, initial=total - left, bar_format=form, desc=f"{len(waiting)} of {len(cells)} cells to do")
