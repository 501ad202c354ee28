"""How the service goes down: a real process, a real signal, real uploads under way."""

import json
import signal
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.serving import running
from app.settings import Settings
from assessor import Profile, Profiler, assess
from tests.app.processes import served
from tests.app.support import check_problem, create, npy, rows

MOST_POLLS = 100_000


def database_in(folder: Path) -> str:
    """Return the URL of a SQLite file in a folder."""
    return f"sqlite:///{folder}/normgauge.db"


def begin_upload(url: str, path: str, body: bytes, sent: int) -> socket.socket:
    """Return a connection on which the head of a shard and the first bytes of its body were sent."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=120)
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body[:sent])
    return connection


def answer(connection: socket.socket) -> httpx.Response:
    """Return the answer on a connection that the server closes after it."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = [tuple(field.split(": ", 1)) for field in fields]
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)  # type: ignore[arg-type]


def wait_until_running(client: httpx.Client, count: int) -> None:
    """Return when the server works on that many requests beside this one."""
    for _ in range(MOST_POLLS):
        if f"normgauge_http_requests_running {count + 1}.0" in client.get("/metrics").text:
            return
    raise AssertionError("the requests never began")


def wait_until_draining(client: httpx.Client) -> httpx.Response:
    """Return the first answer of /readyz that is not 200."""
    for _ in range(MOST_POLLS):
        if (response := client.get("/readyz")).status_code != 200:
            return response
    raise AssertionError("it never said that it goes down")


def wait_until_closed(url: str) -> None:
    """Return when the server accepts no connection any more."""
    for _ in range(MOST_POLLS):
        try:
            socket.create_connection(("127.0.0.1", urlsplit(url).port or 80), timeout=5).close()
        except OSError:
            return
    raise AssertionError("it goes on accepting connections")


def test_it_says_that_it_goes_down_and_still_serves_while_what_balances_the_load_takes_notice(tmp_path: Path) -> None:
    # The delay is not waited for: the process is killed at the end.
    with (
        served(database_in(tmp_path), shutdown_delay_s=3600) as (url, server),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        path = create(client)
        server.send_signal(signal.SIGTERM)
        refused = wait_until_draining(client)
        refused.request = httpx.Request("GET", f"{url}/readyz")
        check_problem(refused, 503, "shutting-down", "instance that stays")
        assert refused.headers["connection"] == "close"
        assert client.get(path).status_code == 200
        assert client.put(f"{path}/shards/0", content=npy(rows(8))).status_code == 201


def test_upload_under_way_ends_after_sigterm_and_is_kept(tmp_path: Path) -> None:
    x = rows(20_000, features=16)
    body = npy(x)
    patience: dict[str, Any] = {"shutdown_timeout_s": 600, "body_idle_timeout_s": 600}
    with served(database_in(tmp_path), shutdown_delay_s=0.2, **patience) as (url, server):
        with httpx.Client(base_url=url, timeout=60) as client:
            path = create(client)
            connection = begin_upload(url, f"{path}/shards/0", body, len(body) // 2)
            wait_until_running(client, 1)
            server.send_signal(signal.SIGTERM)
        wait_until_closed(url)
        connection.sendall(body[len(body) // 2 :])
        stored = answer(connection)
        connection.close()
        assert stored.status_code == 201
        assert stored.headers["connection"] == "close"
        assert server.wait(timeout=120) == 0 or server.returncode == -signal.SIGTERM
    with (
        served(database_in(tmp_path), shutdown_timeout_s=600) as (url, server),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert client.get(path).json()["shards"] == [stored.json()]
        assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()
        # Nothing is under way now, so none of the ten minutes is waited, though this client's connection is open.
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=120)


def test_uploads_that_do_not_end_are_cut_cleanly(tmp_path: Path) -> None:
    body = npy(rows(20_000, features=16))
    with served(database_in(tmp_path), shutdown_timeout_s=0.3) as (url, server):
        with httpx.Client(base_url=url, timeout=60) as client:
            path = create(client)
            # One has sent its first rows, the other nothing but the head.
            begun = [
                begin_upload(url, f"{path}/shards/{index}?first_row=0", body, sent)
                for index, sent in ((0, 99_999), (1, 0))
            ]
            wait_until_running(client, 2)
            server.send_signal(signal.SIGTERM)
        for connection in begun:
            response = answer(connection)
            connection.close()
            response.request = httpx.Request("PUT", f"{url}{json.loads(response.text)['instance']}")
            check_problem(response, 503, "shutting-down", "nothing of it was stored", "send it again")
            assert response.headers["connection"] == "close"
            assert response.headers["retry-after"]
        server.wait(timeout=120)
        assert server.stderr is not None
        logged = server.stderr.read()
        assert "Traceback" not in logged
        assert "timeout graceful shutdown exceeded" not in logged
    with closing(sqlite3.connect(tmp_path / "normgauge.db")) as database:
        assert database.execute("SELECT count(*) FROM assessments").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM shards").fetchone() == (0,)


def test_what_is_not_done_in_time_is_answered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is complete, so it is not cut; its profile takes longer than the server waits for anything."""
    begun, released, finish = threading.Event(), threading.Event(), Profiler.finish

    def finish_late(profiler: Profiler) -> Profile:
        begun.set()
        released.wait(120)
        return finish(profiler)

    monkeypatch.setattr(Profiler, "finish", finish_late)
    monkeypatch.setattr("app.serving.CUT_TIMEOUT_S", 0)
    body = npy(rows(100))
    with ThreadPoolExecutor(1) as pool:
        try:
            with running(settings.model_copy(update={"shutdown_timeout_s": 0.1})) as url:
                with httpx.Client(base_url=url, timeout=60) as client:
                    path = create(client)
                uploading = pool.submit(httpx.put, f"{url}{path}/shards/0", content=body, timeout=60)
                assert begun.wait(60)
            # Leaving the block is what SIGTERM does.
            response = uploading.result(60)
        finally:
            released.set()
    check_problem(response, 503, "shutting-down", "may have been done", "send it again")
    assert response.headers["connection"] == "close"
    assert response.headers["retry-after"]
