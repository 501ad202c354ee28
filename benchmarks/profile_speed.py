"""Speed of profiling against a bare one-pass sum of the same array and against peers, in one run.

    python -m benchmarks.profile_speed [--rows 19200] [--features 3072] [--repeats 7]

Each figure is bytes per second over those of the bare sum: `numpy.add.reduce` on as many threads as the kernel uses.
Before it, what the kernel's first use costs: compiled once a machine, then read from numba's cache by each process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.preprocessing import StandardScaler

from assessor import profile_array
from assessor.kernels import choice, warm

BATCH_SIZE = 32


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600 * BATCH_SIZE)
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    console = Console(width=120)
    console.print(first_use())
    rng = np.random.default_rng(0)
    console.print(whylogs_line((rng.standard_normal((2000, 64)) * 30 + 120).astype(np.float32)))
    for dtype in (np.float32, np.uint8):
        x = (rng.standard_normal((arguments.rows, arguments.features), np.float32) * 30 + 120).astype(dtype)
        console.print(compare(x, arguments.repeats))


def first_use() -> Table:
    """Return a table of the seconds until the kernel is ready, in two fresh processes that share an empty cache."""
    code = (
        "import time; import assessor.kernels as k; s = time.perf_counter(); k.warm({!r}); "
        "print(time.perf_counter() - s)"
    )
    table = Table(title="first use of the kernel in a process, seconds", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("dtype")
    table.add_column("compiled, once a machine", justify="right")
    table.add_column("from the cache", justify="right")
    for dtype in ("float32", "uint8"):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"NUMBA_CACHE_DIR": folder, "NORMGAUGE_KERNEL": "compiled"}
            seconds = [
                float(subprocess.check_output([sys.executable, "-c", code.format(dtype)], env=environment))
                for _ in range(2)
            ]
        table.add_row(dtype, f"{seconds[0]:.1f}", f"{seconds[1]:.2f}")
    return table


def compare(x: NDArray[Any], repeats: int) -> Table:
    """Return a table of the contenders on one array; they take turns, and each's median counts."""
    warm(x.dtype.name)
    threads = choice().threads
    contenders: dict[str, Callable[[], object]] = {
        f"bare sum, {threads} threads": lambda: bare_sum(x, threads),
        "bare sum, 1 thread": lambda: bare_sum(x, 1),
        "profile, compiled kernel": lambda: profile(x, "compiled", threads),
        "profile, compiled kernel, 1 thread": lambda: profile(x, "compiled", 1),
        "profile, NumPy path": lambda: profile(x, "numpy", threads),
        "numpy var over batches": lambda: x.reshape(-1, BATCH_SIZE, x.shape[1]).var(axis=1),
        "scikit-learn StandardScaler.partial_fit": lambda: scaler(x),
    }
    try:
        import torch

        tensor = torch.from_numpy(x.reshape(-1, BATCH_SIZE, x.shape[1]))
        if tensor.is_floating_point():
            contenders["torch var_mean over batches"] = lambda: torch.var_mean(tensor, dim=1)
    except ModuleNotFoundError:
        pass
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    bare = medians[f"bare sum, {threads} threads"]
    table = Table(
        title=f"{x.dtype.name} {x.shape}, batch size {BATCH_SIZE}, {x.nbytes / 1e6:.0f} MB, medians of {repeats}",
        box=SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("what")
    table.add_column("GB/s", justify="right")
    table.add_column("over the bare sum", justify="right")
    for name, median in medians.items():
        table.add_row(name, f"{x.nbytes / median / 1e9:.2f}", f"{bare / median:.3f}")
    return table


def whylogs_line(x: NDArray[np.float32]) -> str:
    """Return what the data profiler whylogs takes for a small array; it is too slow for the large one.

    It keeps sketches of each column's distribution, but no batches.
    """
    os.environ.setdefault("WHYLOGS_NO_ANALYTICS", "True")  # read at import: no calls home
    try:
        import pandas as pd
        import whylogs
    except ImportError:
        return "whylogs: not installed; to compare: pip install -c constraints.txt whylogs pandas"
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])])
    rates = []
    for run in (lambda: whylogs.log(frame).profile().view(), lambda: profile(x, "compiled", 1)):
        run()
        start = time.perf_counter()
        run()
        rates.append(x.nbytes / (time.perf_counter() - start) / 1e6)
    return (
        f"float32 {x.shape}: whylogs {rates[0]:.2f} MB/s, profile {rates[1]:.1f} MB/s ({rates[1] / rates[0]:.0f} times)"
    )


def bare_sum(x: NDArray[Any], threads: int) -> float:
    """Return the sum of all values, each thread over its share."""
    shares = np.array_split(x.reshape(-1), threads)
    with ThreadPoolExecutor(threads) as pool:
        return float(sum(pool.map(np.add.reduce, shares)))


def profile(x: NDArray[Any], kernel: str, threads: int) -> object:
    """Return the profile, made by one kernel."""
    chosen = choice()
    before = chosen.name, chosen.threads
    chosen.name, chosen.threads = kernel, threads
    try:
        return profile_array(x, batch_sizes=[BATCH_SIZE])
    finally:
        chosen.name, chosen.threads = before


def scaler(x: NDArray[Any]) -> object:
    """Return a scaler fitted batch by batch, as one would to stream."""
    fitted = StandardScaler()
    for start in range(0, len(x), 100 * BATCH_SIZE):
        fitted.partial_fit(x[start : start + 100 * BATCH_SIZE])
    return fitted


if __name__ == "__main__":
    main()
