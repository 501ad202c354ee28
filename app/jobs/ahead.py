"""Objects of an ingest job, read by the workers of an engine ahead of the one that is to be stored.

Shards are stored one after another, as a job's lease wants it; only reading and profiling is spread. What a worker
cannot do, for whatever reason, is left to the job itself, which reads that object again and says what is wrong with
it. So an engine changes how long a job takes, and nothing else.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from app.ingest import Ingested, ShardReader
from app.jobs.objects import decoded_pieces, encoding_of_name, format_of_name
from app.jobs.policy import IngestPolicy
from app.jobs.running import Running
from app.records import Assessment, Shard
from app.settings import Settings
from assessor import Profile
from assessor.execution import EngineError, WorkerLostError, open_engine
from assessor.execution.engines import Report
from assessor.formats import DecodeSettings
from assessor.sources import Source, SourceUri
from assessor.sources.extents import read_layout

WINDOW = 4
"""Objects read ahead for each worker; their profiles wait in memory."""


@dataclass(frozen=True)
class Shared:
    """What all objects of a job share."""

    settings: Settings
    assessment: Assessment


@dataclass(frozen=True)
class Read:
    """What a worker sends of an object."""

    source: Source
    first_row: int
    profile: bytes
    digest: str
    size_bytes: int


_LOGGER = logging.getLogger("normgauge")

Task = tuple[int, dict[str, Any], int]
"""Position of an object in the job, its item, and its first row."""


class ReadAhead:
    """Reads objects in windows, with the engine that the settings name; stopped when it is left.

    Args:
        settings: of the service.
        items: the job's objects, in order.
        running: the job; it is looked at whenever a worker reports.

    Raises:
        SettingError: what the engine needs is not installed.
    """

    def __init__(self, settings: Settings, items: Sequence[dict[str, Any]], running: Running) -> None:
        self._settings = settings
        self._items = items
        self._running = running
        self._engine = open_engine(settings.engine, workers=settings.engine_workers)
        self._read: dict[int, Read] = {}
        self._tried_to = 0

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, *exception: object) -> None:
        self._engine.close()

    def take(self, position: int, assessment: Assessment, source: Source, first_row: int) -> Ingested | None:
        """Return an object's profile; None where the job has to read it itself.

        Raises:
            LeaseLostError, CancelledError, StoppedError: see `Running.check`.
        """
        if position >= self._tried_to:
            self._fill(position, assessment, first_row)
        read = self._read.pop(position, None)
        if read is None or (read.source, read.first_row) != (source, first_row):
            return None
        return Ingested(Profile.from_bytes(read.profile), read.digest, read.size_bytes)

    def _fill(self, position: int, assessment: Assessment, first_row: int) -> None:
        """Read a window of objects from a position on."""
        stop = min(len(self._items), position + WINDOW * self._engine.workers)
        self._read.clear()
        self._tried_to = stop
        self._running.bytes_coming = 0
        shared = Shared(self._settings, assessment)
        try:
            tasks = self._place(shared, position, stop, first_row)
            with closing(self._engine.run(read_object, shared, tasks, self._came)) as results:
                for (number, _, _), read in results:
                    if isinstance(read, Read):
                        self._read[number] = read
        except EngineError as error:
            _LOGGER.warning("an ingest job goes on without its engine: %s", error)
            self._tried_to = len(self._items)

    def _place(self, shared: Shared, position: int, stop: int, first_row: int) -> list[Task]:
        """Return the objects whose first rows are known, as far as headers say how many rows those before have."""
        looks = list(enumerate(self._items[position:stop], position))
        counted: dict[int, int | None] = {}
        with closing(self._engine.run(count_rows, shared, looks, self._came)) as results:
            for (number, _), rows in results:
                counted[number] = None if isinstance(rows, WorkerLostError) else rows
        tasks: list[Task] = []
        at: int | None = first_row
        for number, item in looks:
            given = item["first_row"] if number > position else first_row
            at = at if given is None else given
            if at is None:
                break
            tasks.append((number, item, at))
            rows = counted[number]
            at = None if rows is None else at + rows
        return tasks

    def _came(self, size_bytes: int) -> None:
        self._running.check()
        self._running.bytes_coming += size_bytes


def shard_reader(
    item: dict[str, Any], assessment: Assessment, first_row: int, settings: Settings, *, like: Shard | None
) -> ShardReader:
    """Return a reader of an object of a job.

    Raises:
        SettingError, ProblemError: see `ShardReader`.
    """
    return ShardReader(
        batch_sizes=assessment.batch_sizes,
        feature_axis=assessment.feature_axis,
        nonfinite=assessment.nonfinite,
        format_name=item["format"] or format_of_name(SourceUri.parse(item["uri"])),
        first_row=first_row,
        like=like,
        settings=settings,
    )


def count_rows(shared: Shared, task: tuple[int, dict[str, Any]], report: Report) -> int | None:
    """Return how many rows an object has, by its header; None where only its rows could tell. Run by a worker."""
    _, item = task
    try:
        policy = IngestPolicy(shared.settings)
        uri = policy.check(item["uri"])
        if encoding_of_name(uri) is not None:
            return None
        store = policy.open(uri)
        _, extent = read_layout(store, store.find(uri), DecodeSettings(), format=item["format"] or format_of_name(uri))
    except Exception:  # the job itself reads the object, and says what is wrong with it
        return None
    return None if extent is None else extent.rows


def read_object(shared: Shared, task: Task, report: Report) -> Read | None:
    """Return an object's profile and identity; None where it cannot be read. Run by a worker."""
    _, item, first_row = task
    try:
        policy = IngestPolicy(shared.settings)
        uri = policy.check(item["uri"])
        store = policy.open(uri)
        source = store.find(uri)
        reader = shard_reader(item, shared.assessment, first_row, shared.settings, like=None)
        for piece in decoded_pieces(store, source, shared.settings.max_decoded_bytes, report):
            reader.feed(piece)
        ingested = reader.finish()
    except Exception:  # as above
        return None
    return Read(source, first_row, ingested.profile.to_bytes(), ingested.digest, ingested.size_bytes)
