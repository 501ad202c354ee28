"""/v1/jobs: followed by events that can be taken up again, cancelled, kept from others, handed back; plans as jobs."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.auth import Keys
from app.plan_answers import ARROW
from app.problems import KINDS
from app.serving import running
from app.settings import Settings
from tests.app.jobs import DEADLINE_S, ask, check_plan, follow, kept, parse, reading, wait, write_shards
from tests.app.support import check_problem, create, npy, npy_head, rows
from tests.app.tenants import Tenancy, tenancy
from tests.object_stores import KEYS, OBJECT, Answer, endless, scripted

HEAD = npy_head((10**9, 6))
"""Of an object that never ends: a job that reads it ends only where it is stopped."""
KEY_SETTINGS = {f"ingest_{name}": value for name, value in KEYS.items()}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the service may read."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def service(make_database: Callable[[], str], root: Path) -> Iterator[httpx.Client]:
    """A service that may read that folder."""
    with reading(Settings(database_url=make_database(), port=0), f"file://{root}/") as client:
        yield client


@pytest.fixture
def pattern(root: Path, request: pytest.FixtureRequest) -> str:
    """A pattern of five files of 8 rows."""
    folder = root / str(abs(hash(request.node.nodeid)))
    write_shards(folder, 8, 8, 8, 8, 8)
    return f"file://{folder}/*.npy"


def wait_for_bytes(client: httpx.Client, job: str) -> None:
    """Return when a running job has said that bytes came."""
    with client.stream("GET", f"{job}/events") as response:
        for event in parse(response.iter_lines()):
            if event["event"] == "progress" and json.loads(event["data"])["bytes"]:
                return
    raise AssertionError("the job ended before a byte came")


@pytest.mark.databases
def test_events_can_be_taken_up_anywhere(service: httpx.Client, pattern: str) -> None:
    job = ask(service, create(service), pattern=pattern)
    events = kept(follow(service, job))
    assert [name for _, name in events] == ["queued", "started", "listed", *["shard"] * 5, "succeeded"]
    assert [int(number) for number, _ in events] == list(range(1, 10))
    for number in range(9):
        assert kept(follow(service, job, after=str(number))) == events[number:]
    assert service.get(f"{job}/events", headers={"Last-Event-ID": "9"}).status_code == 204
    for wrong in ("-1", "x", "1.0", "9" * 20):
        response = service.get(f"{job}/events", headers={"Last-Event-ID": wrong})
        check_problem(response, 422, "invalid-request", "Last-Event-ID")


def test_events_say_what_happened(service: httpx.Client, pattern: str) -> None:
    job = ask(service, create(service), pattern=pattern)
    data = [(event["event"], json.loads(event["data"])) for event in follow(service, job) if "id" in event]
    shards = [fields for name, fields in data if name == "shard"]
    assert [(s["index"], s["rows"], s["new"]) for s in shards] == [(i, 8, True) for i in range(5)]
    assert all(fields["job"] == job.rpartition("/")[2] for _, fields in data)
    moments = [fields["at"] for _, fields in data]
    assert moments == sorted(moments)


def test_a_stream_is_followed_while_the_job_waits(settings: Settings, root: Path, pattern: str) -> None:
    with reading(settings, f"file://{root}/", job_workers=0) as client:
        job = ask(client, create(client), pattern=pattern)
        with client.stream("GET", f"{job}/events") as response:
            events = parse(response.iter_lines())
            assert next(events)["event"] == "queued"
            assert next(events)["event"] == "progress"
            client.delete(job)
            assert next(events)["event"] == "cancelled"
            assert next(events, None) is None


def test_a_silent_stream_shows_that_it_lives(
    settings: Settings, root: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.stream.HEARTBEAT_S", 0.02)
    monkeypatch.setattr("app.jobs.stream.LOOK_S", 0.02)
    with reading(settings, f"file://{root}/", job_workers=0) as client:
        job = ask(client, create(client), pattern=pattern)
        with client.stream("GET", f"{job}/events") as response:
            lines = response.iter_lines()
            assert next(line for line in lines if line.startswith(":")) == ": still here"


def test_a_stream_ends_when_the_service_goes_down_and_goes_on_after_it(
    settings: Settings, root: Path, pattern: str
) -> None:
    seen: list[dict[str, str]] = []
    with reading(settings, f"file://{root}/", job_workers=0) as client:
        job = ask(client, assessment := create(client), pattern=pattern)
        begun = threading.Event()

        def watch() -> None:
            with (
                httpx.Client(base_url=client.base_url, timeout=60) as own,
                own.stream("GET", f"{job}/events") as response,
            ):
                for event in parse(response.iter_lines()):
                    seen.append(event)
                    begun.set()

        thread = threading.Thread(target=watch)
        thread.start()
        assert begun.wait(DEADLINE_S)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    with reading(settings, f"file://{root}/") as client:
        seen += follow(client, job, after=kept(seen)[-1][0])
        assert [name for _, name in kept(seen)] == ["queued", "started", "listed", *["shard"] * 5, "succeeded"]
        check_plan(client, assessment, rows(40))


def test_a_key_has_so_many_streams_open_and_others_keep_theirs(settings: Settings, root: Path, pattern: str) -> None:
    limits = {"max_event_streams": 2, "job_workers": 0, "ingest_prefixes": (f"file://{root}/",)}
    with (
        tenancy(settings.model_copy(update=limits)) as service,
        service.tenant("a") as a,
        service.tenant("b") as b,
    ):
        job, other = (ask(client, create(client), pattern=pattern) for client in (a, b))
        with ExitStack() as streams:
            for _ in range(2):
                assert streams.enter_context(a.stream("GET", f"{job}/events")).status_code == 200
            refused = a.get(f"{job}/events")
            check_problem(refused, 429, "too-many-event-streams", "at most 2", "NORMGAUGE_MAX_EVENT_STREAMS")
            assert refused.headers["retry-after"] == "5"
            assert a.get(job).json()["state"] == "queued"  # all else goes on
            with b.stream("GET", f"{other}/events") as response:
                assert response.status_code == 200
        # Both were left in the middle: their places come free when the server sees it.
        deadline = time.monotonic() + DEADLINE_S
        while True:
            with a.stream("GET", f"{job}/events") as response:
                if response.status_code == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)


class TestCancelling:
    @pytest.mark.databases
    def test_a_job_that_waits(self, settings: Settings, root: Path, pattern: str) -> None:
        with reading(settings, f"file://{root}/", job_workers=0) as client:
            job = ask(client, create(client), pattern=pattern)
            for _ in range(2):
                assert client.delete(job).json()["state"] == "cancelled"
            assert client.get(job).json()["ended_at"] is not None

    @pytest.mark.databases
    def test_a_job_that_runs(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.jobs.runner._LONGEST_RENEWAL_S", 0.05)  # that soon it learns of it
        with (
            endless(HEAD) as endpoint,
            reading(settings, "s3://data/", ingest_endpoint=endpoint, **KEY_SETTINGS) as client,
        ):
            assessment = create(client)
            job = ask(client, assessment, shards=[{"uri": "s3://data/x.npy"}])
            wait_for_bytes(client, job)
            assert client.delete(job).json()["state"] == "running"
            assert wait(client, job)["state"] == "cancelled"
            assert client.get(assessment).json()["shards"] == []

    def test_a_job_that_has_ended_stays_so(self, service: httpx.Client, pattern: str) -> None:
        job = ask(service, create(service), pattern=pattern)
        state = wait(service, job)
        assert service.delete(job).json() == state


@pytest.mark.databases
def test_a_job_is_handed_back_when_its_server_goes_down(settings: Settings) -> None:
    with endless(HEAD) as endpoint:
        with reading(settings, "s3://data/", ingest_endpoint=endpoint, **KEY_SETTINGS) as client:
            job = ask(client, assessment := create(client), shards=[{"uri": "s3://data/x.npy"}])
            wait_for_bytes(client, job)
        with reading(settings, "s3://data/", job_workers=0) as client:
            state = client.get(job).json()
            assert (state["state"], state["attempts"]) == ("queued", 0)
            assert client.get(assessment).json()["shards"] == []
    x = rows(8)
    with (
        scripted({("HEAD", -1): Answer(200, npy(x), OBJECT), ("GET", -1): Answer(200, npy(x), OBJECT)}) as (healthy, _),
        reading(settings, "s3://data/", ingest_endpoint=healthy, **KEY_SETTINGS) as client,
    ):
        assert wait(client, job)["state"] == "succeeded"
        names = [name for _, name in kept(follow(client, job))]
        assert names == ["queued", "started", "handed_back", "started", "shard", "succeeded"]
        check_plan(client, assessment, x)


class TestPlans:
    @pytest.mark.databases
    def test_on_demand(self, service: httpx.Client, pattern: str) -> None:
        assessment = create(service)
        wait(service, ask(service, assessment, pattern=pattern))
        direct = service.get(f"{assessment}/plan")
        headers = {"Prefer": "wait=10, respond-async"}
        asked = service.get(f"{assessment}/plan", headers=headers)
        assert asked.status_code == 202
        assert asked.headers["preference-applied"] == "respond-async"
        job = wait(service, asked.headers["location"])
        assert (job["kind"], job["state"]) == ("plan", "succeeded")
        assert service.get(job["result"]).content == direct.content
        again = service.get(f"{assessment}/plan", headers=headers)
        assert (again.status_code, again.content) == (200, direct.content)
        other = service.get(f"{assessment}/plan", params={"threshold": "0.5"}, headers=headers)
        assert other.status_code == 202
        wait(service, other.headers["location"])  # so that it does not run on beside the tests after this one
        # In the other form it is another job's.
        columns = headers | {"Accept": ARROW}
        asked = service.get(f"{assessment}/plan", headers=columns)
        assert asked.status_code == 202
        job = wait(service, asked.headers["location"])
        direct = service.get(f"{assessment}/plan", headers={"Accept": ARROW})
        for made in (service.get(job["result"]), service.get(f"{assessment}/plan", headers=columns)):
            assert (made.status_code, made.headers["content-type"], made.content) == (200, ARROW, direct.content)

    def test_of_very_many_batches(self, settings: Settings) -> None:
        few = settings.model_copy(update={"max_plan_batches": 9, "job_poll_s": 0.05})
        with running(few) as url, httpx.Client(base_url=url, timeout=60) as client:
            assessment = create(client)
            client.put(f"{assessment}/shards/0", content=npy(rows(36))).raise_for_status()
            assert client.get(f"{assessment}/plan").status_code == 200
            client.put(f"{assessment}/shards/1", content=npy(rows(37)[36:])).raise_for_status()
            asked = client.get(f"{assessment}/plan")
            assert asked.status_code == 202
            wait(client, asked.headers["location"])
            check_plan(client, assessment, rows(37))

    def test_that_cannot_be_made(self, service: httpx.Client, pattern: str) -> None:
        assessment = create(service)
        headers = {"Prefer": "respond-async"}
        check_problem(service.get(f"{assessment}/plan", headers=headers), 409, "missing-rows")
        job = ask(service, assessment, pattern=pattern)
        wait(service, job)
        response = service.get(f"{assessment}/plan", params={"method": "nope"}, headers=headers)
        check_problem(response, 422, "unknown-name")
        asked = service.get(f"{assessment}/plan", params={"batch_size": 5}, headers=headers)
        failed = wait(service, asked.headers["location"])
        assert failed["problem"]["type"] == "/problems/bad-setting"
        check_problem(service.get(f"{asked.headers['location']}/result"), 409, "no-result", "has not")
        check_problem(service.get(f"{job}/result"), 409, "no-result", "has not")


def test_an_internal_error_ends_the_job_and_stays_inside(
    service: httpx.Client, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr("app.jobs.ingesting.find_pattern", fail)
    job = wait(service, ask(service, create(service), pattern=pattern))
    assert job["problem"]["type"] == "/problems/internal-error"
    assert job["problem"]["title"] == KINDS["internal-error"].title
    assert "secret" not in json.dumps(job)


def test_jobs_are_counted(service: httpx.Client, pattern: str) -> None:
    wait(service, ask(service, create(service), pattern=pattern))
    lines = service.get("/metrics").text.splitlines()
    assert 'normgauge_jobs{state="running"} 0.0' in lines
    succeeded = next(line for line in lines if line.startswith('normgauge_jobs{state="succeeded"}'))
    assert float(succeeded.split()[1]) >= 1
    assert any(line.startswith('normgauge_ingest_rows_total{source="store"}') for line in lines)


@pytest.fixture
def tenants(settings: Settings, root: Path) -> Iterator[Tenancy]:
    """A service with keys that may read the folder."""
    changes = {"ingest_prefixes": (f"file://{root}/",), "job_poll_s": 0.05}
    with tenancy(settings.model_copy(update=changes)) as tenants:
        assert isinstance(tenants.keys, Keys)
        yield tenants


def test_a_key_sees_only_its_own_jobs(tenants: Tenancy, pattern: str) -> None:
    with tenants.tenant("ours") as ours, tenants.tenant("theirs") as theirs:
        assessment = create(ours)
        job = ask(ours, assessment, pattern=pattern)
        assert wait(ours, job)["state"] == "succeeded"
        check_plan(ours, assessment, rows(40))
        for call in (theirs.get, theirs.delete):
            check_problem(call(job), 404, "job-not-found")
        for part in ("events", "result"):
            check_problem(theirs.get(f"{job}/{part}"), 404, "job-not-found")
        response = theirs.post(f"{assessment}/shards:ingest", json={"pattern": pattern})
        check_problem(response, 404, "assessment-not-found")
        with tenants.client(None) as no_one:
            check_problem(no_one.get(job), 401, "unauthenticated")
