"""Memory that profiling a file takes: the peak of the process's own memory beyond what it held before, and the profile.

    python -m benchmarks.profile_memory [--megabytes 200] [--batch-size 32] [--only x.parquet]

Each file is profiled in a process of its own, after a small one of the same format, so that imports and compiled code
do not count. A process's own memory is RssAnon and RssShmem of /proc/self/status, looked at every millisecond: what it
alone holds. Pages of the file, mapped or cached, are not of it. The profile is the result: its bytes, as saved, are
told apart. Linux only.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from assessor import profile_shard
from assessor.kernels import warm
from benchmarks.support import fuzz_seeds

LIMIT_MB = 64
SHAPES = ((np.float32, 256), (np.float32, 3072), (np.float32, 49152), (np.uint8, 256 * 256 * 3))
"""dtype and features: a table, small and larger pictures."""
TEXT_VALUES = 4_000_000
"""Values of a text file: writing more takes longer than reading them tells."""
MAX_COLUMNS = 4096
RECORD_BATCH_BYTES = 8 << 20
SMALL_ROWS = 32
Write = Callable[[NDArray[Any], Path], object]


def main() -> int:
    """Print the table; return 1 where a file takes more than LIMIT_MB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200, help="values of a file, before they are packed")
    parser.add_argument("--batch-size", default="32", metavar="N[,N...]")
    parser.add_argument("--only", metavar="NAME", help="one kind of file, as the table names it")
    parser.add_argument("--child", nargs=2, metavar=("FILE", "SMALL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.batch_size.split(",")]
    if arguments.child:
        file, small = arguments.child
        print(json.dumps(watch(file, small, sizes)))
        return 0
    table = Table(
        title=f"{arguments.megabytes} MB of values, batches of {arguments.batch_size}; MB",
        box=SIMPLE_HEAD,
        title_justify="left",
    )
    for column in ("values", "file", "peak", "of it the profile", "without it"):
        table.add_column(column, justify="left" if column in ("values", "file") else "right")
    worst = 0.0
    for dtype, features in SHAPES:
        x = make_values(np.dtype(dtype), features, arguments.megabytes << 20)
        for name, write in kinds(x):
            if arguments.only not in (None, name):
                continue
            peak_mb, profile_mb = measure(x, name, write, arguments.batch_size)
            own = peak_mb - profile_mb
            print(f"{x.dtype} {x.shape} {name}: {own:.0f} MB beside the profile", file=sys.stderr, flush=True)
            table.add_row(f"{x.dtype} {x.shape}", name, f"{peak_mb:.0f}", f"{profile_mb:.1f}", f"{own:.0f}")
            worst = max(worst, own)
    Console(width=120).print(table)
    print(f"without the profile at most {worst:.0f} MB; limit {LIMIT_MB}")
    return int(worst > LIMIT_MB)


def make_values(dtype: np.dtype[Any], features: int, size_bytes: int) -> NDArray[Any]:
    """Return rows of so many bytes in all, integers as pixels are."""
    n = max(2 * SMALL_ROWS, size_bytes // (features * dtype.itemsize))
    x = np.random.default_rng(0).standard_normal((n, features), np.float32) * 30 + 120
    return x.clip(0, 255).astype(dtype)


def kinds(x: NDArray[Any]) -> Iterator[tuple[str, Write]]:
    """Yield the files that rows of this shape may stand in, by name, with what writes them."""
    yield "x.npy", lambda x, path: np.save(path, x)
    yield "x.npz", lambda x, path: np.savez(path, x=x)
    yield "deflated.npz", lambda x, path: np.savez_compressed(path, x=x)
    yield "x.safetensors", lambda x, path: safetensors.numpy.save_file({"x": x}, path)
    yield "x.arrow", _arrow
    yield "x.feather", _arrow
    yield "x.parquet", lambda x, path: path.write_bytes(fuzz_seeds.parquet(fuzz_seeds.table(x, lists="fixed")))
    yield "npy.tar", lambda x, path: _tar(path, {f"{k:06}.npy": fuzz_seeds.npy(row) for k, row in enumerate(x)})
    if x.shape[1] <= MAX_COLUMNS:
        yield "columns.parquet", lambda x, path: path.write_bytes(fuzz_seeds.parquet(fuzz_seeds.table(x)))
        yield "x.csv", lambda x, path: path.write_bytes(fuzz_seeds.csv_text(_few(x)))
        yield "x.ndjson", lambda x, path: path.write_bytes(fuzz_seeds.ndjson(_few(x), np.zeros(len(_few(x)), np.int64)))
    if x.dtype == np.uint8:
        yield "pictures", _folder
        yield "png.tar", lambda x, path: _tar(path, dict(_pictures(x)))


def measure(x: NDArray[Any], name: str, write: Write, batch_size: str) -> tuple[float, float]:
    """Return the peak of a fresh process that profiles the file, and the profile's size, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        file, small = Path(folder) / name, Path(folder) / "small" / name
        small.parent.mkdir()
        write(x, file)
        write(x[:SMALL_ROWS], small)
        arguments = ["--batch-size", batch_size, "--child", str(file), str(small)]
        out = subprocess.check_output([sys.executable, "-m", "benchmarks.profile_memory", *arguments], text=True)
    peak_mb, profile_mb = json.loads(out)
    return peak_mb, profile_mb


def watch(file: str, small: str, sizes: list[int]) -> tuple[float, float]:
    """Return what profiling a file adds to this process's memory at most, and the profile's size, in MB."""
    for dtype in ("float32", "float64", "uint8"):
        warm(dtype)
    profile_shard(small, batch_sizes=sizes)
    gc.collect()
    before = peak = own_mb()
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, own_mb())

    watcher = threading.Thread(target=look)
    watcher.start()
    profile = profile_shard(file, batch_sizes=sizes)
    done.set()
    watcher.join()
    return peak - before, len(profile.to_bytes()) / (1 << 20)


def own_mb() -> float:
    """Return the memory that this process alone holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) / 1024


def _few(x: NDArray[Any]) -> NDArray[Any]:
    return x[: max(SMALL_ROWS, TEXT_VALUES // x.shape[1])]


def _arrow(x: NDArray[Any], path: Path) -> None:
    rows = max(1, RECORD_BATCH_BYTES // x[0].nbytes)
    table = fuzz_seeds.table(x, lists="fixed")
    path.write_bytes(fuzz_seeds.arrow(table, batch_rows=rows, file=path.suffix == ".feather"))


def _pictures(x: NDArray[Any]) -> Iterator[tuple[str, bytes]]:
    for k, row in enumerate(x):
        yield f"{k:06}.png", fuzz_seeds.picture(row.reshape(-1, 256, 3))


def _folder(x: NDArray[Any], path: Path) -> None:
    path.mkdir()
    for name, data in _pictures(x):
        (path / name).write_bytes(data)


def _tar(path: Path, members: dict[str, bytes]) -> None:
    path.write_bytes(fuzz_seeds.tar(members))


if __name__ == "__main__":
    sys.exit(main())
