"""What an epoch of AssessedLoader costs, as a ratio to the plain DataLoader's on the same data.

    python -m benchmarks.loader_cost [--repeats 21]

Both loaders shuffle and collate the same samples in one process run. Epochs alternate, the one that
goes first alternating too, so that a change of the machine's speed meets both; printed are the
median epoch of each and the median of the ratios of neighbouring epochs. The plan is made before.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from clients import AssessedLoader

TARGET = 1.02


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


def epoch_s(loader: Iterable[Any]) -> float:
    """Return the seconds that one pass takes."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def compare(dataset: Any, *, num_workers: int, repeats: int, batch_size: int = 32) -> tuple[float, float, float]:
    """Return the median seconds of a plain epoch, of an assessed one, and the median ratio of pairs."""
    more: dict[str, Any] = {"persistent_workers": True} if num_workers else {}
    plain = DataLoader(dataset, batch_size, shuffle=True, num_workers=num_workers, **more)
    ours = AssessedLoader(dataset, batch_size, num_workers=num_workers, progress=False, **more)
    assert len(ours.plan) == len(plain)
    epoch_s(plain), epoch_s(ours)  # workers start, caches fill
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            ours_s, plain_s = epoch_s(ours), epoch_s(plain)
        else:
            plain_s, ours_s = epoch_s(plain), epoch_s(ours)
        pairs.append((plain_s, ours_s))
    medians = [statistics.median(values) for values in zip(*pairs, strict=True)]
    return medians[0], medians[1], statistics.median(ours_s / plain_s for plain_s, ours_s in pairs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, help="pairs of epochs a line (default 21)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # collating is single-threaded in workers too
    print(f"{'data':<10}{'workers':>8}{'batches':>9}{'plain':>12}{'assessed':>12}{'ratio':>8}   target {TARGET}")
    for name, dataset, size in (("tensors", tensors(32 * 400), 400), ("images", Images(32 * 40), 40)):
        for num_workers in (0, 2):
            plain_s, ours_s, ratio = compare(dataset, num_workers=num_workers, repeats=arguments.repeats)
            each = [f"{seconds / size * 1e6:.1f} us" for seconds in (plain_s, ours_s)]
            print(f"{name:<10}{num_workers:>8}{size:>9}{each[0]:>12}{each[1]:>12}{ratio:>8.3f}")


if __name__ == "__main__":
    main()
