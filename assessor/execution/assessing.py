"""A dataset in many objects to one profile: find, look, cut, map, merge.

The objects' headers say how many rows each has, so every block knows its first row and can be profiled by itself, in
any order, anywhere. Profiles merge to the same bits in any order (docs/architecture.md), so the result is that of one
process.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from assessor.errors import SettingError
from assessor.execution.checkpoint import Checkpoint
from assessor.execution.engines import Engine, open_engine
from assessor.execution.gathering import Gathering
from assessor.execution.locations import Listed, find_sources
from assessor.execution.looking import look_at
from assessor.execution.mapping import map_blocks
from assessor.execution.outcome import Assessed
from assessor.execution.progress import NoProgress, Progress
from assessor.execution.work import Placed, Settings
from assessor.sources.blocks import cut
from assessor.sources.extents import Extent
from assessor.sources.settings import StoreSettings

ON_ERROR = ("stop", "skip")
SMALLEST_BLOCK = 16 << 20
USUAL_BLOCK = 256 << 20
LARGEST_BLOCK = 8 << 30


def profile_sources(
    places: Sequence[str | os.PathLike[str] | Listed],
    *,
    batch_sizes: Sequence[int],
    engine: str | Engine = "processes",
    workers: int | None = None,
    on_error: str = "stop",
    checkpoint: str | os.PathLike[str] | None = None,
    block_bytes: int | None = None,
    stores: StoreSettings | None = None,
    progress: Progress | None = None,
    on_found: Callable[[Sequence[Listed]], None] = lambda listed: None,
    **settings: Any,
) -> Assessed:
    """Return the profile of a dataset that lies in many objects.

    The profile is the same to the bit for every engine, number of workers and cutting, unless an object is skipped in
    part: the rows that are left out with a bad one are those of its block.

    Args:
        places: URIs, paths, patterns, folders, manifests: see `find_sources`. Their order is the order of the rows.
        batch_sizes: one or more, each >= 1.
        engine: "serial", "processes", "ray", "ray=ADDRESS"; or an engine that is open, and stays so.
        workers: of an engine that is named; None takes all processors.
        on_error: what becomes of an object that cannot be read: "stop" raises its error, "skip" goes on, and counts
            its rows as left out; `Assessed.skipped` names it. An object whose rows nobody could count has none.
        checkpoint: a folder in which finished blocks are kept; another run with the same settings goes on from there.
        block_bytes: bytes of a block, >= 1; None chooses by the size of the dataset.
        stores: how object stores are reached; None takes the environment.
        progress: is told how far the run is.
        on_found: called with the objects that were found, before one is read; what it raises ends the run.
        **settings: feature_axis, calibration_rows, reference, nonfinite, decode, format: see `Settings`.

    Raises:
        AssessorError: a setting is out of its range, a place holds nothing, an object cannot be read, or none of them.
        EngineError: no worker can be started, or an object's worker dies or lacks memory each time.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.arange(12.0).reshape(6, 2))
    ...     profile_sources([f"{folder}/*.npy"], batch_sizes=[3], engine="serial").profile.n_rows
    6
    """
    if on_error not in ON_ERROR:
        raise SettingError(f"expected on_error among {', '.join(ON_ERROR)}; got {on_error!r}")
    if block_bytes is not None and block_bytes < 1:
        raise SettingError(f"expected block_bytes >= 1; got {block_bytes}")
    shared = Settings(tuple(batch_sizes), stores=stores or StoreSettings(), **settings)
    told = progress or NoProgress()
    skip = on_error == "skip"
    with ExitStack() as stack:
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(Path(checkpoint), shared)
            stack.callback(kept.close)
        if isinstance(engine, str):
            engine = stack.enter_context(open_engine(engine, workers=workers))
        elif workers is not None:
            raise SettingError(f"expected workers with the name of an engine; got {workers} with an open one")
        listed = find_sources(places, shared.stores, skip=skip)
        on_found(listed)
        looked = look_at(listed, shared, engine, skip=skip, checkpoint=kept, progress=told)
        size = block_bytes or choose_block_bytes(sum(extent.source.size_bytes for extent in looked.extents))
        placed = place_blocks(looked.extents, size, max(map(int, shared.batch_sizes)))
        gathering = Gathering(placed, looked.uncounted, skip=skip)
        waiting = []
        for item in placed:
            failure = looked.failed.get(item.block.source.uri)
            if failure is None:
                waiting.append(item)
            else:
                gathering.fail(item.number, failure)
        map_blocks(gathering, waiting, shared, engine, task_bytes=size, checkpoint=kept, progress=told)
        profile, skipped = gathering.finish()
    return Assessed(profile, tuple((extent.source, extent.rows) for extent in looked.extents), skipped)


def choose_block_bytes(total_bytes: int) -> int:
    """Return the size of blocks for a dataset: enough of them to share out, few enough to gather.

    A power of two: a 32nd of the data between 16 and 256 MB; above 1 TB a 4,096th, at most 8 GB.

    >>> choose_block_bytes(4 << 30) >> 20, choose_block_bytes(100 << 40) >> 20
    (128, 8192)
    """
    wanted = max(min(max(total_bytes // 32, SMALLEST_BLOCK), USUAL_BLOCK), total_bytes // 4096)
    return int(min(1 << (wanted.bit_length() - 1), LARGEST_BLOCK))


def place_blocks(extents: Sequence[Extent], block_bytes: int, batch_size: int) -> list[Placed]:
    """Return all blocks of the objects, each with the number of its first row in the dataset."""
    placed: list[Placed] = []
    first = 0
    for extent in extents:
        for block in cut(extent, block_bytes, first_row=first, batch_size=batch_size):
            placed.append(Placed(len(placed), block, first + block.first))
        first += extent.rows
    return placed
