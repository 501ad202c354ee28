"""Tasks are joined as they are handed out: large at first, small at the end, each block once and in order."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor import profile_array
from assessor.execution import WorkerLostError, profile_sources
from assessor.execution.mapping import JOINED_BYTES, JOINED_ROW_BYTES, Task, join
from assessor.execution.serial import SerialEngine
from assessor.execution.work import Placed, Reading
from assessor.sources import Source, SourceUri
from assessor.sources.blocks import BLOCK_ROWS, Block
from assessor.sources.extents import Extent

MB = 1 << 20
X = np.random.default_rng(11).standard_normal((640, 6)).astype(np.float32)


class Crew(SerialEngine):
    """Says that it has so many workers, and remembers which blocks each task had; may lose the first tasks.

    Attributes:
        runs: of each run of `profile_blocks`, the numbers of the blocks of each task.
    """

    def __init__(self, workers: int, lost: int = 0) -> None:
        self.workers = workers
        self.runs: list[list[tuple[int, ...]]] = []
        self._lost = lost

    def run(
        self, work: Callable[..., Any], shared: Any, tasks: Iterable[Any], on_bytes: Callable[[int], None]
    ) -> Generator[tuple[Any, Any], None, None]:
        """Yield each task with its result, in order."""
        handed_out: list[tuple[int, ...]] = []
        for task in tasks:
            if isinstance(task, Reading):
                if not handed_out:
                    self.runs.append(handed_out)
                handed_out.append(tuple(placed.number for placed in task.placed))
                if self._lost:
                    self._lost -= 1
                    yield task, WorkerLostError("it ended by signal SIGKILL")
                    continue
            yield task, work(shared, task, on_bytes)


def tasks_of(sizes: Iterable[tuple[int, int]]) -> list[Task]:
    """Return tasks of one block each, of these bytes and rows."""
    extent = Extent(Source(SourceUri.parse("s3://data/x"), 1, None), "npy", 1, ())
    return [
        (Placed(number, Block(extent, 0, rows, 0, 0, False, size), 0),) for number, (size, rows) in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("workers", "blocks"),
    [
        (1, [8] * 4),  # 1 GiB at most
        (2, [8, 8, 8, 4, 2, 1, 1]),
        (7, [4, 4, 3, 3, 2, 2, 2, *[1] * 12]),
        (100, [1] * 32),
    ],
)
def test_tasks_are_large_at_first_and_small_at_the_end(workers: int, blocks: list[int]) -> None:
    tasks = tasks_of([(128 * MB, 10_922)] * 32)
    assert [len(task) for task in join(tasks, Crew(workers))] == blocks


def test_tasks_of_long_rows_stay_alone() -> None:
    """Many features make large profiles, of which a worker would hold several."""
    long, short = (128 * MB, 128 * MB // JOINED_ROW_BYTES - 1), (128 * MB, 128 * MB // JOINED_ROW_BYTES)
    tasks = tasks_of([short, short, long, short, short, short, long, long, *[short] * 40])
    assert [len(task) for task in join(tasks, Crew(1))][:6] == [2, 1, 3, 1, 1, 8]


def test_tasks_of_small_rows_are_joined_up_to_a_number_of_rows() -> None:
    tasks = tasks_of([(128 * MB, BLOCK_ROWS // 3)] * 32)
    assert [len(task) for task in join(tasks, Crew(1))][:3] == [3, 3, 3]


def test_what_is_larger_than_a_joined_task_stays_alone() -> None:
    n = JOINED_BYTES // 1000
    tasks = tasks_of([(8 * JOINED_BYTES, 8 * n), (1, 1), (8 * JOINED_BYTES, 8 * n), (JOINED_BYTES, n)])
    assert list(join(tasks, Crew(1))) == tasks


@given(
    st.lists(st.tuples(st.integers(0, JOINED_BYTES // 2), st.integers(1, BLOCK_ROWS // 2)), max_size=40),
    st.integers(1, 9),
)
def test_every_task_once_in_order_and_none_more_than_a_share(sizes: list[tuple[int, int]], workers: int) -> None:
    tasks = tasks_of(sizes)
    joined = list(join(tasks, Crew(workers)))
    assert [placed for task in joined for placed in task] == [placed for task in tasks for placed in task]
    at = 0
    for task in joined:
        left = sum(size for size, _ in sizes[at:])
        most = min(JOINED_BYTES, left / workers)
        own = sizes[at : at + len(task)]
        assert len(task) == 1 or (sum(s for s, _ in own) <= most and sum(r for _, r in own) <= BLOCK_ROWS)
        more = sizes[at : at + len(task) + 1]
        if len(more) > len(own):
            long = any(s > r * JOINED_ROW_BYTES for s, r in (own[0], more[-1]))
            assert long or sum(s for s, _ in more) > int(most) or sum(r for _, r in more) > BLOCK_ROWS
        at += len(task)


def test_workers_are_counted_when_a_task_is_handed_out() -> None:
    crew = Crew(2)
    handed_out = join(tasks_of([(MB, 100)] * 32), crew)
    assert len(next(handed_out)) == 16
    crew.workers = 8  # as a cluster that has grown
    assert [len(task) for task in handed_out][:2] == [2, 1]


def profile(folder: Path, crew: Crew, **options: Any) -> bytes:
    """Profile X from a file cut into sixteen blocks."""
    np.save(folder / "x.npy", X)
    assessed = profile_sources([folder / "x.npy"], batch_sizes=[8], engine=crew, block_bytes=40 * 24, **options)
    return assessed.profile.to_bytes()


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_run_hands_out_joined_tasks_unless_they_are_kept(workers: int, tmp_path: Path) -> None:
    expected = profile_array(X, batch_sizes=[8]).to_bytes()
    joined, kept = Crew(workers), Crew(workers)
    assert profile(tmp_path, joined) == expected
    assert profile(tmp_path, kept, checkpoint=tmp_path / "kept") == expected
    sizes = {1: [16], 2: [8, 4, 2, 1, 1], 7: [2, 2, *[1] * 12]}[workers]
    [run], [alone] = joined.runs, kept.runs
    assert [len(task) for task in run] == sizes
    assert sum(run, ()) == tuple(range(16))
    assert alone == [(number,) for number in range(16)]


def test_blocks_that_lost_their_worker_together_are_tried_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assessor.execution.retrying.PAUSES_S", (0.0, 0.0))
    crew = Crew(2, lost=2)
    assert profile(tmp_path, crew) == profile_array(X, batch_sizes=[8]).to_bytes()
    first, second = crew.runs
    assert [len(task) for task in first] == [8, 4, 2, 1, 1]
    assert second == [(number,) for number in range(12)]
