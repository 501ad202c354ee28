"""Every error is a problem document of a kind that stands in the table."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import HTTPException
from psycopg.errors import UndefinedTable
from sqlalchemy.exc import OperationalError, ProgrammingError

import app
from app.main import create_app
from app.problems import KINDS, ProblemError
from app.settings import Settings
from assessor import AssessorError
from tests.app.support import check_problem


def subclasses(cls: type[AssessorError]) -> Iterator[type[AssessorError]]:
    """Yield a class and all below it."""
    yield cls
    for child in cls.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize("error", list(subclasses(AssessorError)))
def test_each_assessor_error_has_its_kind(error: type[AssessorError]) -> None:
    # No room is the server's own trouble.
    assert 400 <= KINDS[error.code].status < 500 or error.code == "no-room"


def test_kinds_are_well_formed() -> None:
    for code, kind in KINDS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert kind.title
        assert kind.advice.endswith(".")
        assert 400 <= kind.status < 600


def test_each_code_used_in_the_service_exists() -> None:
    folder = Path(app.__file__).parent
    texts = [path.read_text() for path in [*folder.glob("*.py"), *folder.glob("routes/*.py")]]
    used = {code for text in texts for code in re.findall(r'ProblemError\(\s*"([a-z-]+)"', text)}
    assert used
    assert used <= set(KINDS)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/assessments/", 404, "not-found"),
        ("GET", "/docs", 404, "not-found"),
        ("PATCH", "/v1/assessments", 405, "method-not-allowed"),
        ("GET", "/v1/assess", 405, "method-not-allowed"),
        ("GET", "/v1/assessments/unknown", 404, "assessment-not-found"),
        ("GET", "/v1/assessments/%00", 404, "assessment-not-found"),
        ("GET", "/v1/assessments/x?verbose=1", 422, "unknown-parameter"),
        ("GET", "/livez?x=1", 422, "unknown-parameter"),
        ("GET", "/problems/unknown", 404, "not-found"),
    ],
)
def test_unknown_things(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    check_problem(client.request(method, path), status, code)


def test_method_not_allowed_says_which_are(client: httpx.Client) -> None:
    assert client.patch("/livez").headers["allow"] == "GET"


@pytest.mark.parametrize("code", KINDS)
def test_type_leads_to_a_text(client: httpx.Client, code: str) -> None:
    response = client.get(f"/problems/{code}")
    assert response.headers["content-type"].startswith("text/plain")
    assert KINDS[code].title in response.text
    assert KINDS[code].advice in response.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret of the inside"), 500, "internal-error"),
        (AssertionError("secret of the inside"), 500, "internal-error"),
        (OperationalError("SELECT secret", {}, Exception("locked")), 503, "database-unavailable"),
        (ProgrammingError("SELECT secret", {}, UndefinedTable("secret")), 503, "database-unavailable"),
        (ProgrammingError("SELECT secret", {}, Exception("near secret: syntax error")), 500, "internal-error"),
        (HTTPException(418, "short and stout"), 400, "bad-request"),
        (HTTPException(501, "not yet"), 500, "internal-error"),
        (ProblemError("too-large", "expected less; got more; send less"), 413, "too-large"),
    ],
)
def test_any_exception_becomes_a_problem_without_the_inside(
    settings: Settings, error: Exception, status: int, code: str
) -> None:
    application = create_app(settings)
    application.state.service.store.migrate()  # as its start would: whether there are keys is asked first

    async def fail() -> None:
        raise error

    application.add_api_route("/fail", fail)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/fail")

    response = asyncio.run(call())
    check_problem(response, status, code)
    assert "secret" not in response.text


def test_unreachable_database_is_alive_but_not_ready(settings: Settings) -> None:
    application = create_app(settings)

    async def probe() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            assert (await client.get("/readyz")).json() == {"status": "ok"}
            folder = Path(settings.database_url.removeprefix("sqlite:///")).parent
            folder.rename(folder.with_name(f"{folder.name}-gone"))  # before: a job's worker may connect at any time
            application.state.service.store.close()  # the connections in the pool, which still hold the file
            return await client.get("/readyz"), await client.get("/livez")

    ready, alive = asyncio.run(probe())
    check_problem(ready, 503, "database-unavailable", "did not answer", "try again")
    assert ready.headers["retry-after"]
    assert alive.json() == {"status": "ok"}


def test_probes_do_not_wait_for_busy_worker_threads(settings: Settings) -> None:
    application = create_app(settings)

    async def probe() -> list[int]:
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            limiter = application.state.service.limiter
            busy = [object() for _ in range(limiter.total_tokens)]
            for plan in busy:
                limiter.acquire_on_behalf_of_nowait(plan)
            try:
                async with asyncio.timeout(30):  # it would be for good
                    return [(await client.get(path)).status_code for path in ("/readyz", "/metrics", "/livez")]
            finally:
                for plan in busy:
                    limiter.release_on_behalf_of(plan)

    assert asyncio.run(probe()) == [200, 200, 200]
