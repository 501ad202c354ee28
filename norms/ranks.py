"""Statistics over the batches of all ranks of a process group."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """The processes whose batches are one batch to a norm; a constant that copies share.

    All sums go through `total`, which autograd differentiates, twice too. Every rank must call the norms of a model
    in the same order, forward and backward.

    Args:
        group: a process group; None: the default one. Only with None can a model be pickled.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ranks":
        """Return itself: a process group cannot be copied."""
        return self

    @property
    def active(self) -> bool:
        """Whether there is anybody to share with: False without torch.distributed, or in a group of one."""
        return dist.is_available() and dist.is_initialized() and dist.get_world_size(self.group) > 1

    @property
    def index(self) -> int:
        """The rank of this process in the group."""
        return dist.get_rank(self.group)

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over the ranks of x, which has one shape on all of them.

        The gradient of x is the sum over the ranks of the gradients of the total, since each rank's loss depends
        on it.
        """
        summed: Tensor = _Total.apply(x, self.group)  # type: ignore[no-untyped-call]  # torch has no types here
        return summed

    def count(self, values: int, like: Tensor) -> Tensor:
        """Return the sum over the ranks of a whole number: 0-d, int64, on the device of `like`."""
        return self.total(torch.full((), values, dtype=torch.long, device=like.device))

    def gather(self, x: Tensor) -> Tensor:
        """Return x of all ranks side by side, stacked along a new first axis; x has one shape on all of them."""
        slots = torch.zeros((dist.get_world_size(self.group), *x.shape), dtype=x.dtype, device=x.device)
        index = torch.full((1,), self.index, device=x.device)
        return self.total(slots.index_copy(0, index, x[None]))

    def first(self, x: Tensor) -> Tensor:
        """Return the first rank's x, on every rank; x has one shape on all of them."""
        return self.total(x if self.index == 0 else torch.where(torch.zeros_like(x, dtype=torch.bool), x, 0.0))


class _Total(torch.autograd.Function):
    """The sum over ranks; its backward pass is one too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        summed = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(gradient, ctx.group), None  # type: ignore[no-untyped-call]  # as above
