"""A worker holds a few megabytes of what it reads, however large the block: the bound is 64 MB, in any format.

Counted is what comes on top of what the worker has after smaller blocks, what its allocator keeps of them included.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import safetensors.numpy

from assessor.execution import profile_sources
from assessor.execution.mapping import JOINED_ROW_BYTES
from assessor.execution.processes import ProcessEngine
from assessor.sources import StoreSettings
from tests.object_stores import KEYS, Gated

FEATURES = 1024
ROWS = 32_000
"""131 MB."""
BOUND_MB = 64


def table(x: Any) -> Any:
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), FEATURES)})


def write_npy(path: Path, x: Any) -> None:
    np.save(path, x)


def write_safetensors(path: Path, x: Any) -> None:
    safetensors.numpy.save_file({"x": x}, path)


def write_arrow(path: Path, x: Any) -> None:
    batch = table(x)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_table(batch, max_chunksize=1000)


def write_parquet(path: Path, x: Any) -> None:
    pa.parquet.write_table(table(x), path, row_group_size=len(x), use_dictionary=False)


def write_columns(path: Path, x: Any) -> None:
    names = [f"f{k}" for k in range(FEATURES)]
    pa.parquet.write_table(pa.table(list(x.T), names=names), path, row_group_size=len(x), use_dictionary=False)


WRITERS: dict[str, Callable[[Path, Any], None]] = {
    "x.npy": write_npy,
    "x.safetensors": write_safetensors,
    "x.arrow": write_arrow,
    "x.parquet": write_parquet,
    "columns.parquet": write_columns,
}


@pytest.fixture(scope="module")
def worker() -> Iterator[ProcessEngine]:
    with ProcessEngine(1) as engine:
        yield engine


def held_mb(pid: int) -> float:
    """Return the memory of a process's own; mapped files, which the system may drop, do not count."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def grows_mb(pid: int, read: Callable[[], Any]) -> float:
    """Return by how much a process's memory grows at most, while something is read."""
    seen = [held_mb(pid)]
    over = Event()

    def watch() -> None:
        while not over.wait(0.005):
            seen.append(held_mb(pid))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        read()
    finally:
        over.set()
        watcher.join()
    return max(seen) - seen[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("place", ["file", "bucket"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_block_is_not_held(worker: ProcessEngine, tmp_path: Path, name: str, place: str) -> None:
    x = np.random.default_rng(0).standard_normal((ROWS, FEATURES), np.float32)
    small, large = tmp_path / f"small.{name}", tmp_path / f"large.{name}"
    WRITERS[name](small, x[:10_000])  # loads what a worker loads once: the kernel, the format's library
    WRITERS[name](large, x)
    store = Gated()

    def run(path: Path, rows: int) -> None:
        source, settings = str(path), StoreSettings()
        if place == "bucket":
            store.objects[f"/data/{path.name}"] = path.read_bytes()
            source = f"s3://data/{path.name}"
            settings = StoreSettings(endpoint=store.url, **KEYS)  # type: ignore[arg-type]  # no booleans
        found = profile_sources([source], batch_sizes=[32], engine=worker, block_bytes=1 << 30, stores=settings)
        assert found.profile.n_rows == rows

    with store.serving():
        run(small, 10_000)
        [pid] = worker.pids
        assert grows_mb(pid, lambda: run(large, ROWS)) < BOUND_MB
        assert worker.pids == (pid,)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_joined_blocks_are_not_held(worker: ProcessEngine, tmp_path: Path) -> None:
    """Eight blocks of the longest rows that are joined: their profiles wait for each other."""
    features = JOINED_ROW_BYTES // 4
    x = np.random.default_rng(0).standard_normal((17 * 512, features), np.float32)
    np.save(tmp_path / "small.npy", x[:512])
    np.save(tmp_path / "large.npy", x)

    def run(path: Path) -> None:
        profile_sources([path], batch_sizes=[31], engine=worker, block_bytes=512 * JOINED_ROW_BYTES)

    run(tmp_path / "small.npy")
    [pid] = worker.pids
    assert grows_mb(pid, lambda: run(tmp_path / "large.npy")) < BOUND_MB
    assert worker.pids == (pid,)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("features", "rows"), [(1, 12_000_000), (16, 6_000_000), (100_000, 700)])
def test_narrow_and_wide_rows_are_not_held(worker: ProcessEngine, tmp_path: Path, features: int, rows: int) -> None:
    """Of narrow rows it is what is kept of each that adds up; the files are larger than a block."""
    for name, n_rows in (("small", rows // 10), ("large", rows)):
        np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float32, (n_rows, features))

    def run(name: str) -> None:
        profile_sources([tmp_path / f"{name}.npy"], batch_sizes=[32], engine=worker, block_bytes=256 << 20)

    run("small")
    [pid] = worker.pids
    assert grows_mb(pid, lambda: run("large")) < BOUND_MB
    assert worker.pids == (pid,)
