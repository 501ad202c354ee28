"""Blocks to profiles: all tasks through the engine, finished ones kept, failed ones tried again."""

from collections.abc import Iterable
from contextlib import closing

from assessor.execution.checkpoint import Checkpoint
from assessor.execution.engines import Engine, WorkerLostError
from assessor.execution.gathering import Gathering
from assessor.execution.progress import Progress
from assessor.execution.retrying import in_rounds
from assessor.execution.work import Failure, Placed, Profiled, Settings, group, profile_blocks

Task = tuple[Placed, ...]


def map_blocks(
    gathering: Gathering,
    settings: Settings,
    engine: Engine,
    *,
    task_bytes: int,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> None:
    """Profile all blocks and hand the results to `gathering`.

    Raises:
        AssessorError, EngineError: a block cannot be read, unless these are to be skipped.
    """
    tasks = list(group(gathering.placed, task_bytes))
    done_bytes = 0
    if checkpoint is not None:
        waiting = []
        for task in tasks:
            part = checkpoint.find_part(task)
            if part is None:
                waiting.append(task)
                continue
            done_bytes += _size(task)
            gathering.take(part)
        tasks = waiting
    progress.begin("reading", sum(placed.block.size_bytes for placed in gathering.placed), done_bytes, "B")
    for round_tasks in in_rounds(tasks):
        with closing(engine.run(profile_blocks, settings, round_tasks.tasks, progress.advance)) as results:
            for task, result in results:
                if isinstance(result, WorkerLostError):
                    result = _of_lost(task, result)
                if checkpoint is not None and not result.failures and len(result.parts) == 1:
                    checkpoint.keep_part(task, result.parts[0])
                for part in result.parts:
                    gathering.take(part)
                again: list[Placed] = []
                for number, failure in result.failures:
                    if failure.transient and not round_tasks.last:
                        again.append(gathering.placed[number])
                    else:
                        gathering.fail(number, failure)
                round_tasks.again.extend((placed,) for placed in again)


def _of_lost(task: Task, error: WorkerLostError) -> Profiled:
    """Return failures of all of a task's blocks; where there are several, each is to be tried alone."""
    failures = []
    for placed in task:
        uri = str(placed.block.source.uri)
        failures.append((placed.number, Failure(f"{uri}: {error}", WorkerLostError, len(task) > 1, uri)))
    return Profiled((), tuple(failures))


def _size(task: Iterable[Placed]) -> int:
    return sum(placed.block.size_bytes for placed in task)
