"""Blocks to profiles: all tasks through the engine, finished ones kept, failed ones tried again.

A task costs some milliseconds beside its bytes (scaling.md), so the first ones handed out are large, and they get
smaller towards the end, so that no worker is left with much when the others have nothing: guided self-scheduling. A
large task is several joined. Which ones depends on the number of workers, and nothing else does: neither blocks nor
bits nor what is skipped. What a checkpoint keeps is named by its task and must serve any number of workers, so there
tasks stay as they are.

Source: Polychronopoulos & Kuck 1987, doi:10.1109/TC.1987.5009495.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from assessor.execution.checkpoint import Checkpoint
from assessor.execution.engines import Engine, WorkerLostError
from assessor.execution.gathering import Gathering
from assessor.execution.progress import Progress
from assessor.execution.retrying import in_rounds
from assessor.execution.work import Failure, Placed, Profiled, Reading, Settings, group, profile_blocks
from assessor.sources.blocks import BLOCK_ROWS

Task = tuple[Placed, ...]

JOINED_BYTES = 1 << 30
"""Most bytes of joined tasks: what a worker that dies has done in vain, and what passes before Ray tells of it."""
JOINED_ROW_BYTES = 1 << 15
"""Largest rows of joined tasks: the worker holds up to eight blocks' profiles at a time, of 200 bytes a feature or so,
beside their samples. Blocks of longer rows stay alone."""


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
    left = _size(placed) - done_bytes

    def advance(size_bytes: int) -> None:
        nonlocal left
        new = min(size_bytes, left)  # what is tried again was told of
        left -= new
        progress.advance(new)

    progress.begin("reading", _size(placed), done_bytes, "B")
    for number, round_tasks in enumerate(in_rounds(tasks)):
        # What is to be tried again stays alone: it failed beside others, or these lost their worker with it.
        handed_out = join(tasks, engine) if checkpoint is None and number == 0 else round_tasks.tasks
        # What is kept must serve a run that skips other blocks, so its samples are whole.
        readings = (Reading(task, gathering.bar if checkpoint is None else None) for task in handed_out)
        with closing(engine.run(profile_blocks, settings, readings, advance)) as results:
            for reading, result in results:
                task = reading.placed
                if isinstance(result, WorkerLostError):
                    result = _of_lost(task, result)
                if checkpoint is not None and len(result.parts) == 1:
                    checkpoint.keep_part(task, result.parts[0])
                for part in result.parts:
                    gathering.take(part)
                for block, failure in result.failures:
                    if failure.transient and not round_tasks.last:
                        round_tasks.again.append((gathering.placed[block],))
                    else:
                        gathering.fail(block, failure)


def join(tasks: Sequence[Task], engine: Engine) -> Iterator[Task]:
    """Yield all tasks, in order, as many at a time as is best when they are handed out.

    Those that follow each other are joined while they are at most a worker's even share of the bytes that are
    left, and no more than JOINED_BYTES and BLOCK_ROWS; a task that is more by itself, or has longer rows than
    JOINED_ROW_BYTES, stays alone.

    Args:
        tasks: to be handed out.
        engine: asked for its workers each time, since a cluster may grow.
    """
    waiting = deque((task, _size(task), sum(placed.block.rows for placed in task)) for task in tasks)
    left = sum(size for _, size, _ in waiting)
    while waiting:
        most = min(JOINED_BYTES, left // engine.workers)
        joined, size_bytes, n_rows = waiting.popleft()
        narrow = size_bytes <= n_rows * JOINED_ROW_BYTES
        while waiting and narrow:
            task, size, rows = waiting[0]
            narrow = size <= rows * JOINED_ROW_BYTES
            if not narrow or size_bytes + size > most or n_rows + rows > BLOCK_ROWS:
                break
            waiting.popleft()
            joined, size_bytes, n_rows = joined + task, size_bytes + size, n_rows + rows
        left -= size_bytes
        yield joined


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
