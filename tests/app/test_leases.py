"""Leases: one worker a job, what an old lease writes is refused, what a dead process left is taken up."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest

from app.database import ASSESSMENTS
from app.jobs.board import Board, count_states
from app.jobs.leases import LeaseLostError, Leases
from app.jobs.records import Lease
from app.jobs.tables import JOBS
from app.problems import ProblemError
from app.records import Shard
from app.settings import Settings
from app.storage import Store

pytestmark = pytest.mark.databases

SHARD = Shard(0, 0, 8, "blake3:" + "a" * 64, 100, (6,), "float32", False)


@pytest.fixture(scope="session")
def database(make_database: Callable[[], str]) -> Settings:
    """Settings of a database of these tests' own."""
    settings = Settings(database_url=make_database(), port=0)
    with closing(Store(settings)) as store:
        store.migrate()
    return settings


@pytest.fixture
def store(database: Settings) -> Iterator[Store]:
    """An open store without assessments and jobs."""
    with closing(Store(database)) as store:
        with store.writing() as connection:
            connection.execute(ASSESSMENTS.delete())
        yield store


@pytest.fixture
def assessment(store: Store) -> str:
    """The id of a new assessment."""
    made = store.create_assessment(
        name="test", batch_sizes=[4], method="need", feature_axis="element", order={"kind": "rows"}
    )
    return made.id


@pytest.fixture
def board(store: Store) -> Board:
    """The jobs of no key's assessments."""
    return Board(store, max_jobs=1000)


def leases(store: Store, owner: str = "here", *, lease_s: float = 60.0, max_attempts: int = 5) -> Leases:
    """Return the jobs as a worker sees them."""
    return Leases(store, owner=owner, lease_s=lease_s, max_attempts=max_attempts)


def submit(board: Board, assessment: str, number: int = 0) -> str:
    """Return the id of a new job."""
    spec = {"shards": [{"uri": f"s3://data/{number}", "index": number, "first_row": None, "format": None}]}
    return board.submit(assessment, "ingest", spec).id


def take(store: Store, *, lease_s: float = 60.0) -> Lease:
    """Return the next job's lease."""
    lease = leases(store, lease_s=lease_s).take()
    assert lease is not None
    return lease


def pass_time(store: Store, seconds: float) -> None:
    """Make all leases and waits as old as if so much time had passed, so that no test runs against the clock."""
    with store.writing() as connection:
        connection.execute(JOBS.update().values(lease_until=JOBS.c.lease_until - seconds))


def names(board: Board, job: str) -> list[str]:
    """Return the names of a job's events; they are numbered from 1."""
    _, events = board.events(job, after=0)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [event.name for event in events]


def test_the_oldest_first_and_each_once(store: Store, board: Board, assessment: str) -> None:
    ids = [submit(board, assessment, i) for i in range(3)]
    taken = [take(store) for _ in range(3)]
    assert [lease.id for lease in taken] == ids
    assert all((lease.assessment_id, lease.key_id, lease.attempts) == (assessment, None, 1) for lease in taken)
    assert leases(store).take() is None


def test_workers_at_once_share_the_jobs(database: Settings, store: Store, board: Board, assessment: str) -> None:
    ids = {submit(board, assessment, i) for i in range(24)}
    barrier = Barrier(4)

    def work(number: int) -> list[str]:
        with closing(Store(database)) as own:
            mine = leases(own, f"worker {number}")
            barrier.wait()
            found = []
            while (lease := mine.take()) is not None or count_states(own)["queued"]:
                if lease is not None:
                    found.append(lease.id)
                    mine.succeed(lease)
            return found

    with ThreadPoolExecutor(4) as pool:
        found = [job for part in pool.map(work, range(4)) for job in part]
    assert sorted(found) == sorted(ids)
    assert count_states(store) == {"queued": 0, "running": 0, "succeeded": 24, "failed": 0, "cancelled": 0}


def test_a_job_that_was_taken_over_cannot_be_written_by_its_old_worker(
    store: Store, board: Board, assessment: str
) -> None:
    job = submit(board, assessment)
    old = take(store)
    pass_time(store, 61)
    new = take(store)
    assert (new.id, new.fence, new.attempts) == (job, old.fence + 1, 2)
    there = leases(store)
    write = there.writer(old, "shard", {"index": 0}, shards_done=1)
    with pytest.raises(LeaseLostError):
        store.add_shard(assessment, SHARD, b"profile", max_shards=9, also=write)
    refused: list[Callable[[], None]] = [
        lambda: there.write(old, "shard", {}, shards_done=1),
        lambda: there.succeed(old),
        lambda: there.fail(old, {}),
        lambda: there.cancel(old),
        lambda: there.give_back(old),
    ]
    for call in refused:
        with pytest.raises(LeaseLostError):
            call()
    assert store.get_assessment(assessment)[1] == []
    assert board.get(job).state == "running"
    assert board.get(job).shards_done == 0
    assert names(board, job) == ["queued", "started", "started"]
    # The new worker's shard is stored and counted in one transaction.
    write = there.writer(new, "shard", {"index": 0}, shards_done=1, rows_done=8)
    assert store.add_shard(assessment, SHARD, b"profile", max_shards=9, also=write)
    assert (board.get(job).shards_done, board.get(job).rows_done) == (1, 8)
    assert len(store.get_assessment(assessment)[1]) == 1


def test_a_refused_shard_is_not_counted(store: Store, board: Board, assessment: str) -> None:
    job = submit(board, assessment)
    lease = take(store)
    write = leases(store).writer(lease, "shard", {"index": 0}, shards_done=1)
    with pytest.raises(ProblemError, match="at most 0 shards"):
        store.add_shard(assessment, SHARD, b"profile", max_shards=0, also=write)
    assert board.get(job).shards_done == 0
    assert names(board, job) == ["queued", "started"]


def test_renewing_keeps_a_job_and_says_what_to_do(store: Store, board: Board, assessment: str) -> None:
    ids = [submit(board, assessment, i) for i in range(3)]
    held = [take(store, lease_s=1000) for _ in ids]
    there = leases(store, lease_s=2000)
    assert there.renew(dict.fromkeys(held, 7)) == dict.fromkeys(held, "go on")
    pass_time(store, 1001)
    assert there.take() is None
    assert board.get(ids[0]).bytes_coming == 7
    board.cancel(ids[1])
    there.succeed(held[2])
    assert there.renew(dict.fromkeys(held, 8)) == dict(zip(held, ["go on", "cancel", "lost"], strict=True))


def test_handing_back_counts_as_no_attempt_and_dying_does(store: Store, board: Board, assessment: str) -> None:
    job = submit(board, assessment)
    for _ in range(3):
        lease = take(store)
        assert lease.attempts == 1
        leases(store).give_back(lease)
        assert board.get(job).state == "queued"
    dying = leases(store, max_attempts=2)
    for attempt in (1, 2):
        dead = dying.take()
        assert dead is not None
        assert dead.attempts == attempt
        pass_time(store, 61)
    assert dying.take() is None
    given_up = board.get(job)
    assert given_up.state == "failed"
    assert given_up.problem is not None
    assert given_up.problem["type"] == "/problems/job-abandoned"
    assert names(board, job)[-1] == "failed"


def test_a_retry_waits(store: Store, board: Board, assessment: str) -> None:
    submit(board, assessment)
    there = leases(store)
    there.give_back(take(store), wait_s=1000, why="retry")
    assert there.take() is None
    pass_time(store, 1001)
    lease = there.take()
    assert lease is not None
    assert lease.attempts == 2


def test_cancelling(store: Store, board: Board, assessment: str) -> None:
    waiting, running = submit(board, assessment, 0), submit(board, assessment, 1)
    assert take(store).id == waiting
    assert board.cancel(running).state == "cancelled"  # no one had begun it
    assert board.cancel(waiting).state == "running"
    assert leases(store).take() is None
    assert board.cancel(running).state == "cancelled"
    assert names(board, running) == ["queued", "cancelled"]


def test_jobs_go_with_their_assessment(store: Store, board: Board, assessment: str) -> None:
    job = submit(board, assessment)
    lease = take(store)
    store.delete_assessment(assessment)
    with pytest.raises(ProblemError, match="went with its assessment"):
        board.get(job)
    assert leases(store).renew({lease: 0}) == {lease: "lost"}
    with pytest.raises(LeaseLostError):
        leases(store).succeed(lease)
    with store.engine.connect() as connection:
        assert connection.execute(JOBS.select()).all() == []


def test_old_jobs_are_forgotten(store: Store, board: Board, assessment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.board.KEPT", 6)
    ids = [submit(board, assessment, i) for i in range(9)]
    for job in ids:
        board.cancel(job)
    unfinished = submit(board, assessment, 1000)
    with store.engine.connect() as connection:
        left = [row.id for row in connection.execute(JOBS.select().order_by(JOBS.c.number))]
    assert left == [*ids[4:], unfinished]


def test_the_same_plan_is_one_job(store: Store, board: Board, assessment: str) -> None:
    spec = {"batch_size": 4}
    first = board.submit(assessment, "plan", spec, [[0, "a"]])
    assert board.submit(assessment, "plan", spec, [[0, "a"]]) == first
    assert board.submit(assessment, "plan", spec, [[0, "b"]]) != first
    leases(store).succeed(take(store), b"a plan")
    assert board.submit(assessment, "plan", spec, [[0, "a"]]).id == first.id
    assert board.result(first.id) == b"a plan"
