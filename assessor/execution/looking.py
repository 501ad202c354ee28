"""How many rows each object has: asked by the workers, since there may be many objects."""

from collections.abc import Iterator, Sequence
from contextlib import closing

from assessor.execution.checkpoint import Checkpoint
from assessor.execution.engines import Engine, WorkerLostError
from assessor.execution.locations import Listed
from assessor.execution.progress import Progress
from assessor.execution.retrying import in_rounds
from assessor.execution.work import Failure, Settings, inspect_sources
from assessor.sources.extents import Extent
from assessor.sources.stores import Source

LOOKED_AT_ONCE = 64
"""Most objects in one task."""
Task = tuple[tuple[int, Source, int | None], ...]


def look_at(
    listed: Sequence[Listed],
    settings: Settings,
    engine: Engine,
    *,
    skip: bool,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> tuple[list[Extent], list[Failure]]:
    """Return what the objects hold, in their order, and why some of them cannot be told.

    Raises:
        AssessorError, EngineError: an object cannot be read, unless these are to be skipped; or none can.
    """
    found: dict[int, Extent | Failure] = {}
    waiting: list[tuple[int, Source, int | None]] = []
    for number, item in enumerate(listed):
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
    outcomes = [found[number] for number in range(len(listed))]
    extents = [outcome for outcome in outcomes if isinstance(outcome, Extent)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if not extents:
        raise failures[0].kind(f"none of {len(listed)} sources can be read; the first: {failures[0].error}")
    return extents, failures


def _tasks(waiting: Sequence[tuple[int, Source, int | None]], workers: int) -> list[Task]:
    step = max(1, min(LOOKED_AT_ONCE, len(waiting) // max(1, workers)))
    return [tuple(waiting[at : at + step]) for at in range(0, len(waiting), step)]


def _lost(source: Source, error: WorkerLostError, several: bool) -> Failure:
    """Return what is known of an object whose worker died: where several were in the task, each is tried alone."""
    return Failure(f"{source.uri}: {error}", WorkerLostError, several, str(source.uri))


def _ignore(size_bytes: int) -> None:
    """Bytes read to count rows are read again later, and are told then."""
