"""Engines: bytes/s of serial, processes and Ray at 1 and 2 workers, memory of the workers, and the cost of a source.

    python -m benchmarks.scaling                        # 4.3 GB of shards in a temporary folder, some minutes
    python -m benchmarks.scaling --gigabytes 0.5 --rounds 1

The shards are float32, 3,072 features: three quarters of the bytes in files of 256 MB, the rest in one file, which is
cut. They are read from the page cache, so what is measured is the processor, not a disk. Engines are started and have
loaded the kernel before the clock starts; how long that takes is printed apart. So is the first run over the shards, in
which processes that were started a moment ago come to rest; an engine's figure in a round is the median of three runs
after it. All runs must give the same profile.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from assessor.execution import Engine, open_engine, profile_sources
from assessor.kernels.dispatch import choice
from assessor.sources import SourceUri, StoreSettings, open_store
from assessor.sources.ranged import read_range

FEATURES = 3072
SHARD_ROWS = 21_845
"""256 MB."""
ENGINES = (("serial", 1), ("processes", 1), ("processes", 2), ("ray", 1), ("ray", 2))
BATCH_SIZES = (32,)
WARM_RUNS = 3


def write_shards(folder: Path, size_bytes: int) -> int:
    """Write the shards; return their bytes."""
    random = np.random.default_rng(0)
    rows = size_bytes // (4 * FEATURES)
    sizes = [SHARD_ROWS] * max(1, rows * 3 // 4 // SHARD_ROWS)
    sizes.append(max(1, rows - sum(sizes)))
    for number, n in enumerate(sizes):
        shard = np.lib.format.open_memmap(folder / f"{number:03}.npy", "w+", np.float32, (n, FEATURES))
        for start in range(0, n, 4096):
            stop = min(n, start + 4096)
            shard[start:stop] = random.standard_normal((stop - start, FEATURES), np.float32) * random.gamma(2)
        shard.flush()
    return sum(path.stat().st_size for path in folder.iterdir())


def peak_of_worker(reset: bool, task: int, report: Callable[[int], None]) -> tuple[int, int]:
    """Return a worker's process number and the most memory that it had, in bytes, since it was last set back."""
    time.sleep(0.2)  # so that another worker takes the next of these tasks
    status = Path("/proc/self/status").read_text()
    name = "VmRSS" if reset else "VmHWM"
    kib = int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return os.getpid(), kib << 10


def memory_of_workers(engine: Engine, *, reset: bool) -> dict[int, int]:
    """Return bytes by worker."""
    return dict(result for _, result in engine.run(peak_of_worker, reset, range(3 * engine.workers), int))  # type: ignore[arg-type, misc]


def run(folder: Path, engine: Engine) -> tuple[float, bytes]:
    """Return the seconds that the shards take, and the profile."""
    began = time.perf_counter()
    assessed = profile_sources([f"{folder}/*.npy"], batch_sizes=BATCH_SIZES, engine=engine)
    return time.perf_counter() - began, assessed.profile.to_bytes()


@dataclass
class Measured:
    """What was measured of an engine, a value a round."""

    start_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)
    growth_mb: list[float] = field(default_factory=list)


def measure_engines(folder: Path, warm_up: Path, size_bytes: int, rounds: int) -> None:
    """Print a line an engine. Each round has all engines, one after another, so that they meet the same machine."""
    measured = {key: Measured() for key in ENGINES}
    profiles = set()
    peak_of_worker(True, 0, int)  # type: ignore[arg-type]
    for key in ENGINES * rounds:
        began = time.perf_counter()
        with open_engine(key[0], workers=key[1]) as engine:
            run(warm_up, engine)
            here = measured[key]
            here.start_s.append(time.perf_counter() - began)
            before = memory_of_workers(engine, reset=True)
            runs = [run(folder, engine) for _ in range(1 + WARM_RUNS)]
            after = memory_of_workers(engine, reset=False)
        here.first_s.append(runs[0][0])
        here.warm_s.append(statistics.median(took for took, _ in runs[1:]))
        here.growth_mb += [(after[pid] - before[pid]) / 2**20 for pid in set(before) & set(after)]
        profiles |= {profile for _, profile in runs}
    print(f"\n{size_bytes / 1e9:.2f} GB, {rounds} rounds, all profiles the same: {len(profiles) == 1}")
    print(
        "engine     workers  seconds: median (rounds)              GB/s  times serial  times 1 worker"
        "  first run  start s  MB more"
    )
    for key, here in measured.items():
        name, workers = key
        middle = statistics.median(here.warm_s)
        every = " ".join(f"{value:.2f}" for value in here.warm_s)
        of_serial, of_one = (_times(measured[base].warm_s, here.warm_s) for base in (("serial", 1), (name, 1)))
        print(
            f"{name:<10} {workers:>7}  {middle:6.2f} ({every})".ljust(55)
            + f"{size_bytes / middle / 1e9:6.2f}  {of_serial:>12}  {of_one:>14}"
            + f"  {statistics.median(here.first_s):9.2f}  {statistics.median(here.start_s):7.1f}"
            + f"  {max(here.growth_mb, default=float('nan')):7.0f}"
        )
    own = peak_of_worker(False, 0, int)[1] / 2**20  # type: ignore[arg-type]
    print(f"most memory of this process, which gathers, in all runs: {own:.0f} MB (the serial engine works in it)")


def _times(base: list[float], seconds: list[float]) -> str:
    """Return how much faster a round was than the base in the same round: median, lowest and highest."""
    ratios = [a / b for a, b in zip(base, seconds, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.1f}-{max(ratios):.1f})"


def alone(folder: Path, warm_up: Path, ready: Barrier, seconds: "Queue[float]") -> None:
    """Profile the shards in this process with one thread, when all others are ready; tell how long it took."""
    choice().threads = 1
    with open_engine("serial") as engine:
        run(warm_up, engine)
        ready.wait()
        seconds.put(run(folder, engine)[0])


def measure_ceiling(folder: Path, warm_up: Path, rounds: int) -> None:
    """Print what two serial runs that share nothing but the machine get at once: no engine with two workers gets more.

    Each reads all the shards, so both together do twice the work of one.
    """
    context = get_context("spawn")
    ratios = []
    for _ in range(rounds):
        slowest = []
        for n in (1, 2):
            ready, seconds = context.Barrier(n), context.Queue()
            runs = [context.Process(target=alone, args=(folder, warm_up, ready, seconds)) for _ in range(n)]
            for process in runs:
                process.start()
            slowest.append(max(seconds.get() for _ in runs))
            for process in runs:
                process.join()
        ratios.append(2 * slowest[0] / slowest[1])
    print(
        f"ceiling: two serial runs at once, each by itself, do {statistics.median(ratios):.2f} times the work of "
        f"one ({min(ratios):.2f}-{max(ratios):.2f})"
    )


def measure_reading(folder: Path) -> None:
    """Print how fast one process reads without profiling."""
    total, began = 0, time.perf_counter()
    for path in sorted(folder.iterdir()):
        uri = SourceUri.parse(f"file://{path}")
        store = open_store(uri, StoreSettings())
        source = store.find(uri)
        total += sum(len(piece) for piece in read_range(store, source, 0, source.size_bytes))
    print(f"reading only, one process: {total / (time.perf_counter() - began) / 1e9:.2f} GB/s")


def measure_sources(folder: Path, n: int) -> None:
    """Print what a source costs beside its bytes."""
    small = np.zeros((32, 16), np.float32)
    for number in range(n):
        np.save(folder / f"{number:05}.npy", small + number)
    print(f"\n{n} sources of 2 kB")
    for name, workers in (("serial", 1), ("processes", 1), ("processes", 2), ("ray", 2)):
        with open_engine(name, workers=workers) as engine:
            list(engine.run(peak_of_worker, True, range(workers), int))  # type: ignore[arg-type]
            took, _ = run(folder, engine)
        print(f"{name:<12} {workers} worker(s): {took / n * 1e3:.2f} ms a source")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sources", type=int, default=2000)
    options = parser.parse_args(arguments)
    choice().threads = 1  # as in the workers: the serial engine is measured with one processor
    with tempfile.TemporaryDirectory() as top:
        big, small, warm = (Path(top, name) for name in ("big", "small", "warm"))
        for folder in (big, small, warm):
            folder.mkdir()
        size_bytes = write_shards(big, int(options.gigabytes * 1e9))
        write_shards(warm, 100_000_000)
        measure_reading(big)
        measure_reading(big)
        measure_ceiling(big, warm, options.rounds)
        measure_engines(big, warm, size_bytes, options.rounds)
        measure_sources(small, options.sources)


if __name__ == "__main__":
    main()
