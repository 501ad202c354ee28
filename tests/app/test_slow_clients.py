"""Many clients that send a byte now and then, or take no answers: others are served meanwhile, and slots come back."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import httpx
import pytest

from app.serving import running
from app.settings import Settings
from tests.app.support import check_problem, create, npy, npy_head, rows
from tests.app.test_protocol import WHOLE, check_raw, in_time, read_to_end
from tests.app.test_streaming import create_stored, read_answer, send_raw, shard_head

MANY = 100
DEADLINE_S = 60.0
BEGUN = "GET /livez HTTP/1.1\nHost: localhost\nX-Slow: "


@contextmanager
def served(settings: Settings, **limits: float) -> Iterator[httpx.Client]:
    """Run a server with these limits; give a client."""
    with running(settings.model_copy(update=limits)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def drip(slow: Sequence[socket.socket], client: httpx.Client, path: str) -> list[bytes]:
    """Send a byte on each connection again and again until the server has ended all; return what each answered.

    Another client asks for `path` meanwhile.
    """
    answers = [b""] * len(slow)
    left = set(range(len(slow)))
    for connection in slow:
        connection.setblocking(False)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for number in sorted(left):
            try:
                while received := slow[number].recv(65536):
                    answers[number] += received
                left.discard(number)
            except BlockingIOError:
                with suppress(OSError):  # ended just now: what it answered is read in the next round
                    slow[number].send(b"x")
            except ConnectionResetError:
                left.discard(number)
        assert client.get(path).status_code == 200
        if not left:
            return answers
    raise AssertionError(f"{len(left)} of {len(slow)} slow connections were never ended")


@pytest.mark.parametrize("sent", [BEGUN, WHOLE + BEGUN], ids=["first request", "second request"])
def test_heads_that_drip(settings: Settings, sent: str) -> None:
    """A second head may begin in the packet that ends the first request."""
    # What is left to others is one connection, and another while the one before is being ended.
    with served(settings, header_timeout_s=1.0, max_connections=MANY + 2) as client:
        client.get("/livez")
        with ExitStack() as stack:
            slow = [stack.enter_context(closing(send_raw(str(client.base_url), sent))) for _ in range(MANY)]
            for answer in drip(slow, client, "/v1/assessments"):
                first, last = answer.count(b"HTTP/1.1 200 "), answer.rpartition(b"HTTP/1.1 ")
                assert first == (1 if sent != BEGUN else 0)
                check_raw(b"".join(last[1:]), "headers-timeout")
        deadline = time.monotonic() + DEADLINE_S
        served_now = 0
        while served_now < MANY:  # the first of them may come before the end of the slow ones is seen
            assert time.monotonic() < deadline, f"{MANY - served_now} connections were never given back"
            with ExitStack() as stack:
                opened = [stack.enter_context(closing(send_raw(str(client.base_url), WHOLE))) for _ in range(MANY)]
                served_now = sum(read_answer(connection).startswith(b"HTTP/1.1 200 ") for connection in opened)


def test_a_second_head_waits_for_the_first_answer(settings: Settings) -> None:
    """An answer that takes longer than a head may is not spoilt by the head of the next request."""
    with served(settings, header_timeout_s=0.2, body_idle_timeout_s=1.0) as client:
        head = shard_head(create_stored(settings), "Content-Length: 1000", "Expect: 100-continue")

        def ask() -> bytes:
            with send_raw(str(client.base_url), head) as connection:
                return read_to_end(connection)

        go_on, answer = in_time(ask).split(b"\r\n\r\n", 1)
        assert go_on == b"HTTP/1.1 100 Continue"
        check_raw(answer, "body-timeout")


def test_bodies_that_drip(settings: Settings) -> None:
    limits = {"body_rate_window_s": 1.0, "body_min_bytes_per_s": 10_000, "max_uploads": MANY}
    with served(settings, **limits) as client, ExitStack() as stack:
        path = create(client)
        head, begun = shard_head(path, "Content-Length: 1000000"), npy_head((10**6, 6))
        url = str(client.base_url)
        slow = [stack.enter_context(closing(send_raw(url, head, begun))) for _ in range(MANY)]
        for answer in drip(slow, client, path):
            check_raw(answer, "slow-upload")
        stored = client.put(f"{path}/shards/0", content=npy(rows(8)))
        assert stored.status_code == 201, stored.text


def test_answers_that_no_one_takes(settings: Settings) -> None:
    """More answers than the kernels' buffers hold, one after another on each connection; none is read."""
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 64
    with served(settings, send_timeout_s=5.0, max_requests=2) as client, ExitStack() as stack:
        deadline = time.monotonic() + 120
        while True:
            for _ in range(2):
                connection = stack.enter_context(closing(socket.socket()))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect((client.base_url.host, client.base_url.port))
                connection.sendall(asked)
            # Between two of its answers a connection holds no slot: the request below may come first, and then the
            # connection is the one refused. So wait until both may stand still, and begin again where they do not.
            time.sleep(0.5)
            refused = client.get("/v1/assessments")
            if refused.status_code == 503:
                break
            assert time.monotonic() < deadline, "two connections never stood still at once"
        check_problem(refused, 503, "too-many-requests-at-once", "at most 2 requests")
        while client.get("/v1/assessments").status_code != 200:
            assert time.monotonic() < deadline, "no slot came back"
            time.sleep(0.1)
