"""What every answer carries and every request leaves in the log: an id, security headers, no data, no inside."""

import asyncio
import io
import json
import logging
import re
import socket
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import event

from app.headers import SECURITY_HEADERS
from app.main import create_app
from app.observability.logs import CONTEXT, JsonFormatter, TextFormatter, configure, fields
from app.serving import running
from app.settings import Settings
from tests.app.support import check_problem, create, npy, rows


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("normgauge")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield stream
    logger.removeHandler(handler)
    logger.setLevel("NOTSET")


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """Return the entries of a log."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


def exchange(application: FastAPI, *requests: httpx.Request) -> list[httpx.Response]:
    """Return the answers of an application that runs for these requests."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with application.router.lifespan_context(application), httpx.AsyncClient(transport=transport) as client:
            return [await client.send(request) for request in requests]

    return asyncio.run(run())


def request(method: str, path: str, **options: Any) -> httpx.Request:
    """Return a request to the application under test."""
    return httpx.Request(method, f"http://localhost{path}", **options)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/problems/too-large"),
        ("GET", "/v1/assessments"),
        ("GET", "/v1/assessments/x"),
        ("GET", "/nowhere"),
        ("PATCH", "/livez"),
        ("GET", "/livez?x=1"),
        ("POST", "/v1/assess?batch_size=0"),
    ],
)
def test_every_answer_has_an_id_and_security_headers(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, path, headers={"X-Request-ID": "a-b_c.d:9"})
    assert response.headers["x-request-id"] == "a-b_c.d:9"
    for name in SECURITY_HEADERS:
        assert response.headers[name]
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in response.headers["content-security-policy"] or path == "/"
    if response.status_code >= 400:
        assert response.json()["request_id"] == "a-b_c.d:9"


@pytest.mark.parametrize("given", ["", "a b", "ä", "-x", "x" * 129, "a\tb", '{"a":1}', None])
def test_an_id_of_another_form_is_replaced(client: httpx.Client, given: str | None) -> None:
    headers = {} if given is None else {b"X-Request-ID": given.encode("latin-1")}
    made = client.get("/livez", headers=headers).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_transport_security_only_over_https(settings: Settings) -> None:
    (plain,) = exchange(create_app(settings), httpx.Request("GET", "http://localhost/livez"))
    (secure,) = exchange(create_app(settings), httpx.Request("GET", "https://test/livez"))
    assert "strict-transport-security" not in plain.headers
    assert secure.headers["strict-transport-security"]


def test_a_request_is_one_line_without_query_headers_and_body(settings: Settings, log: io.StringIO) -> None:
    exchange(
        create_app(settings),
        request("GET", "/v1/assessments/x?secret=1", headers={"X-Request-ID": "i"}),
        request("POST", "/v1/assessments", json={"name": "secret", "batch_sizes": []}),
        request("GET", "/secret/secret", headers={"Authorization": "Bearer ng_secret"}),
        request("GET", "/livez"),
    )
    entries = [line for line in lines(log) if line["logger"] == "normgauge.requests"]
    assert "secret" not in log.getvalue()
    assert [(entry.get("route"), entry["status"]) for entry in entries] == [
        ("/v1/assessments/{assessment_id}", 422),
        ("/v1/assessments", 422),
        (None, 401),
    ]  # probes are logged at debug only
    first = entries[0]
    assert first["request_id"] == "i"
    assert (first["method"], first["path"], first["problem"]) == ("GET", "/v1/assessments/x", "unknown-parameter")
    assert first["duration_ms"] >= 0
    assert entries[1]["bytes_in"] > 0
    assert "path" not in entries[2]


def test_unknown_failure_is_logged_with_its_id_and_answered_without_the_inside(
    settings: Settings, log: io.StringIO
) -> None:
    application = create_app(settings)

    async def fail() -> None:
        raise RuntimeError("inside")

    application.add_api_route("/fail", fail)
    (response,) = exchange(application, request("GET", "/fail", headers={"X-Request-ID": "abc"}))
    check_problem(response, 500, "internal-error")
    assert "inside" not in response.text
    for name in SECURITY_HEADERS:
        assert response.headers[name]
    failed = next(line for line in lines(log) if line["level"] == "error")
    assert failed["request_id"] == "abc"
    assert "RuntimeError: inside" in failed["exception"]


def test_failure_in_mid_answer_is_not_taken_for_a_whole_answer(settings: Settings, log: io.StringIO) -> None:
    application = create_app(settings)

    async def half() -> StreamingResponse:
        async def body() -> Any:
            yield b"half"
            raise RuntimeError("inside")

        return StreamingResponse(body())

    application.add_api_route("/half", half)

    async def call() -> None:
        transport = httpx.ASGITransport(application)
        async with application.router.lifespan_context(application), httpx.AsyncClient(transport=transport) as client:
            await client.get("http://localhost/half")

    with pytest.raises(RuntimeError, match="inside"):
        asyncio.run(call())
    assert any(line["message"] == "failed in mid-answer" for line in lines(log))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (sqlite3.OperationalError("database is locked"), 503, "database-unavailable"),
        (sqlite3.InterfaceError("gone"), 503, "database-unavailable"),
        (sqlite3.ProgrammingError("no such table: shards"), 500, "internal-error"),
        (sqlite3.DatabaseError("disk image is malformed"), 500, "internal-error"),
    ],
)
def test_a_database_that_fails_shows_no_sql_path_or_trace(
    settings: Settings, log: io.StringIO, error: Exception, status: int, code: str
) -> None:
    """A real database whose driver fails on each statement, at each endpoint that uses it."""
    application = create_app(settings)

    def fail(*_: object) -> None:
        raise error

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            created = await client.post("/v1/assessments", json={"name": "x", "batch_sizes": [4]})
            path = created.headers["location"]
            event.listen(application.state.service.store.engine, "do_execute", fail)
            return [
                await client.get(path),
                await client.get("/v1/assessments"),
                await client.post("/v1/assessments", json={"name": "x", "batch_sizes": [4]}),
                await client.put(f"{path}/shards/0", content=npy(rows(8))),
                await client.get(f"{path}/plan"),
                await client.get(f"{path}/report"),
                await client.delete(path),
                await client.get("/readyz"),
            ]

    for response in asyncio.run(run()):
        check_problem(response, status, code)
        for inside in ("SELECT", "INSERT", "sqlite", "malformed", "locked", "gone", ".py", "shards.", "/tmp"):
            assert inside not in response.text
    assert "Traceback" in log.getvalue()


def test_text_lines_cannot_be_forged() -> None:
    record = logging.makeLogRecord(
        {"name": "normgauge", "levelno": 20, "levelname": "INFO", "msg": "got %s", "args": ("a\nforged\r",)}
        | fields(path="/x\n12:00:00 info y", status=200)
    )
    token = CONTEXT.set({"request_id": "i"})
    try:
        text = TextFormatter().format(record)
    finally:
        CONTEXT.reset(token)
    assert len(text.splitlines()) == 1
    assert text.endswith(r"info got a\nforged\r request_id=i path='/x\n12:00:00 info y' status=200")


@pytest.mark.parametrize(("log_format", "as_json"), [("json", True), ("text", False), ("auto", True)])
def test_configure(log_format: Any, as_json: bool) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure(level="warning", log_format=log_format, stream=stream)
        logging.getLogger("normgauge.x").warning("seen %d", 1)
        logging.getLogger("normgauge.x").info("unseen")
        logging.getLogger("another").info("unseen")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("normgauge", "uvicorn"):
            logging.getLogger(name).setLevel("NOTSET")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("{") == as_json
    assert "seen 1" in line


def test_shards_survive_the_id_of_another_request(client: httpx.Client) -> None:
    """The context of one request does not leak into the next on the same connection."""
    path = create(client)
    first = client.get(path, headers={"X-Request-ID": "first"}).headers["x-request-id"]
    second = client.get(path).headers["x-request-id"]
    assert first == "first"
    assert second != "first"


def test_what_is_no_request_gets_an_id_headers_and_a_count_too(settings: Settings) -> None:
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        address = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(b"this is no HTTP\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        text = client.get("/metrics").text
    head, _, content = answer.decode().partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    for name in SECURITY_HEADERS:
        assert headers[name.lower()]
    assert json.loads(content)["type"] == "/problems/malformed-http"
    assert json.loads(content)["request_id"] == headers["x-request-id"]
    assert 'normgauge_problems_total{type="malformed-http"} 1.0' in text
