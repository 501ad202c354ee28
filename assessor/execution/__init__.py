"""A dataset in many objects, profiled by one process, by many, or by a Ray cluster; the result is the same to the bit.

`profile_sources` finds the objects, asks what they hold (`looking`), cuts them into blocks of rows
(`assessor.sources.blocks`), lets an engine profile these (`mapping`), and merges what comes (`gathering`). Engines:
`serial`, `processes`, `ray_tasks`.
"""

from assessor.execution import serial, processes, ray_tasks  # noqa: F401, I001 - they register themselves, in this order
from assessor.execution.assessing import choose_block_bytes, profile_sources
from assessor.execution.engines import Engine, EngineError, WorkerLostError, engines, open_engine
from assessor.execution.locations import MANIFEST_MARK, Listed, find_sources, is_remote, real_uris, stands_for
from assessor.execution.outcome import Assessed, Skipped
from assessor.execution.progress import NoProgress, Progress

__all__ = [
    "MANIFEST_MARK",
    "Assessed",
    "Engine",
    "EngineError",
    "Listed",
    "NoProgress",
    "Progress",
    "Skipped",
    "WorkerLostError",
    "choose_block_bytes",
    "engines",
    "find_sources",
    "is_remote",
    "open_engine",
    "profile_sources",
    "real_uris",
    "stands_for",
]
