"""One decision for all ranks of a step, where a layer synchronizes across them.

A gate that skips on one rank and normalizes on another would leave the second waiting for ever in
its layer's collective. The rule: a step is normalized on every rank when any rank's batch is
flagged. Where the plan holds all batches of the step, each rank knows this by itself; else the
ranks ask each other, which takes one all-reduce of a number.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from assessor import Decision
from clients.errors import LoaderError


def place_in_group() -> tuple[int, int]:
    """Return rank and world size of torch's process group, (0, 1) where there is none."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_place(rank: int | None, world_size: int | None) -> tuple[int, int] | None:
    """Return rank and world_size as given, None if neither is.

    Raises:
        LoaderError: only one of them, or a rank out of range.
    """
    if rank is None and world_size is None:
        return None
    integers = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (rank, world_size))
    if rank is None or world_size is None or not integers or not 0 <= rank < world_size:
        raise LoaderError(
            "expected rank and world_size together, integers, 0 <= rank < world_size; "
            f"got rank={rank!r}, world_size={world_size!r}"
        )
    return int(rank), int(world_size)


def in_group() -> bool:
    """Return whether there are other ranks to agree with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def agreed(decision: Decision) -> Decision:
    """Return the decision that all ranks share; every rank must call this at the same step.

    Raises:
        LoaderError: no process group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise LoaderError(
            "expected an initialized process group: the batches of this epoch are scored as they are read, so "
            "ranks can agree only by asking each other (torch.distributed.init_process_group)"
        )
    flag = torch.tensor(int(decision.normalize), device=_device())
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    if decision.normalize or not bool(flag):
        return decision
    reason = f"{decision.reason}; normalized all the same: another rank's batch of the same step is flagged"
    return replace(decision, normalize=True, reason=reason)


def _device() -> Any:
    # NCCL moves tensors of its own device only
    if "nccl" in str(dist.get_backend()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
