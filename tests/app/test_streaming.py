"""Bodies as they really come: cut, endless, slow, too large; and what a crash leaves behind."""

import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from app.ingest import ShardReader
from app.serving import running
from app.settings import Settings
from app.storage import Store
from assessor import assess
from tests.app.processes import served
from tests.app.support import check_problem, create, npy, npy_head, rows
from tests.app.test_storage import create as create_in

pytestmark = pytest.mark.databases

MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused client may send on for longer: a busy machine is slow to send the rest of 64 MiB."""
    monkeypatch.setattr("app.protocol.LINGER_S", 120.0)


def send_raw(url: str, head: str, body: bytes = b"") -> socket.socket:
    """Return a connection on which a request's head and the beginning of its body were sent."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=60)
    connection.sendall(head.replace("\n", "\r\n").encode() + body)
    return connection


def read_answer(connection: socket.socket) -> bytes:
    """Return the answer on a connection: status line, head and body."""
    answer = b""
    while not answer.endswith(b"}"):
        received = connection.recv(65536)
        assert received, answer
        answer += received
    return answer


def shard_head(path: str, *fields: str) -> str:
    """Return the head of a PUT of shard 0."""
    return "\n".join([f"PUT {path}/shards/0 HTTP/1.1", "Host: localhost", *fields, "", ""])


def create_stored(settings: Settings) -> str:
    """Return the path of a new assessment, made beside a service that gives a busy machine too little time to ask."""
    with closing(Store(settings)) as store:
        return f"/v1/assessments/{create_in(store).id}"


def test_pieces_of_a_body_end_with_batches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(7).normal(size=(6001, 100)).astype(np.float32)
    ends = [0]
    feed = ShardReader.feed

    def noted(self: ShardReader, piece: memoryview) -> None:
        ends.append(ends[-1] + len(piece))
        feed(self, piece)

    monkeypatch.setattr(ShardReader, "feed", noted)
    settings = settings.model_copy(update={"piece_bytes": 1 << 16, "port": 0})
    with running(settings) as url, httpx.Client(base_url=url, timeout=120) as client:
        path = create(client, batch_sizes=[32])
        assert client.put(f"{path}/shards/0?first_row=0", content=npy(x[:13])).status_code == 201
        ends[:] = [0]
        assert client.put(f"{path}/shards/1?first_row=13", content=npy(x[13:])).status_code == 201
        assert client.get(f"{path}/plan").text == assess(x, batch_size=32).to_json()
    rows, rest = np.divmod(np.array(ends[1:-1]) - 128, 400)
    assert len(rows) > 30
    # A moment in which nothing comes ends a piece too, wherever it is.
    assert ((rest == 0) & ((13 + rows) % 32 == 0)).sum() > len(rows) / 2


def cut_connections(client: httpx.Client) -> float:
    """Return how many the server has counted."""
    found = re.search(r'normgauge_problems_total{type="client-disconnected"} (\S+)', client.get("/metrics").text)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("framing", ["Content-Length: {length}", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("reset", [False, True])
def test_connection_cut_in_mid_body(client: httpx.Client, server_url: str, framing: str, reset: bool) -> None:
    path = create(client)
    counted = cut_connections(client)
    data = npy(rows(100_000))
    half = data[: len(data) // 2]
    sent = half if "length" in framing else b"%x\r\n%b\r\n" % (len(half), half)
    connection = send_raw(server_url, shard_head(path, framing.format(length=len(data))), sent)
    if reset:
        # Linger 0: close sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    deadline = time.monotonic() + 120
    while cut_connections(client) == counted and time.monotonic() < deadline:
        time.sleep(0.02)  # the server is told by the system
    assert cut_connections(client) > counted
    # The whole shard goes in afterwards, so the half was neither stored nor left a lock or an index taken.
    assert client.get(path).json()["shards"] == []
    assert client.put(f"{path}/shards/0", content=data).status_code == 201
    assert client.get(f"{path}/plan").text == assess(rows(100_000), batch_size=4).to_json()


def test_no_room_for_the_columns_of_a_profile(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 rows have more of them than are held in memory; 1,000 have not."""
    path = create(client)

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/var/tmp/secret")

    with monkeypatch.context() as patched:
        patched.setattr("assessor.growing.tempfile.TemporaryFile", full)
        response = client.put(f"{path}/shards/0", content=npy(rows(100_000)))
        check_problem(response, 507, "no-room", "room for a temporary file", "No space left on device", "make room")
        assert "/var" not in response.text
        assert tempfile.gettempdir() not in response.text
        assert client.put(f"{path}/shards/0", content=npy(rows(1000))).status_code == 201
    assert client.put(f"{path}/shards/1?first_row=1000", content=npy(rows(100_000))).status_code == 201


def test_cut_connection_is_no_error_in_the_log(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    with running(settings, log_level="info") as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        send_raw(url, shard_head(path, "Content-Length: 1000"), b"\x93NUMPY").close()
        client.get("/livez")
    # The server has ended, and with it the request.
    logged = "".join(capfd.readouterr())
    assert "Application shutdown complete" in logged
    assert "Traceback" not in logged


def test_too_large_by_content_length_is_refused_before_the_body(settings: Settings) -> None:
    limited = settings.model_copy(update={"max_body_bytes": MEBIBYTE})
    with running(limited) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        head = shard_head(path, f"Content-Length: {MEBIBYTE + 1}", "Expect: 100-continue")
        with send_raw(url, head) as connection:
            answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"/problems/body-too-large" in answer
        assert client.get(path).json()["shards"] == []


@pytest.mark.parametrize("declared", [True, False])
def test_too_large(settings: Settings, declared: bool) -> None:
    limited = settings.model_copy(update={"max_body_bytes": MEBIBYTE})
    data = npy(np.zeros((MEBIBYTE, 1), np.float32))
    with running(limited) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        for method, target in (("PUT", f"{path}/shards/0"), ("POST", "/v1/assess?batch_size=4")):
            content = data if declared else (data[i : i + 65536] for i in range(0, len(data), 65536))
            response = client.request(method, target, content=content)
            assert ("content-length" in response.request.headers) == declared
            check_problem(
                response, 413, "body-too-large", f"at most {MEBIBYTE} bytes", "send smaller", "NORMGAUGE_MAX_BODY_BYTES"
            )
        assert client.get(path).json()["shards"] == []
        assert client.put(f"{path}/shards/0", content=npy(rows(8))).status_code == 201


def long_body(head: bytes) -> Iterator[bytes]:
    """Yield a head and then 64 MiB of zeros."""
    yield head
    for _ in range(1024):
        yield bytes(65536)


def test_bad_row_is_refused_while_the_rest_still_comes(client: httpx.Client, assessment: str) -> None:
    parts = urlsplit(str(client.base_url))
    head = npy_head((10**7, 64)) + np.full((1, 64), np.nan, np.float32).tobytes()
    with send_raw(
        f"http://{parts.netloc}", shard_head(assessment, "Content-Length: 2560000128"), head + bytes(4 * MEBIBYTE)
    ) as connection:
        answer = read_answer(connection)  # 2.5 GB were announced, 4 MiB sent
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"/problems/non-finite" in answer
    assert client.get(assessment).json()["shards"] == []


def test_client_that_sends_on_gets_the_refusal(client: httpx.Client, assessment: str) -> None:
    head = npy_head((10**6, 64)) + np.full((1, 64), np.nan, np.float32).tobytes()
    response = client.put(f"{assessment}/shards/0", content=long_body(head))
    check_problem(response, 422, "non-finite", "row 0, element 0")


@pytest.mark.parametrize("features", [1025, 10**7, 2**40])
def test_row_longer_than_allowed_is_not_gathered(settings: Settings, features: int) -> None:
    """A header may promise one row of gigabytes, of which nothing is held."""
    limited = settings.model_copy(update={"max_features": 1024, "piece_bytes": 65536})
    head = npy_head((1, features))
    with running(limited) as url, httpx.Client(base_url=url, timeout=60) as client:
        response = client.post("/v1/assess?batch_size=4", content=long_body(head))
        check_problem(response, 413, "too-many-features", "1024 values", "NORMGAUGE_MAX_FEATURES")


def test_body_that_stops_coming(settings: Settings) -> None:
    impatient = settings.model_copy(update={"body_idle_timeout_s": 0.5})
    with running(impatient) as url, httpx.Client(base_url=url, timeout=60) as client:
        path, answer = create_stored(settings), b""
        deadline = time.monotonic() + 60
        while b"got 6 bytes, then nothing" not in answer:
            # Bytes wait for others before they are handed on: a loop that stood still sees the timeout first.
            assert time.monotonic() < deadline, answer
            with send_raw(url, shard_head(path, "Content-Length: 1000"), b"\x93NUMPY") as connection:
                answer = read_answer(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
        assert client.get(path).json()["shards"] == []


def test_probes_answer_while_shards_come_in(client: httpx.Client, assessment: str) -> None:
    data = npy(rows(200_000, features=16))
    upload = threading.Thread(target=lambda: client.put(f"{assessment}/shards/0", content=data))
    upload.start()
    try:
        assert client.get("/livez").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ok"}
    finally:
        upload.join()
    assert client.get(assessment).json()["rows"] == 200_000


def test_acknowledged_shard_survives_kill_9(tmp_path: Path) -> None:
    x, database = rows(100), f"sqlite:///{tmp_path}/normgauge.db"
    with served(database) as (url, server), httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        stored = client.put(f"{path}/shards/1?first_row=60", content=npy(x[60:]))
        assert stored.status_code == 201
        # Another is half-way in when the process dies.
        half = npy(x[:60])[:-100]
        with send_raw(url, shard_head(path, f"Content-Length: {len(half) + 100}"), half):
            server.send_signal(signal.SIGKILL)
            server.wait()
    with served(database) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get(path).json()["shards"] == [stored.json()]
        assert client.put(f"{path}/shards/0", content=npy(x[:60])).status_code == 201
        assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    """A shard of 96 MiB costs two pieces of it, its profile, and what the allocator keeps."""
    n_rows, features = 32_768, 768
    block = np.random.default_rng(0).normal(size=(1024, features)).astype(np.float32)
    head = npy_head((n_rows, features))
    size_bytes = len(head) + n_rows * features * 4

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(n_rows // len(block)):
            yield block.tobytes()

    database = f"sqlite:///{tmp_path}/normgauge.db"
    with served(database) as (url, server), httpx.Client(base_url=url, timeout=60) as client:
        path = create(client, batch_sizes=[4, 32])
        # The first shard brings in what is imported and allocated once.
        assert client.put(f"{path}/shards/9?first_row=1000000", content=npy(block)).status_code == 201
        before = peak_bytes(server.pid)
        response = client.put(f"{path}/shards/0", content=body(), headers={"content-length": str(size_bytes)})
        assert response.status_code == 201
        assert response.json()["size_bytes"] == size_bytes
        grown = peak_bytes(server.pid) - before
    print(f"shard {size_bytes / MEBIBYTE:.0f} MiB, peak resident memory grew by {grown / MEBIBYTE:.1f} MiB")
    assert grown < 48 * MEBIBYTE


def peak_bytes(pid: int) -> int:
    """Return the largest resident memory that a process has had."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")
