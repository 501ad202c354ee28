"""Leaving a gloo process group so that none of its threads outlives it."""

import contextlib
import gc
import time
from pathlib import Path

import torch.distributed as dist

GONE_S = 60.0
"""Longest wait for threads that are joined already: the system lists one until it has run its last instructions."""


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
    deadline = time.monotonic() + GONE_S
    while threads := _gloos_threads():
        assert time.monotonic() < deadline, threads
        time.sleep(0.01)


def _gloos_threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").glob("*/comm"):  # none where there is no /proc
        with contextlib.suppress(OSError):  # a thread that ends just now
            names.append(task.read_text().strip())
    return [name for name in names if "gloo" in name]
