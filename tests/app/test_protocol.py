"""The connection: what the client sees of malformed, slow, oversized and half-closed requests, on a real server."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
from xxhash import xxh3_128

from app.gathering import UNREAD_BYTES
from app.problems import KINDS
from app.protocol import MOST_AHEAD
from app.serving import running
from app.settings import Settings
from tests.app.support import check_problem, create, npy, npy_head, rows
from tests.app.test_streaming import read_answer, send_raw, shard_head

WHOLE = "GET /livez HTTP/1.1\nHost: localhost\n\n"


@pytest.fixture
def url(client: httpx.Client) -> str:
    return str(client.base_url)


def read_to_end(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    answer = b""
    while received := connection.recv(65536):
        answer += received
    return answer


def check_raw(answer: bytes, code: str) -> dict[str, object]:
    """Check that an answer is a problem document of this kind."""
    head, _, body = answer.partition(b"\r\n\r\n")
    problem: dict[str, object] = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {KINDS[code].status} ".encode()), head
    assert b"connection: close" in head.lower()
    assert problem["type"] == f"/problems/{code}"
    assert str(problem["detail"]).startswith("expected ")
    return problem


@contextmanager
def limited(settings: Settings, **limits: float) -> Iterator[str]:
    with running(settings.model_copy(update=limits)) as url:
        yield url


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    ],
)
def test_no_http(url: str, sent: bytes) -> None:
    with send_raw(url, "", sent) as connection:
        check_raw(read_to_end(connection), "malformed-http")


def test_malformed_chunk_stores_nothing(client: httpx.Client, url: str) -> None:
    path = create(client)
    with send_raw(url, shard_head(path, "Transfer-Encoding: chunked"), b"5\r\n\x93NUMP\r\nnonsense\r\n") as connection:
        check_raw(read_to_end(connection), "malformed-http")
    assert client.get(path).json()["shards"] == []
    assert client.put(f"{path}/shards/0", content=npy(rows(4))).status_code == 201


@pytest.mark.parametrize("n_rows", [4, 200_000])
def test_what_is_no_http_behind_a_whole_request(client: httpx.Client, url: str, n_rows: int) -> None:
    """The request is answered, as what became of it says; a body of 7 MB is read by another thread."""
    path, body = create(client), npy(rows(n_rows))
    with send_raw(url, shard_head(path, f"Content-Length: {len(body)}"), body + b"garbage\r\n\r\n") as connection:
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [shard["rows"] for shard in client.get(path).json()["shards"]] == [n_rows]


def test_what_is_no_http_behind_a_request_without_a_body(url: str) -> None:
    with send_raw(url, "GET /livez HTTP/1.1\nHost: localhost\n\n", b"garbage\r\n\r\n") as connection:
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_headers_too_large(url: str) -> None:
    for size in (70_000, 300_000):
        with send_raw(url, "GET /livez HTTP/1.1\nHost: a\nX-Long: ", b"x" * size + b"\r\n\r\n") as connection:
            problem = check_raw(read_to_end(connection), "headers-too-large")
        assert "65536 bytes" in str(problem["detail"])
        assert "NORMGAUGE_MAX_HEADER_BYTES" in str(problem["detail"])
    # One long header without an end, and many short ones.
    with send_raw(url, "GET /livez HTTP/1.1\nHost: a\n", b"x" * 200_000) as connection:
        check_raw(read_to_end(connection), "headers-too-large")
    fields = "".join(f"X-{k}: 1\n" for k in range(10_000))
    with send_raw(url, f"GET /livez HTTP/1.1\nHost: a\n{fields}\n") as connection:
        check_raw(read_to_end(connection), "headers-too-large")


def test_headers_as_large_as_they_may_be(url: str) -> None:
    response = httpx.get(f"{url}/livez", headers={"x-long": "x" * 60_000}, timeout=60)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "framing", [b"0\r\n" + b"X: 1\r\n" * 20_000, b"0\r\nX: " + b"x" * 140_000, b"1;" + b"x" * 140_000]
)
def test_trailers_and_chunk_extensions_without_end(client: httpx.Client, url: str, framing: bytes) -> None:
    """What is between and after the chunks of a body has the limit of headers, and none of it is kept."""
    path, body = create(client), npy(rows(4))
    sent = b"%x\r\n%b\r\n%b" % (len(body), body, framing)
    with send_raw(url, shard_head(path, "Transfer-Encoding: chunked"), sent) as connection:
        time.sleep(0.2)
        with suppress(OSError):
            connection.sendall(framing[3:])
            connection.sendall(framing[3:])
        problem = check_raw(read_to_end(connection), "headers-too-large")
    assert "trailers" in str(problem["detail"])
    assert client.get(path).json()["shards"] == []


def test_trailers_are_not_headers(client: httpx.Client, url: str) -> None:
    """A short trailer is let be, and is no field of its request."""
    path, body = create(client), npy(rows(4))
    sent = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    with send_raw(url, shard_head(path, "Transfer-Encoding: chunked", "Connection: close"), sent) as connection:
        connection.sendall(b"Content-Digest: nonsense\r\nX-Request-ID: trailer\r\n\r\n")
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"trailer" not in answer


def test_two_hosts(url: str) -> None:
    with send_raw(url, "GET /livez HTTP/1.1\nHost: localhost\nHost: elsewhere\n\n") as connection:
        problem = check_raw(read_to_end(connection), "malformed-http")
    assert "more than one host" in str(problem["detail"])


UPGRADE = "Upgrade: h2c\nConnection: Upgrade"


@pytest.mark.parametrize("framing", ["Content-Length: 31", "Transfer-Encoding: chunked"])
def test_upgrade_with_a_body(url: str, framing: str) -> None:
    """Its body is not a request of its own, whatever it looks like."""
    with send_raw(url, f"PUT /v1/assessments HTTP/1.1\nHost: localhost\n{UPGRADE}\n{framing}\n\n") as connection:
        problem = check_raw(read_to_end(connection), "malformed-http")
    assert "a body after upgrade" in str(problem["detail"])


def test_upgrade_ends_the_connection(url: str) -> None:
    """What the client sends ahead after it is not lost without a word."""
    head = "GET /livez HTTP/1.1\nHost: localhost\n"
    for sent in (f"{head}{UPGRADE}\n\n", f"{head}{UPGRADE}\nContent-Length: 0\n\n{head}\n"):
        with send_raw(url, sent) as connection:
            answer = read_to_end(connection)
        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ") == 1
        assert b"connection: close" in answer.lower()


def in_time(attempt: Callable[[], bytes]) -> bytes:
    """Return what an attempt is answered.

    Where nothing is, the machine was so busy that not a byte of the head came in time: then it is made again.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(ConnectionError):  # closed before it was sent
            if answer := attempt():
                return answer
    raise AssertionError("nothing was ever answered")


def test_head_that_does_not_come(settings: Settings) -> None:
    with limited(settings, header_timeout_s=0.3) as url:

        def ask(head: str) -> bytes:
            with send_raw(url, head) as connection:
                return read_to_end(connection)

        check_raw(in_time(lambda: ask("GET /livez HTTP/1.1\nHost:")), "headers-timeout")
        assert ask("") == b""
        # Not a byte comes after the packet in which a second head began, behind the first request.
        first, _, second = in_time(lambda: ask(f"{WHOLE}GET /livez HTTP/1.1\nHost:")).rpartition(b"HTTP/1.1 ")
        assert first.startswith(b"HTTP/1.1 200 ")
        check_raw(b"HTTP/1.1 " + second, "headers-timeout")
        whole = "GET /livez HTTP/1.1\nHost: a\nConnection: close\n\n"
        assert in_time(lambda: ask(whole)).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections(settings: Settings) -> None:
    with limited(settings, max_connections=2) as url:
        first, second = send_raw(url, ""), send_raw(url, "")
        with first, second, send_raw(url, "") as third:
            answer = read_to_end(third)
        assert b"retry-after: 1" in answer.lower()
        check_raw(answer, "too-many-connections")


def test_half_closed_after_the_request_is_answered(client: httpx.Client, url: str) -> None:
    path, body = create(client), npy(rows(8))
    with send_raw(url, shard_head(path, f"Content-Length: {len(body)}"), body) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert client.get(path).json()["rows"] == 8


def test_half_closed_in_mid_body_is_no_shard(client: httpx.Client, url: str) -> None:
    path, body = create(client), npy(rows(8))
    with send_raw(url, shard_head(path, f"Content-Length: {len(body)}"), body[:-1]) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
    assert client.get(path).json()["shards"] == []


def test_requests_one_after_another_on_a_connection(url: str) -> None:
    requests = "GET /livez HTTP/1.1\nHost: a\n\nGET /livez HTTP/1.1\nHost: a\nConnection: close\n\n"
    with send_raw(url, requests) as connection:
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 2


def test_requests_after_long_bodies_on_a_connection(client: httpx.Client, url: str) -> None:
    """Of a long body the parser sees the beginning only; what follows its last byte is parsed again."""
    path, body = create(client), npy(rows(20_000))
    assert len(body) > 4 * UNREAD_BYTES
    first = shard_head(path, f"Content-Length: {len(body)}").replace("\n", "\r\n")
    second = first.replace("/shards/0 ", "/shards/1?first_row=20000 ")
    last = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with send_raw(url, "", first.encode() + body + second.encode() + body + last.encode()) as connection:
        answer = read_to_end(connection)
    assert (answer.count(b"HTTP/1.1 201 "), answer.count(b"HTTP/1.1 200 ")) == (2, 1)
    digest = f"xxh3-128:{xxh3_128(body).hexdigest()}"
    assert [shard["digest"] for shard in client.get(path).json()["shards"]] == [digest, digest]


def test_requests_far_ahead_of_their_answers(url: str) -> None:
    """One is being answered and 64 wait; of those after them nothing is kept, and the last answer says that it is."""
    with send_raw(url, "GET /livez HTTP/1.1\nHost: a\n\n" * 30_000) as connection:
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 ") == 1 + MOST_AHEAD
    assert answer.lower().count(b"connection: close") == 1
    assert b"connection: close" in answer.rpartition(b"HTTP/1.1 ")[2].lower()
    with send_raw(url, "GET /livez HTTP/1.1\nHost: a\n\n" * (1 + MOST_AHEAD)) as connection:
        answer = b""
        while answer.count(b'{"status":"ok"}') <= MOST_AHEAD:
            received = connection.recv(65536)
            assert received
            answer += received
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "second", ["Host: a\nHost: b", "Host: a\nUpgrade: h2c\nConnection: Upgrade\nContent-Length: 9"]
)
def test_what_is_refused_takes_no_answer_of_what_came_before(url: str, second: str) -> None:
    with send_raw(url, f"GET /livez HTTP/1.1\nHost: a\n\nGET /livez HTTP/1.1\n{second}\n\n") as connection:
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def test_body_after_expect(client: httpx.Client, url: str) -> None:
    path, body = create(client), npy(rows(8))
    with send_raw(url, shard_head(path, f"Content-Length: {len(body)}", "Expect: 100-continue")) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_answer(connection).startswith(b"HTTP/1.1 201 ")


def test_refusal_of_a_long_body_is_heard(settings: Settings) -> None:
    """The client goes on sending for a while; it is not reset before it can read why."""
    with limited(settings, max_body_bytes=1000) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        with send_raw(url, shard_head(path, f"Content-Length: {2**26}")) as connection:
            for _ in range(256):
                connection.sendall(bytes(65536))
            check_raw(read_to_end(connection), "body-too-large")


@contextmanager
def upload_begun(url: str, path: str) -> Iterator[None]:
    """Hold an upload open while the block runs; it is one of those at once, since the service asks for its body."""
    with send_raw(url, shard_head(path, "Content-Length: 1000", "Expect: 100-continue")) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield


def test_too_many_requests_at_once(settings: Settings) -> None:
    with limited(settings, max_requests=1) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        with upload_begun(url, path):
            refused = client.get(path)
            check_problem(refused, 503, "too-many-requests-at-once", "at most 1 requests", "NORMGAUGE_MAX_REQUESTS")
            assert refused.headers["retry-after"] == "1"
            assert client.get("/livez").status_code == 200
        assert _until(client, path, 200).json()["shards"] == []


def test_too_many_uploads_at_once(settings: Settings) -> None:
    with limited(settings, max_uploads=1) as url, httpx.Client(base_url=url, timeout=60) as client:
        path, body = create(client), npy(rows(4))
        with upload_begun(url, path):
            refused = client.put(f"{path}/shards/1?first_row=4", content=body)
            check_problem(refused, 503, "too-many-uploads", "at most 1 shards", "NORMGAUGE_MAX_UPLOADS")
            assert refused.headers["retry-after"] == "1"
            assert client.get(path).status_code == 200
        deadline = time.monotonic() + 60
        while (stored := client.put(f"{path}/shards/1?first_row=4", content=body)).status_code == 503:
            assert time.monotonic() < deadline, "the slot was never given back"
        assert stored.status_code == 201, stored.text


def test_body_that_comes_too_slowly(settings: Settings) -> None:
    with (
        limited(settings, body_rate_window_s=0.3, body_min_bytes_per_s=10_000) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        path = create(client)
        with send_raw(url, shard_head(path, "Content-Length: 1000000"), npy_head((10**6, 6))) as connection:
            connection.settimeout(0.05)
            answer = b""
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    answer += connection.recv(65536)
                except TimeoutError:
                    connection.sendall(b"x")
                if answer.endswith(b"}"):
                    break
        problem = check_raw(answer, "slow-upload")
        assert "10000 bytes a second" in str(problem["detail"])
        assert client.get(path).json()["shards"] == []
        assert client.put(f"{path}/shards/0", content=npy(rows(4))).status_code == 201


def _until(client: httpx.Client, path: str, status: int) -> httpx.Response:
    """Return the first answer of a status; what another connection does takes a moment to be seen."""
    deadline = time.monotonic() + 60
    while (response := client.get(path)).status_code != status:
        assert time.monotonic() < deadline, response.text
    return response
