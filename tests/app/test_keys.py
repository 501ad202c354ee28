"""API keys: what is kept of them, who gets in with which, and how the command line makes and revokes them."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.auth import Keys
from app.auth.tokens import Token
from app.cli import main
from app.database import API_KEYS
from app.serving import running
from app.settings import Settings
from app.storage import Store
from clients import AssessorClient
from clients.errors import AuthenticationError
from tests.app.support import check_problem, create, rows
from tests.app.tenants import Tenancy, tenancy

pytestmark = pytest.mark.databases


@pytest.fixture(scope="module")
def shared(make_database: Callable[[], str]) -> Settings:
    """Settings of the service that the tests share."""
    return Settings(database_url=make_database(), port=0)


@pytest.fixture(scope="module")
def service(shared: Settings) -> Iterator[Tenancy]:
    """A service with keys, so that it asks for one."""
    with tenancy(shared) as service:
        service.make_key("someone else")
        yield service


def listed(client: httpx.Client) -> list[str]:
    """Return the names of the assessments that a client sees."""
    response = client.get("/v1/assessments")
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["assessments"]]


def test_secret_is_kept_as_a_hash_only(service: Tenancy) -> None:
    text = service.make_key("training")
    secret = text.rpartition("_")[2]
    assert re.fullmatch("ng_[0-9a-f]{12}_[0-9a-f]{64}", text)
    with service.keys._reading.connect() as connection:
        kept = json.dumps([dict(row) for row in connection.execute(sa.select(API_KEYS)).mappings()])
    assert text.split("_")[1] in kept
    assert secret not in kept
    token = Token.read(text)
    assert token is not None
    assert secret not in repr(token)


def test_tokens_match_their_own_digest_only() -> None:
    token, other = Token.make(), Token.make()
    assert token.matches(token.digest)
    assert not token.matches(other.digest)
    assert not token.matches(None)
    assert not Token(token.id, "0" * 64).matches(None)


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        (None, "got none"),
        ("Basic YTpi", "another kind"),
        ("Bearer", "another text"),
        ("Bearer nonsense", "another text"),
        ("Bearer ng_0123456789ab_" + "0" * 64, "does not know"),
        ("Bearer ng_0123456789AB_" + "0" * 64, "another text"),
        ("Bearer ng_' OR 1=1 --_" + "0" * 64, "another text"),
    ],
)
def test_refused(service: Tenancy, authorization: str | None, words: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = httpx.get(f"{service.url}/v1/assessments", headers=headers, timeout=60)
    check_problem(response, 401, "unauthenticated", words)
    assert response.headers["www-authenticate"].startswith('Bearer realm="normgauge"')


def test_right_id_with_another_secret(service: Tenancy) -> None:
    first, second = service.make_key("a"), service.make_key("b")
    mixed = first.rpartition("_")[0] + "_" + second.rpartition("_")[2]
    with service.client(mixed) as client:
        check_problem(client.get("/v1/assessments"), 401, "unauthenticated", "does not know")


def test_two_authorization_headers(service: Tenancy) -> None:
    key = service.make_key("a")
    headers = [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")]
    check_problem(httpx.get(f"{service.url}/v1/assessments", headers=headers, timeout=60), 401, "unauthenticated")


def test_body_of_a_refused_call_is_not_waited_for(service: Tenancy) -> None:
    def endless() -> Iterator[bytes]:
        yield b"\x93NUMPY"

    response = httpx.put(f"{service.url}/v1/assessments/x/shards/0", content=endless(), timeout=60)
    check_problem(response, 401, "unauthenticated")
    assert response.headers["connection"] == "close"


def test_revoked_key_is_refused_at_once_by_every_replica(service: Tenancy, shared: Settings) -> None:
    key = service.make_key("leaked")
    with running(shared) as other, service.client(key) as here, httpx.Client(base_url=other, timeout=60) as there:
        there.headers = here.headers
        for client in (here, there):
            assert listed(client) == []
        service.keys.revoke(key.split("_")[1])
        for client in (here, there):
            check_problem(client.get("/v1/assessments"), 401, "unauthenticated", "revoked since")


def test_expired_key(service: Tenancy) -> None:
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    with service.client(service.make_key("old", expires_at=past)) as client:
        check_problem(client.get("/v1/assessments"), 401, "unauthenticated", "expired since")
    with service.client(service.make_key("new", expires_at=future)) as client:
        assert listed(client) == []


def test_revoking_the_last_key_opens_nothing(settings: Settings) -> None:
    with tenancy(settings) as service:
        with service.client(None) as client:
            assert listed(client) == []
        service.keys.revoke(service.make_key("only one").split("_")[1])
        with service.client(None) as client:
            check_problem(client.get("/v1/assessments"), 401, "unauthenticated", "got none")


def test_what_was_made_without_a_key_is_adopted_when_asked(settings: Settings) -> None:
    with tenancy(settings) as service:
        with service.client(None) as client:
            create(client, name="from before")
        with service.client(service.make_key("a stranger")) as client:
            assert listed(client) == []
        with service.client(str(service.keys.create("the owner", adopt=True)[1])) as client:
            assert listed(client) == ["from before"]


def test_last_use_is_written(settings: Settings) -> None:
    with tenancy(settings.model_copy(update={"sweep_interval_s": 0.01})) as service:
        key = service.make_key("used")
        before = datetime.now(UTC)
        with service.client(key) as client:
            assert listed(client) == []
            deadline = time.monotonic() + 60
            while (used := service.keys.list()[0].last_used_at) is None:
                assert time.monotonic() < deadline, "the use was never written"
                time.sleep(0.01)
    moment = datetime.fromisoformat(used)
    assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)


def test_last_use_is_written_when_the_service_ends(settings: Settings) -> None:
    with closing(Store(settings)) as store:
        with tenancy(settings) as service, service.client(service.make_key("used")) as client:
            assert listed(client) == []
        assert Keys(store.engine).list()[0].last_used_at is not None


def test_host_that_others_reach_needs_a_key(settings: Settings) -> None:
    """Also where no command has looked: the application itself lets no one in."""
    for allowed, status in ((False, 401), (True, 200)):
        public = settings.model_copy(update={"host": "0.0.0.0", "allow_anonymous": allowed})
        with running(public) as url:
            response = httpx.get(url.replace("0.0.0.0", "127.0.0.1") + "/v1/assessments", timeout=60)
            assert response.status_code == status
            if status == 401:
                check_problem(response, 401, "unauthenticated", "normgauge keys create")


def test_keys_may_be_required_from_the_start(settings: Settings) -> None:
    """What the image sets: it runs before there is a key, and lets no one in, not even from the same machine."""
    with tenancy(settings.model_copy(update={"require_keys": True, "allow_anonymous": True})) as service:
        with service.client(None) as client:
            check_problem(client.get("/v1/assessments"), 401, "unauthenticated", "no key yet", "normgauge keys create")
            assert client.get("/readyz").status_code == 200
        with service.client(service.make_key("first")) as client:
            assert listed(client) == []


def test_client_sends_its_key(service: Tenancy) -> None:
    x = rows(64)
    with AssessorClient(service.url, api_key=service.make_key("training")) as client:
        info = client.create_assessment("mine", [4])
        client.put_shard(info.id, 0, x)
        assert client.plan(info.id).n_rows == 64
    with AssessorClient(service.url) as client, pytest.raises(AuthenticationError, match="expected an API key"):
        client.create_assessment("no one's", [4])


def run(*arguments: str, settings: Settings) -> int:
    """Run `normgauge keys`."""
    return main(["keys", *arguments, "--database", settings.database_url])


def test_command(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "training", "--expires", "90d", settings=settings) == 0
    said = capsys.readouterr()
    token = Token.read(said.out.strip())
    assert token is not None
    assert token.secret not in said.err
    assert "shown this once" in said.err
    assert run("create", "for ever", settings=settings) == 0
    capsys.readouterr()
    assert run("list", "--json", settings=settings) == 0
    found = {key["name"]: key for key in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name: key["state"] for name, key in found.items()} == {"training": "active", "for ever": "active"}
    days = datetime.fromisoformat(found["training"]["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89.9) < days < timedelta(days=90)
    assert run("revoke", token.id, settings=settings) == 0
    assert "is revoked since" in capsys.readouterr().err
    assert run("list", settings=settings) == 0
    table = capsys.readouterr().out
    assert re.search(rf"{token.id}\s+training\s+revoked", table)
    assert token.secret not in table


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["create", ""], 2, "expected a name"),
        (["create", "x\ny"], 2, "expected a name"),
        (["create", "x" * 201], 2, "expected a name"),
        (["create", "x", "--expires", "soon"], 2, "number of days"),
        (["create", "x", "--expires", "2001-01-01"], 2, "moment to come"),
        (["create", "x", "--expires", "99999999d"], 2, "number of days"),
        (["revoke", "unknown"], 1, "which none has"),
    ],
)
def test_command_refuses(
    arguments: list[str], status: int, words: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(Store(settings)) as store:
        store.migrate()
    assert run(*arguments, settings=settings) == status
    assert words in capsys.readouterr().err
    with closing(Store(settings)) as store:
        assert Keys(store.engine).list() == []


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "x"]])
def test_command_makes_no_database_of_a_mistyped_name(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "typo.db"
    assert main(["keys", *arguments, "--database", f"sqlite:///{path}"]) == 1
    assert f"there is none at {path}: pass the service's to --database" in capsys.readouterr().err
    assert not path.exists()


def test_command_says_where_a_key_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "create", "me", "--database", "sqlite:///here.db"]) == 0
    assert f"whose database is {tmp_path}/here.db\n" in capsys.readouterr().err


def test_no_key_in_any_log(service: Tenancy, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    key = service.make_key("training")
    with caplog.at_level("DEBUG"), service.client(key) as client:
        assert listed(client) == []
        client.get(f"/v1/assessments?{key}=1")
        deadline = time.monotonic() + 60  # a request's line may come after its answer
        while sum(record.name == "normgauge.requests" for record in caplog.records) < 2:
            assert time.monotonic() < deadline, "the requests were not logged"
            time.sleep(0.01)
    lines = [record.getMessage() + json.dumps(getattr(record, "fields", {})) for record in caplog.records]
    ours = [line for record, line in zip(caplog.records, lines, strict=True) if record.name.startswith("normgauge")]
    assert len(ours) >= 2
    assert not [line for line in ours if key in line]


def test_without_keys_only_this_machines_names_are_served(settings: Settings) -> None:
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"):
            assert client.get("/v1/assessments", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            check_problem(
                client.get("/v1/assessments", headers={"Host": host}), 401, "unauthenticated", "Host", "localhost"
            )
            assert client.get("/livez", headers={"Host": host}).status_code == 200
    with (
        running(settings.model_copy(update={"allow_anonymous": True})) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert client.get("/v1/assessments", headers={"Host": "evil.example"}).status_code == 200


def test_with_a_key_any_name_will_do(service: Tenancy) -> None:
    with service.tenant("by name") as client:
        assert client.get("/v1/assessments", headers={"Host": "normgauge.example"}).status_code == 200
