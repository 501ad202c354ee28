"""What an epoch of AssessedLoader costs, as a ratio to the plain DataLoader's on the same data.

    python -m benchmarks.loader_cost [--seconds 25]

Both loaders shuffle and collate the same samples in one process; the plan is made before. Epochs come in fours, plain,
assessed, assessed, plain or the other way about, so that a machine that grows slower or faster meets both alike; a
four gives one ratio. Printed are the median epoch of each, per batch, and the median ratio with its 95 % interval
(bootstrap over the fours): of wall time, and of the processor time of this process and its workers together, which
other work on the machine disturbs less.
"""

import argparse
import multiprocessing
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, TensorDataset

from clients import AssessedLoader

TARGET = 1.02
RESAMPLES = 4000


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Images as a training script reads them: stored as bytes, scaled to floats when read."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.pixels[index].float().div_(255), index % 10


def tensors(count: int) -> TensorDataset:
    """Return tiny rows, for which any work per batch shows."""
    return TensorDataset(torch.randn(count, 16), torch.zeros(count, dtype=torch.long))


def busy_s() -> float:
    """Return the processor time of this process and its workers, in seconds; NaN where workers' cannot be read."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        try:
            threads = [path.read_text() for path in Path(f"/proc/{worker.pid}/task").glob("*/schedstat")]
        except OSError:
            return float("nan")
        total += sum(int(text.split()[0]) for text in threads) / 1e9 if threads else float("nan")
    return total


def epoch_s(loader: Iterable[Any]) -> NDArray[np.float64]:
    """Return what one pass takes, in seconds: wall time and processor time."""
    before = busy_s()
    start = time.perf_counter()
    for _ in loader:
        pass
    return np.array([time.perf_counter() - start, busy_s() - before])


@dataclass(frozen=True)
class Comparison:
    """Epochs measured; the last axis is wall time and processor time, in seconds.

    Attributes:
        plain: shape (fours, 2, 2).
        ours: likewise.
    """

    plain: NDArray[np.float64]
    ours: NDArray[np.float64]

    def ratio(self) -> NDArray[np.float64]:
        """Return the median ratio and the ends of its 95 % interval, shape (3, 2)."""
        ratios = self.ours.sum(1) / self.plain.sum(1)
        drawn = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
        low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975], axis=0)
        return np.stack([np.median(ratios, axis=0), low, high])


def compare(dataset: Any, *, num_workers: int, seconds: float, batch_size: int = 32) -> Comparison:
    """Return the epochs of a plain and an assessed loader that fit into the time, five fours at least."""
    more: dict[str, Any] = {"persistent_workers": True} if num_workers else {}
    plain = DataLoader(dataset, batch_size, shuffle=True, num_workers=num_workers, **more)
    ours = AssessedLoader(dataset, batch_size, num_workers=num_workers, progress=False, **more)
    assert len(ours.plan) == len(plain)
    epoch_s(plain), epoch_s(ours)  # workers start, caches fill
    measured: list[tuple[Any, Any]] = []
    coin, end = random.Random(0), time.perf_counter() + seconds
    while len(measured) < 5 or time.perf_counter() < end:
        if coin.random() < 0.5:
            first, inner, last = epoch_s(plain), (epoch_s(ours), epoch_s(ours)), epoch_s(plain)
            measured.append(((first, last), inner))
        else:
            first, inner, last = epoch_s(ours), (epoch_s(plain), epoch_s(plain)), epoch_s(ours)
            measured.append((inner, (first, last)))
    return Comparison(*(np.array(part) for part in zip(*measured, strict=True)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25, help="for each line (default 25)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # collating is single-threaded in workers too
    titles = ("data", "workers", "batches", "fours", "plain", "assessed", "wall time", "processor time")
    widths = (9, 9, 9, 7, 13, 13, 24, 24)
    print(*(title.rjust(width) for title, width in zip(titles, widths, strict=True)), sep="")
    for name, dataset, size in (("tensors", tensors(32 * 400), 400), ("images", Images(32 * 40), 40)):
        for num_workers in (0, 2):
            found = compare(dataset, num_workers=num_workers, seconds=arguments.seconds)
            each = [f"{np.median(part[..., 0]) / size * 1e6:.1f} us" for part in (found.plain, found.ours)]
            ratios = [f"{middle:.3f} [{low:.3f}, {high:.3f}]" for middle, low, high in found.ratio().T]
            cells = (name, num_workers, size, len(found.plain), *each, *ratios)
            print(*(str(cell).rjust(width) for cell, width in zip(cells, widths, strict=True)), sep="", flush=True)
    print(f"target: {TARGET}")


if __name__ == "__main__":
    main()
