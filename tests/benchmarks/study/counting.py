"""A small real study for the runner's tests: integrals by midpoints, with cells that fail or end their process.

`python -m tests.benchmarks.study.counting FOLDER GATE` runs it; all cells but the first `OPEN` come as far as their
first record and wait there until the file GATE is gone.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.study.records import Record, Result, Run, Setting
from benchmarks.study.running import Cell, run

ARMS = ("sin", "cos", "exp")
SEEDS = (1, 2)
OPEN = 3
SETTING = Setting("grid", "digits", "raw", "mlp", 1, "sgd", 1000)


def integrate(cell: Cell) -> Iterator[Record]:
    """Yield the integral from 0 to 1 of each arm, by as many midpoints as the setting has steps."""
    gate = os.environ.get("COUNTING_GATE")
    for number, arm in enumerate(cell.arms):
        while gate and number == 1 and cell.setting.batch_size > OPEN and os.path.exists(gate):
            time.sleep(0.01)
        points = (np.arange(cell.setting.steps) + 0.5) / cell.setting.steps
        value = float(getattr(np, arm)(points).mean())
        runs = tuple(Run(seed, {"": value}, None, False, 0.0, 0.0) for seed in cell.seeds)
        yield Result(cell.setting, arm, 0.1, {}, runs)


def divide(cell: Cell) -> Iterator[Record]:
    """Yield one record, then fail."""
    yield next(integrate(cell))
    raise ZeroDivisionError(f"at batch size {cell.setting.batch_size}")


def leave(cell: Cell) -> Iterator[Record]:
    """Yield one record, then end the process, as the system does when memory runs out."""
    yield next(integrate(cell))
    os._exit(7)


def stray(cell: Cell) -> Iterator[Record]:
    """Yield a record of another cell."""
    yield replace(next(integrate(cell)), setting=replace(cell.setting, family="wine"))


def cells(count: int = 6) -> list[Cell]:
    """Return cells that differ in batch size, in two parts."""
    settings = [
        replace(SETTING, batch_size=number + 1, part="sources" if number % 2 else "grid") for number in range(count)
    ]
    return [Cell(setting, ARMS, SEEDS, 1.0 + index, integrate) for index, setting in enumerate(settings)]


if __name__ == "__main__":
    os.environ["COUNTING_GATE"] = sys.argv[2]
    run(cells(), Path(sys.argv[1]))
