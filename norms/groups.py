"""Groups of samples: where they begin and end, in one process and over the batches of all ranks."""

import torch
from torch import Tensor

from norms.ranks import Ranks


def group_ranges(n: int, size: int, per_sample: int) -> list[tuple[int, int, int]]:
    """Return ranges [start, stop) of samples and the samples a group in each: full groups, then what is left.

    What is left joins the last full group where it would be a single value.

    Args:
        n: samples.
        size: samples a group, at most n.
        per_sample: values that a sample adds to a group.

    >>> group_ranges(7, 3, 5), group_ranges(7, 3, 1), group_ranges(6, 3, 1)
    ([(0, 6, 3), (6, 7, 1)], [(0, 3, 3), (3, 7, 4)], [(0, 6, 3)])
    """
    rest = n % size
    last = size + rest if rest * per_sample == 1 else rest
    ranges = [(0, n - last, size)] if last < n else []
    return ranges + ([(n - last, n, last)] if last else [])


class SharedGroups:
    """The groups of the batches of all ranks, one after the other as one batch; a group may lie on several ranks.

    Finding them reads the ranks' batch sizes, so it waits for the device.

    Args:
        n: samples on this rank.
        examples: samples a group; None: all.
        per_sample: values that a sample adds to a group.
        ranks: the processes.
        device: of the samples.

    Attributes:
        sizes: samples of each group, int64, shape (groups,), the same on every rank.
        member: the group of each sample of this rank, shape (n,).
        largest: samples of the largest group.
    """

    def __init__(self, n: int, examples: int | None, per_sample: int, ranks: Ranks, device: torch.device) -> None:
        counts: list[int] = ranks.gather(torch.full((), n, dtype=torch.long, device=device)).tolist()
        total, first = sum(counts), sum(counts[: ranks.index])
        ranges = group_ranges(total, total if examples is None else min(examples, total), per_sample)
        sizes = torch.tensor([size for start, stop, size in ranges for _ in range(start, stop, size)])
        self._ranks = ranks
        self.largest = int(sizes.max())
        self.sizes = sizes.to(device)
        groups = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.member = groups[first : first + n].to(device)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of each group, (groups, K), from x of shape (n, K, values)."""
        mean = self._average(x)
        return mean, self._average((x - mean[self.member][..., None]).square())

    def _average(self, x: Tensor) -> Tensor:
        sums = x.new_zeros(len(self.sizes), x.shape[1]).index_add(0, self.member, x.mean(2))
        return self._ranks.total(sums) / self.sizes.to(x.dtype)[:, None]
