"""shards:ingest: objects of a real S3 server and files of a folder become the shards that PUT would make of them."""

import gzip
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.settings import Settings
from tests.app.jobs import ask, check_plan, follow, kept, reading, wait, write_shards
from tests.app.support import check_problem, create, npy, rows, safetensors
from tests.object_stores import KEYS, OBJECT, S3, Answer, moto, nowhere, scripted

KEY_SETTINGS = {f"ingest_{name}": value for name, value in KEYS.items()}


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Moto's S3 server."""
    with moto() as s3:
        yield s3


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the service may read."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def folder(root: Path) -> Path:
    """An empty folder in it."""
    folder = root / secrets.token_hex(4)
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def service(make_database: Callable[[], str], root: Path, s3: S3) -> Iterator[httpx.Client]:
    """A service that may read that folder and the bucket."""
    settings = Settings(database_url=make_database(), port=0)
    with reading(settings, f"file://{root}/", "s3://data/", ingest_endpoint=s3.endpoint, **KEY_SETTINGS) as client:
        yield client


@pytest.mark.databases
def test_a_pattern_of_objects_is_read_in_order(service: httpx.Client, s3: S3) -> None:
    x = rows(70)
    for name, part in zip(("a", "b", "c"), np.split(x, (13, 50)), strict=True):
        s3.put(f"pattern/{name}.npy", npy(part))
    s3.put("pattern/notes.txt", b"not a shard")
    assessment = create(service)
    job = wait(service, ask(service, assessment, pattern="s3://data/pattern/*.npy"))
    assert job["state"] == "succeeded"
    size_bytes = 70 * 6 * 4 + 3 * 128
    assert job["progress"] == {
        "shards_done": 3,
        "shards_total": 3,
        "rows": 70,
        "bytes": size_bytes,
        "bytes_total": size_bytes,
    }
    state = service.get(assessment).json()
    assert [(s["index"], s["first_row"], s["rows"]) for s in state["shards"]] == [(0, 0, 13), (1, 13, 37), (2, 50, 20)]
    check_plan(service, assessment, x)


def test_a_list_of_uris_will_do(service: httpx.Client, folder: Path) -> None:
    x = rows(40)
    uris = [f"file://{folder}/{name}.npy" for name in "ab"]
    for name, part in zip("ab", np.split(x, [25]), strict=True):
        (folder / f"{name}.npy").write_bytes(npy(part))
    for body in (uris, [{"uri": uris[0]}, uris[1]]):
        assessment = create(service)
        job = service.post(f"{assessment}/shards:ingest", json=body)
        assert job.status_code == 202, job.text
        assert wait(service, job.headers["location"])["state"] == "succeeded"
        check_plan(service, assessment, x)
    for wrong in ([], [7], [[uris[0]]]):
        check_problem(service.post(f"{assessment}/shards:ingest", json=wrong), 422, "invalid-request", "shards")


@pytest.mark.databases
def test_a_shard_is_the_one_that_put_makes(service: httpx.Client, folder: Path) -> None:
    x, y = rows(40), np.arange(40) % 3
    (folder / "a.safetensors").write_bytes(safetensors(x, y))
    here, there = create(service), create(service)
    wait(service, ask(service, here, shards=[{"uri": f"file://{folder}/a.safetensors"}]))
    service.put(f"{there}/shards/0", content=safetensors(x, y))
    assert service.get(here).json()["shards"] == service.get(there).json()["shards"]


def test_a_list_has_indices_rows_and_formats(service: httpx.Client, folder: Path) -> None:
    x = write_shards(folder, 10, 20, 30)
    (folder / "text").write_text("\n".join(",".join(map(str, row)) for row in [range(6), *x[60:].tolist()]))
    np.savetxt(folder / "more.csv", rows(4), delimiter=",", header="a,b,c,d,e,f", comments="")
    assessment = create(service)
    uri = f"file://{folder}/part-"
    shards: list[dict[str, Any]] = [
        {"uri": f"{uri}2.npy", "index": 7, "first_row": 30},
        {"uri": f"{uri}0.npy", "index": 0},
        {"uri": f"{uri}1.npy"},
        {"uri": f"file://{folder}/more.csv", "index": 8},
    ]
    job = wait(service, ask(service, assessment, shards=shards))
    assert job["state"] == "succeeded", job
    found = {s["index"]: (s["first_row"], s["rows"]) for s in service.get(assessment).json()["shards"]}
    assert found == {0: (0, 10), 1: (10, 20), 7: (30, 30), 8: (60, 4)}


def test_compressed_objects(service: httpx.Client, folder: Path) -> None:
    x = rows(40)
    (folder / "a.npy.gz").write_bytes(gzip.compress(npy(x)))
    assessment = create(service)
    assert wait(service, ask(service, assessment, pattern=f"file://{folder}/*.gz"))["state"] == "succeeded"
    check_plan(service, assessment, x)


@pytest.mark.databases
def test_the_same_again_changes_nothing(service: httpx.Client, folder: Path) -> None:
    x = write_shards(folder, 10, 30)
    assessment = create(service)
    service.put(f"{assessment}/shards/0", content=npy(x[:10])).raise_for_status()
    pattern = f"file://{folder}/part-*.npy"
    first = ask(service, assessment, pattern=pattern)
    assert wait(service, first)["progress"]["rows"] == 40
    state = service.get(assessment).json()
    second = ask(service, assessment, pattern=pattern)
    assert second != first
    assert wait(service, second)["state"] == "succeeded"
    assert [e["event"] for e in follow(service, second) if "id" in e].count("shard") == 2
    assert service.get(assessment).json() == state | {"expires_at": service.get(assessment).json()["expires_at"]}
    check_plan(service, assessment, x)


def test_asking_twice_meanwhile_gives_one_job(settings: Settings, folder: Path) -> None:
    write_shards(folder, 4)
    with reading(settings, f"file://{folder}/", job_workers=0) as client:
        assessment = create(client)
        job = ask(client, assessment, pattern=f"file://{folder}/*.npy")
        assert ask(client, assessment, pattern=f"file://{folder}/*.npy") == job
        assert ask(client, assessment, pattern=f"file://{folder}/?.npy") != job


class TestFailures:
    """A job that cannot go on says where and why, and keeps what it stored."""

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"no shard at all", "malformed-shard"),
            (npy(rows(3))[:-4], "malformed-shard"),
            (npy(rows(3, features=5)), "shape-mismatch"),
            (npy(np.full((3, 6), np.nan)), "non-finite"),
            (b"", "empty-shard"),
        ],
    )
    def test_a_bad_object(self, service: httpx.Client, folder: Path, content: bytes, kind: str) -> None:
        write_shards(folder, 8)
        (folder / "part-1.npy").write_bytes(content)
        assessment = create(service)
        path = ask(service, assessment, pattern=f"file://{folder}/*.npy")
        job = wait(service, path)
        assert job["state"] == "failed"
        assert job["problem"]["type"] == f"/problems/{kind}"
        assert job["problem"]["instance"] == path
        assert job["problem"]["detail"].startswith(f"file://{folder}/part-1.npy: expected")
        assert job["progress"]["shards_done"] == 1
        assert [s["index"] for s in service.get(assessment).json()["shards"]] == [0]
        # Mended, the same call stores what is missing.
        (folder / "part-1.npy").write_bytes(npy(rows(12)[8:]))
        again = wait(service, ask(service, assessment, pattern=f"file://{folder}/*.npy"))
        assert again["state"] == "succeeded", again
        check_plan(service, assessment, rows(12))

    def test_nothing_there(self, service: httpx.Client) -> None:
        assessment = create(service)
        for body in ({"pattern": "s3://data/none/*.npy"}, {"shards": [{"uri": "s3://data/none.npy"}]}):
            job = wait(service, ask(service, assessment, **body))
            assert job["problem"]["type"] == "/problems/source-not-found"

    def test_other_bytes_under_a_stored_index(self, service: httpx.Client, folder: Path) -> None:
        write_shards(folder, 8)
        assessment = create(service)
        service.put(f"{assessment}/shards/0", content=npy(rows(9))).raise_for_status()
        job = wait(service, ask(service, assessment, pattern=f"file://{folder}/*.npy"))
        assert job["problem"]["type"] == "/problems/shard-conflict"

    def test_a_first_row_that_cannot_be_told(self, service: httpx.Client, folder: Path) -> None:
        write_shards(folder, 8)
        assessment = create(service)
        job = wait(service, ask(service, assessment, pattern=f"file://{folder}/*.npy", first_index=3))
        assert job["problem"]["type"] == "/problems/first-row-needed"
        job = wait(service, ask(service, assessment, pattern=f"file://{folder}/*.npy", first_index=3, first_row=0))
        assert job["state"] == "succeeded"

    def test_a_store_that_is_away_is_asked_again_later(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.jobs.runner.RETRY_S", (0.1,))
        body = npy(rows(8))
        # The store's own library repeats what fails; enough answers are bad to outlast it once.
        answers = {("HEAD", n): Answer(503) for n in range(5)} | {("HEAD", -1): Answer(200, body, OBJECT)}
        with (
            scripted(answers | {("GET", -1): Answer(200, body, OBJECT)}) as (endpoint, _),
            reading(settings, "s3://data/", ingest_endpoint=endpoint, **KEY_SETTINGS) as client,
        ):
            assessment = create(client)
            path = ask(client, assessment, shards=[{"uri": "s3://data/x.npy"}])
            assert wait(client, path)["state"] == "succeeded"
            names = [name for _, name in kept(follow(client, path))]
            assert names == ["queued", "started", "retry", "started", "shard", "succeeded"]
            check_plan(client, assessment, rows(8))

    def test_a_store_that_stays_away(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.jobs.runner.RETRY_S", (0.05,))
        with (
            scripted(Answer(403)) as (endpoint, _),
            reading(settings, "s3://data/", ingest_endpoint=endpoint, **KEY_SETTINGS) as client,
        ):
            job = wait(client, ask(client, create(client), shards=[{"uri": "s3://data/x.npy"}]))
            assert job["problem"]["type"] == "/problems/source-denied"
        with (
            nowhere() as endpoint,
            reading(settings, "s3://data/", ingest_endpoint=endpoint, job_attempts=1, **KEY_SETTINGS) as client,
        ):
            job = wait(client, ask(client, create(client), shards=[{"uri": "s3://data/x.npy"}]))
            assert job["problem"]["type"] == "/problems/source-unavailable"
            assert job["attempts"] == 1


class TestPolicy:
    """What the operator did not allow is refused, each in its own words."""

    def test_nothing_is_allowed_by_default(self, client: httpx.Client, assessment: str) -> None:
        response = client.post(f"{assessment}/shards:ingest", json={"pattern": "s3://data/*"})
        check_problem(response, 403, "ingest-off", "NORMGAUGE_INGEST_PREFIXES")

    @pytest.mark.parametrize(
        ("uri", "status", "code"),
        [
            ("s3://other/x.npy", 403, "source-not-allowed"),
            ("s3://data-2/x.npy", 403, "source-not-allowed"),
            ("file:///etc/passwd", 403, "source-not-allowed"),
            ("file://{root}-2/x.npy", 403, "source-not-allowed"),
            ("file://{root}/../x.npy", 422, "bad-source-uri"),
            ("file://{root}/%2e%2e/x.npy", 422, "bad-source-uri"),
            ("s3://data/../other/x.npy", 422, "bad-source-uri"),
            ("s3://169.254.169.254/latest/meta-data", 422, "bad-source-uri"),
            ("http://127.0.0.1:9000/data/x.npy", 422, "bad-source-uri"),
            ("https://example.org/x.npy", 422, "bad-source-uri"),
        ],
    )
    def test_what_is_asked_for_is_refused(
        self, service: httpx.Client, root: Path, uri: str, status: int, code: str
    ) -> None:
        text = uri.replace("{root}", str(root))
        path = f"{create(service)}/shards:ingest"
        check_problem(service.post(path, json={"shards": [{"uri": text}]}), status, code, "expected")
        check_problem(service.post(path, json={"pattern": f"{text}/*"}), status, code, "expected")

    def test_links_out_of_the_folder(self, service: httpx.Client, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.npy").write_bytes(npy(rows(4)))
        (folder / "link.npy").symlink_to(tmp_path / "secret.npy")
        (folder / "up").symlink_to(tmp_path)
        for body in (
            {"shards": [{"uri": f"file://{folder}/link.npy"}]},
            {"shards": [{"uri": f"file://{folder}/up/secret.npy"}]},
            {"pattern": f"file://{folder}/*.npy"},
            {"pattern": f"file://{folder}/up/*.npy"},
        ):
            job = wait(service, ask(service, create(service), **body))
            assert job["problem"]["type"] == "/problems/source-escape"

    def test_a_private_address_that_the_operator_did_not_name(
        self, settings: Settings, s3: S3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
        s3.put("private.npy", npy(rows(4)))
        with reading(settings, "s3://data/", **KEY_SETTINGS) as client:
            job = wait(client, ask(client, create(client), shards=[{"uri": "s3://data/private.npy"}]))
            assert job["problem"]["type"] == "/problems/source-address"
        with reading(settings, "s3://data/", ingest_endpoint=s3.endpoint, **KEY_SETTINGS) as client:
            job = wait(client, ask(client, create(client), shards=[{"uri": "s3://data/private.npy"}]))
            assert job["state"] == "succeeded"

    def test_a_store_that_sends_elsewhere(self, settings: Settings, s3: S3) -> None:
        s3.put("x.npy", npy(rows(4)))
        elsewhere = Answer(307, headers={"Location": f"{s3.endpoint}/data/x.npy"})
        with (
            scripted(elsewhere, host="127.0.0.2") as (endpoint, _),
            reading(settings, "s3://data/", ingest_endpoint=endpoint, **KEY_SETTINGS) as client,
        ):
            job = wait(client, ask(client, create(client), shards=[{"uri": "s3://data/x.npy"}]))
            assert job["problem"]["type"] == "/problems/source-redirect"

    def test_limits(self, settings: Settings, folder: Path) -> None:
        write_shards(folder, 4, 4, 4)
        with reading(settings, f"file://{folder}/", max_shards=2, max_jobs=1, job_workers=0) as client:
            path = f"{create(client)}/shards:ingest"
            shards = [{"uri": f"file://{folder}/part-{i}.npy"} for i in range(3)]
            check_problem(client.post(path, json={"shards": shards}), 409, "too-many-shards", "at most 2", "got 3")
            assert client.post(path, json={"shards": shards[:1]}).status_code == 202
            response = client.post(path, json={"shards": shards[1:2]})
            check_problem(response, 429, "too-many-jobs", "at most 1 unfinished")
            assert response.headers["retry-after"] == "5"
        with reading(settings, f"file://{folder}/", max_shards=2) as client:
            job = wait(client, ask(client, create(client), pattern=f"file://{folder}/*.npy"))
            assert job["problem"]["type"] == "/problems/bad-source-uri"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pattern": "s3://data/*", "shards": [{"uri": "s3://data/x"}]},
        {"shards": []},
        {"shards": [{"uri": "s3://data/x", "index": -1}]},
        {"shards": [{"uri": "s3://data/x", "first_row": -1}]},
        {"shards": [{"uri": "s3://data/x", "first_row": False}]},
        {"shards": [{"uri": "s3://data/x", "index": True}]},
        {"pattern": "s3://data/*", "first_index": "1"},
        {"shards": ["s3://data/x"]},
        {"pattern": "s3://data/*", "more": 1},
    ],
)
def test_bodies_that_are_none(service: httpx.Client, body: dict[str, Any]) -> None:
    check_problem(service.post(f"{create(service)}/shards:ingest", json=body), 422, "invalid-request")


def test_names_that_are_none(service: httpx.Client) -> None:
    path = f"{create(service)}/shards:ingest"
    for body in ({"pattern": "s3://data/*", "format": "nope"}, {"shards": [{"uri": "s3://data/x", "format": "nope"}]}):
        check_problem(service.post(path, json=body), 422, "unknown-name", "nope")
    check_problem(service.post(path, json={"pattern": "s3://data/x"}), 422, "bad-source-uri", "a pattern")
    response = service.post("/v1/assessments/0000/shards:ingest", json={"pattern": "s3://data/*"})
    check_problem(response, 404, "assessment-not-found")
