"""How many rows each object has: asked by the workers, since there may be many objects."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from assessor.execution.checkpoint import Checkpoint
from assessor.execution.engines import Engine, WorkerLostError
from assessor.execution.locations import Listed
from assessor.execution.progress import Progress
from assessor.execution.retrying import in_rounds
from assessor.execution.work import Failure, Settings, describe, inspect_sources
from assessor.sources.extents import Extent
from assessor.sources.stores import Source
from assessor.sources.uris import SourceUri

LOOKED_AT_ONCE = 64
"""Most objects in one task."""
Task = tuple[tuple[int, Source, int | None], ...]


@dataclass(frozen=True)
class Looked:
    """What the objects of a dataset hold.

    Attributes:
        extents: of all objects whose rows are known, in order.
        failed: by URI, those of them that cannot be read: a manifest says how many rows they have.
        uncounted: objects of which nobody can tell how many rows they have.
    """

    extents: tuple[Extent, ...]
    failed: Mapping[SourceUri, Failure]
    uncounted: tuple[Failure, ...]


def look_at(
    listed: Sequence[Listed],
    settings: Settings,
    engine: Engine,
    *,
    skip: bool,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> Looked:
    """Return what the objects hold, and why some of them cannot be read.

    Raises:
        AssessorError, EngineError: an object cannot be read, unless these are to be skipped; or none can.
    """
    found: dict[int, Extent | Failure] = {}
    waiting: list[tuple[int, Source, int | None]] = []
    for number, item in enumerate(listed):
        if item.error is not None:
            found[number] = describe(item.error, item.source)
            continue
        known = checkpoint.find_extent(item.source) if checkpoint is not None else None
        if known is not None and item.rows in (None, known.rows):
            found[number] = known
        else:
            waiting.append((number, item.source, item.rows))
    progress.begin("looking", len(listed), len(found), "sources")

    def run(tasks: Sequence[Task]) -> Iterator[tuple[Task, list[tuple[int, Extent | Failure]]]]:
        with closing(engine.run(inspect_sources, settings, tasks, _ignore)) as results:
            for task, result in results:
                if isinstance(result, WorkerLostError):
                    result = [(number, _lost(source, result, len(task) > 1)) for number, source, _ in task]
                yield task, result

    for round_tasks in in_rounds(_tasks(waiting, engine.workers)):
        for task, result in run(round_tasks.tasks):
            for number, outcome in result:
                if isinstance(outcome, Failure) and outcome.transient and not round_tasks.last:
                    round_tasks.again.append(tuple(item for item in task if item[0] == number))
                    continue
                if isinstance(outcome, Failure) and not skip:
                    raise outcome.kind(outcome.error)
                if isinstance(outcome, Extent) and checkpoint is not None:
                    checkpoint.keep_extent(outcome)
                found[number] = outcome
                progress.advance(1)
    extents: list[Extent] = []
    failed: dict[SourceUri, Failure] = {}
    uncounted: list[Failure] = []
    for number, item in enumerate(listed):
        outcome = found[number]
        if isinstance(outcome, Extent):
            extents.append(outcome)
        elif item.rows is None:
            uncounted.append(outcome)
        else:
            extents.append(Extent(item.source, "", item.rows))
            failed[item.source.uri] = outcome
    if len(extents) == len(failed):
        first = next(outcome for _, outcome in sorted(found.items()) if isinstance(outcome, Failure))
        raise first.kind(f"none of {len(listed)} sources can be read; the first: {first.error}")
    return Looked(tuple(extents), failed, tuple(uncounted))


def _tasks(waiting: Sequence[tuple[int, Source, int | None]], workers: int) -> list[Task]:
    step = max(1, min(LOOKED_AT_ONCE, len(waiting) // max(1, workers)))
    return [tuple(waiting[at : at + step]) for at in range(0, len(waiting), step)]


def _lost(source: Source, error: WorkerLostError, several: bool) -> Failure:
    """Return what is known of an object whose worker died: where several were in the task, each is tried alone."""
    return Failure(f"{source.uri}: {error}", WorkerLostError, several, str(source.uri))


def _ignore(size_bytes: int) -> None:
    """Bytes read to count rows are read again later, and are told then."""
