"""Blocks to profiles: all tasks through the engine, finished ones kept, failed ones tried again."""

from collections.abc import Iterable, Sequence
from contextlib import closing

from assessor.execution.checkpoint import Checkpoint
from assessor.execution.engines import Engine, WorkerLostError
from assessor.execution.gathering import Gathering
from assessor.execution.progress import Progress
from assessor.execution.retrying import in_rounds
from assessor.execution.work import Failure, Placed, Profiled, Reading, Settings, group, profile_blocks

Task = tuple[Placed, ...]


def map_blocks(
    gathering: Gathering,
    placed: Sequence[Placed],
    settings: Settings,
    engine: Engine,
    *,
    task_bytes: int,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> None:
    """Profile blocks and hand the results to `gathering`.

    Raises:
        AssessorError, EngineError: a block cannot be read, unless these are to be skipped.
    """
    tasks: list[Task] = []
    done_bytes = 0
    wanted = {item.number for item in placed}
    for whole in group(gathering.placed, task_bytes):  # so that what cannot be read now moves no other task
        task = tuple(item for item in whole if item.number in wanted)
        if not task:
            continue
        rest = [task] if checkpoint is None else _take_kept(task, checkpoint, gathering)
        done_bytes += _size(task) - sum(map(_size, rest))
        tasks.extend(rest)
    progress.begin("reading", _size(placed), done_bytes, "B")
    for round_tasks in in_rounds(tasks):
        # What is kept must serve a run that skips other blocks, so its samples are whole.
        readings = (Reading(task, gathering.bar if checkpoint is None else None) for task in round_tasks.tasks)
        with closing(engine.run(profile_blocks, settings, readings, progress.advance)) as results:
            for reading, result in results:
                task = reading.placed
                if isinstance(result, WorkerLostError):
                    result = _of_lost(task, result)
                if checkpoint is not None and len(result.parts) == 1:
                    checkpoint.keep_part(task, result.parts[0])
                for part in result.parts:
                    gathering.take(part)
                for number, failure in result.failures:
                    if failure.transient and not round_tasks.last:
                        round_tasks.again.append((gathering.placed[number],))
                    else:
                        gathering.fail(number, failure)


def _take_kept(task: Task, checkpoint: Checkpoint, gathering: Gathering) -> list[Task]:
    """Hand over what an earlier run has finished of a task; return what is still to be read.

    Blocks that failed then are tasks of their own, as they are when they are tried again.
    """
    part = checkpoint.find_part(task)
    if part is None:
        return [task]
    gathering.take(part)
    read = set(part.numbers)
    rest: list[Task] = []
    for placed in task:
        if placed.number not in read:
            alone = checkpoint.find_part((placed,))
            if alone is None:
                rest.append((placed,))
            else:
                gathering.take(alone)
    return rest


def _of_lost(task: Task, error: WorkerLostError) -> Profiled:
    """Return failures of all of a task's blocks; where there are several, each is to be tried alone."""
    failures = []
    for placed in task:
        uri = str(placed.block.source.uri)
        failures.append((placed.number, Failure(f"{uri}: {error}", WorkerLostError, len(task) > 1, uri)))
    return Profiled((), tuple(failures))


def _size(task: Iterable[Placed]) -> int:
    return sum(placed.block.size_bytes for placed in task)
