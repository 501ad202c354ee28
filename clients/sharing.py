"""One assessment for all ranks: the first that needs a plan makes it, the others wait for it and read it.

It passes through the store of torch's process group, which ranks may reach at any time and in any order: nothing hangs
where one rank alone asks for a plan, as it would in a collective.
"""

import time
import zlib
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from assessor import Plan
from clients.errors import LoaderError

# A TCPStore takes values of up to 8 MiB.
_PIECE_BYTES = 4 * 2**20

_FIRST_DELAY_S = 0.02
_LONGEST_DELAY_S = 0.5


def plan_of_all(name: str, assess: Callable[[], Plan]) -> Plan:
    """Return the plan of this name, made by the first of all ranks that asks for it.

    Args:
        name: of the content, the layout and the settings: ranks that would make another plan call it otherwise.
        assess: makes the plan, on the rank that comes first.

    Raises:
        LoaderError: the rank that came first failed; says which and why.
    """
    store = _store()
    if store is None:
        return assess()
    if store.add(f"{name}/asked", 1) > 1:
        return _awaited(store, name)
    try:
        plan = assess()
    except BaseException as error:  # Ctrl-C too: the other ranks must not wait for a plan that never comes
        _put(store, name, f"error rank {dist.get_rank()}: {type(error).__name__}: {error}".encode())
        raise
    _put(store, name, f"plan {plan.to_json()}".encode())
    return plan


def _store() -> Any:
    """Return the process group's store, None where it has none (MPI)."""
    # here, since a build of torch without distributed has neither
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch exports it by a star
    from torch.distributed.distributed_c10d import _get_default_store

    store = _get_default_store()
    return None if store is None else PrefixStore("normgauge", store)


def _put(store: Any, name: str, content: bytes) -> None:
    packed = zlib.compress(content, 1)
    pieces = [packed[start : start + _PIECE_BYTES] for start in range(0, len(packed), _PIECE_BYTES)]
    for number, piece in enumerate(pieces):
        store.set(f"{name}/{number}", piece)
    store.set(f"{name}/pieces", str(len(pieces)))  # last: it says that all are there


def _awaited(store: Any, name: str) -> Plan:
    delay_s = _FIRST_DELAY_S
    while not store.check([f"{name}/pieces"]):  # a pass over the data takes its time: no limit but the store's own life
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
    count = int(store.get(f"{name}/pieces"))
    packed = b"".join(store.get(f"{name}/{number}") for number in range(count))
    kind, _, text = zlib.decompress(packed).decode().partition(" ")
    if kind == "plan":
        return Plan.from_json(text)
    raise LoaderError(
        f"expected the plan that another rank was making for all; it failed: {text}. See that rank's own traceback"
    )
