"""Many shards at a time, and only those that are missing."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from clients.calls import Call
from clients.resources import AssessmentInfo, ShardInfo

Progress = Callable[[ShardInfo], None]


@dataclass(frozen=True)
class Shard:
    """A shard to send.

    Attributes:
        index: its number in the assessment.
        data: an array, tensor, path, bytes or iterable of bytes, as for `put_shard`.
        labels: (N,) integers, beside an array or an .npy path.
        first_row: the row at which it begins; shards that are sent side by side need it.
    """

    index: int
    data: Any
    labels: Any = None
    first_row: int | None = None


def by_index(info: AssessmentInfo) -> dict[int, ShardInfo]:
    """Return the shards that the service has, by their number."""
    return {shard.index: shard for shard in info.shards or ()}


def found_stored(call: Call[ShardInfo], shard: Shard, stored: Mapping[int, ShardInfo]) -> ShardInfo | None:
    """Return the stored shard if it is the one that the call would send, else None."""
    there, body = stored.get(shard.index), call.request.body
    if there is None or body is None or not body.repeatable:
        return None
    moved = shard.first_row is not None and shard.first_row != there.first_row
    # a body of another size or place is for the service to refuse
    same = not moved and body.size_bytes == there.size_bytes and body.has_digest(there.digest)
    return there if same else None


def uploaded_by_threads(
    shards: Iterable[Shard], put: Callable[[Shard], ShardInfo], parallel: int, progress: Progress | None
) -> list[ShardInfo]:
    """Return what put returns for each shard, `parallel` of them at a time; holds no more shards than that."""
    _check(parallel)
    done: list[ShardInfo] = []
    running: deque[Future[ShardInfo]] = deque()

    def finish() -> None:
        done.append(running.popleft().result())
        if progress is not None:
            progress(done[-1])

    with ThreadPoolExecutor(parallel, thread_name_prefix="upload") as pool:
        try:
            for shard in shards:
                running.append(pool.submit(put, shard))
                if len(running) >= parallel:
                    finish()
            while running:
                finish()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


async def uploaded_by_tasks(
    shards: Iterable[Shard], put: Callable[[Shard], Awaitable[ShardInfo]], parallel: int, progress: Progress | None
) -> list[ShardInfo]:
    """Return what put returns for each shard, `parallel` of them at a time; holds no more shards than that."""
    _check(parallel)
    done: list[ShardInfo] = []
    running: deque[asyncio.Future[ShardInfo]] = deque()

    async def finish() -> None:
        done.append(await running.popleft())
        if progress is not None:
            progress(done[-1])

    try:
        for shard in shards:
            running.append(asyncio.ensure_future(put(shard)))
            if len(running) >= parallel:
                await finish()
        while running:
            await finish()
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return done


def _check(parallel: int) -> None:
    if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1:
        raise ValueError(f"expected parallel >= 1; got {parallel!r}")
