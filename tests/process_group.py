"""Leaving a gloo process group so that none of its threads outlives it."""

import contextlib
import gc
from pathlib import Path

import torch.distributed as dist


def leave() -> None:
    """End the process group when its last user has returned."""
    dist.barrier()  # no rank leaves while another still waits for it
    gc.collect()  # a Trainer and its modules refer to each other
    dist.destroy_process_group()
    check_ended()


def check_ended() -> None:
    """Check that the group's threads have ended; they do not where something still holds the group.

    A thread of gloo's needs the interpreter to free what it carried; where it meets it on its way out the process
    aborts, once in a while, which docs/training.md tells of.
    """
    names = []
    for task in Path("/proc/self/task").glob("*/comm"):  # none where there is no /proc
        with contextlib.suppress(OSError):  # a thread that ends just now
            names.append(task.read_text().strip())
    assert not any("gloo" in name for name in names), names
