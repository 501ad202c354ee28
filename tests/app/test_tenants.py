"""Two tenants at once, over every call of the OpenAPI document: neither sees or changes what is the other's.

The calls are taken from the document, so one that comes later is tested too, or fails here until it is told how.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest

from app.auth.access import is_open
from app.main import create_app
from app.settings import Settings
from assessor import Plan, assess
from tests.app.jobs import ask, wait, write_shards
from tests.app.support import check_problem, create, npy, rows
from tests.app.tenants import Tenancy, tenancy

pytestmark = pytest.mark.databases

OPERATIONS = [
    (method.upper(), path) for path, item in create_app(Settings()).openapi()["paths"].items() for method in item
]
GUARDED = [(method, path) for method, path in OPERATIONS if not is_open(path)]
OWNED = [(method, path) for method, path in GUARDED if "{" in path]
ALLOWED = "file:///srv/normgauge-tests/"
"""A prefix under which the service may read; what is there is never asked for."""
BODIES: dict[str, Any] = {
    "/v1/assess": {"content": npy(rows(8)), "params": {"batch_size": 4}},
    "/v1/assessments": {"json": {"name": "sent by the other", "batch_sizes": [4]}},
    "/v1/assessments/{assessment_id}/shards/{index}": {"content": npy(rows(8, seed=1))},
    "/v1/assessments/{assessment_id}/shards:ingest": {"json": {"pattern": f"{ALLOWED}*.npy"}},
}
"""What a call of this path has to hold to be understood, where that is not nothing."""


@dataclass
class Owner:
    """A tenant with an assessment, a shard in it, and a job that is done."""

    client: httpx.Client
    name: str
    values: dict[str, str]

    def fill(self, path: str) -> str:
        """Return the path of this tenant's own thing."""
        names = re.findall(r"{(\w+)}", path)
        unknown = sorted(set(names) - set(self.values))
        assert not unknown, f"{path}: say in `make_owner` what to put for {unknown}"
        return path.format(**self.values)

    def state(self) -> list[Any]:
        """Return all that the tenant can see of its own."""
        assessment, job = (self.fill(path) for path in ("/v1/assessments/{assessment_id}", "/v1/jobs/{job_id}"))
        paths = ("/v1/assessments", assessment, f"{assessment}/plan", job)
        answers = [self.client.get(path) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.text for answer in answers]


@pytest.fixture(scope="module")
def service(
    make_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tenancy, Path]]:
    """A service with keys that may read a folder."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(database_url=make_database(), port=0, ingest_prefixes=(f"file://{folder}/", ALLOWED))
    with tenancy(settings) as running:
        yield running, folder


def make_owner(service: tuple[Tenancy, Path], name: str) -> Owner:
    """Return a new tenant with one of everything."""
    tenancy, folder = service
    client = tenancy.tenant(name)
    write_shards(folder / name, 8)
    path = create(client, name=f"secret of {name}")
    job = ask(client, path, pattern=f"file://{folder}/{name}/*.npy")
    wait(client, job)
    values = {"assessment_id": path.rpartition("/")[2], "job_id": job.rpartition("/")[2], "index": "0"}
    return Owner(client, name, values)


@pytest.fixture(scope="module")
def owners(service: tuple[Tenancy, Path]) -> Iterator[tuple[Owner, Owner]]:
    """Two tenants."""
    pair = make_owner(service, "alice"), make_owner(service, "bob")
    yield pair
    for owner in pair:
        owner.client.close()


def call(client: httpx.Client, method: str, path: str, place: str) -> httpx.Response:
    """Return the answer to a call that is understood."""
    with client.stream(method, place, **BODIES.get(path, {})) as response:
        response.read()
    return response


def test_there_is_something_to_test() -> None:
    assert len(OWNED) >= 8
    assert len(GUARDED) > len(OWNED)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_no_call_without_a_key(
    service: tuple[Tenancy, Path], owners: tuple[Owner, Owner], method: str, path: str
) -> None:
    with service[0].client(None) as nobody:
        check_problem(call(nobody, method, path, owners[0].fill(path)), 401, "unauthenticated", "got none")


@pytest.mark.parametrize(("method", "path"), [operation for operation in OPERATIONS if operation not in GUARDED])
def test_open_calls_tell_nothing_of_anyone(
    service: tuple[Tenancy, Path], owners: tuple[Owner, Owner], method: str, path: str
) -> None:
    with service[0].client(None) as nobody:
        response = call(nobody, method, path, path.format(code="unauthenticated"))
    assert response.status_code == 200
    for owner in owners:
        assert not [text for text in (owner.values["assessment_id"], owner.values["job_id"]) if text in response.text]
        assert f"secret of {owner.name}" not in response.text


@pytest.mark.parametrize(("method", "path"), OWNED)
def test_what_is_anothers_does_not_exist(owners: tuple[Owner, Owner], method: str, path: str) -> None:
    """To the letter: the same answer as for what never was."""
    alice, bob = owners
    before = alice.state(), bob.state()
    for owner, other in ((alice, bob), (bob, alice)):
        answer = call(owner.client, method, path, other.fill(path))
        assert answer.status_code == 404, answer.text
        assert answer.json()["type"] in ("/problems/assessment-not-found", "/problems/job-not-found")
        nothing = {"assessment_id": "f" * 16, "job_id": "f" * 16, "index": "0"}
        same = call(owner.client, method, path, path.format(**nothing)).json()
        told = [
            {k: str(v).replace(which, "?") for k, v in document.items() if k not in ("instance", "request_id")}
            for document, values in ((answer.json(), other.values), (same, nothing))
            for which in [values["job_id" if "{job_id}" in path else "assessment_id"]]
        ]
        assert told[0] == told[1]
    assert (alice.state(), bob.state()) == before


@pytest.mark.parametrize(("method", "path"), [operation for operation in GUARDED if operation not in OWNED])
def test_lists_and_creation_stay_with_the_caller(owners: tuple[Owner, Owner], method: str, path: str) -> None:
    alice, bob = owners
    before = bob.state()
    answer = call(alice.client, method, path, path)
    assert answer.status_code in (200, 201)
    assert not [value for name, value in bob.values.items() if name != "index" and value in answer.text]
    assert "secret of bob" not in answer.text
    assert bob.state() == before


def test_cursor_of_another_leads_to_ones_own(owners: tuple[Owner, Owner]) -> None:
    alice, bob = owners
    for number in range(3):
        create(bob.client, name=f"more {number}")
        create(alice.client, name="between")
    cursor = bob.client.get("/v1/assessments", params={"limit": 1}).json()["next_cursor"]
    page = alice.client.get("/v1/assessments", params={"cursor": cursor, "limit": 200}).json()
    assert {item["name"] for item in page["assessments"]} <= {"between", "secret of alice", "sent by the other"}


def test_two_at_once(service: tuple[Tenancy, Path]) -> None:
    """Both do all their work at the same time, through the same server, and each finds its own alone."""
    barrier = Barrier(2)

    def work(name: str) -> list[str]:
        x = rows(80, seed=len(name))
        with service[0].tenant(name) as client:
            for turn in range(5):
                barrier.wait()
                path = create(client, name=f"{name} {turn}")
                for index in range(4):
                    sent = client.put(
                        f"{path}/shards/{index}?first_row={20 * index}", content=npy(x[20 * index : 20 * index + 20])
                    )
                    assert sent.status_code == 201
                plan = client.get(f"{path}/plan").text
                assert Plan.from_json(plan).to_json() == assess(x, batch_size=4).to_json()
                if turn % 2:
                    assert client.delete(path).status_code == 204
            return [item["name"] for item in client.get("/v1/assessments").json()["assessments"]]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, ("carol", "dave")))
    assert found == [[f"{name} {turn}" for turn in (4, 2, 0)] for name in ("carol", "dave")]
