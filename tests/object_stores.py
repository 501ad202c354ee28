"""Object stores for the tests: moto's S3 server, and an endpoint that misbehaves as told."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from moto.server import ThreadedMotoServer

from assessor.sources import StoreSettings
from assessor.sources.backends import make_s3

KEYS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}


class S3:
    """A running S3 endpoint with one bucket, "data"."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.settings = StoreSettings(endpoint=endpoint, retries=1, **KEYS)  # type: ignore[arg-type]  # no booleans
        httpx.put(f"{endpoint}/data", timeout=60).raise_for_status()

    def put(self, key: str, body: bytes) -> str:
        """Store an object; return its URI."""
        make_s3("data", self.settings).put(key, body)
        return f"s3://data/{key}"


@contextmanager
def moto() -> Iterator[S3]:
    """Run moto's S3 server in a thread while the block runs."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


class Answer:
    """What a misbehaving endpoint says to one request."""

    def __init__(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, cut_at: int | None = None
    ) -> None:
        self.status, self.body, self.headers, self.cut_at = status, body, dict(headers or {}), cut_at


def send_status(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> bytes:
    """Send the status line of an answer, for a part of the body where that is asked for; return the part."""
    asked = handler.headers.get("Range")
    if asked is None or status != 200:
        handler.send_response(status)
        return body
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last or len(body)) + 1, len(body))
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
    return body[start:stop]


OBJECT = {"ETag": '"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
"""Headers that every S3 object has."""


class Server(ThreadingHTTPServer):
    """One that keeps connections waiting: where five do, as is the rule, a sixth is heard a second later or more."""

    request_queue_size = 128


@contextmanager
def scripted(
    answers: Mapping[tuple[str, int], Answer] | Answer, host: str = "127.0.0.1"
) -> Iterator[tuple[str, list[str]]]:
    """Run an endpoint while the block runs; give its URL and the list of what was asked of it.

    Args:
        answers: for every request, or by method and how many of that method came before; the last goes on.
        host: of this machine.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Keep standard error clean."""

        def do_GET(self) -> None:
            """Answer."""
            asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            answer = self._answer(sum(line.startswith(self.command) for line in asked) - 1)
            ranged = answer.status == 200 and "Range" in self.headers
            start, _, last = (self.headers["Range"] if ranged else "bytes=0-")[6:].partition("-")
            body = answer.body[int(start) : int(last) + 1 if last else None]
            self.send_response(206 if ranged else answer.status)
            if ranged:
                self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{len(answer.body)}")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body if answer.cut_at is None else body[: answer.cut_at])
                self.close_connection = answer.cut_at is not None

        do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

        def _answer(self, number: int) -> Answer:
            if isinstance(answers, Answer):
                return answers
            return answers.get((self.command, number)) or answers[(self.command, -1)]

    server = Server((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def endless(head: bytes) -> Iterator[str]:
    """Run an endpoint while the block runs whose one object begins with `head` and goes on, slowly, without end."""
    over = threading.Event()
    size = 10**12

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Keep standard error clean."""

        def do_GET(self) -> None:
            """Send the part that is asked for, after a moment."""
            over.wait(0.02)
            asked = (self.headers.get("Range") or "bytes=0-0").removeprefix("bytes=").partition("-")
            start, stop = int(asked[0]), int(asked[2]) + 1
            is_read = self.command == "GET"
            self.send_response(206 if is_read else 200)
            if is_read:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            for name, value in (OBJECT | {"Content-Length": str(stop - start if is_read else size)}).items():
                self.send_header(name, value)
            self.end_headers()
            if is_read:
                with contextlib.suppress(OSError):
                    self.wfile.write((head[start:] + bytes(stop - start))[: stop - start])

        do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Gated:
    """An endpoint whose objects can be held up: the next read of one waits until it is let go; later reads do not.

    Attributes:
        url: of the endpoint, while it is served.
        objects: body by path.
    """

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self._held: dict[str, threading.Event] = {}
        self._gone = threading.Event()
        self._reads: list[str] = []

    def hold(self, path: str) -> threading.Event:
        """Hold up the next read of an object; return the event that says that it has come."""
        self._gone = threading.Event()
        self._held[path] = threading.Event()
        return self._held[path]

    def let_go(self) -> None:
        """Let the read that is held up go on."""
        self._gone.set()

    def reads(self, path: str) -> int:
        """Return how often an object was read."""
        return self._reads.count(path)

    @contextmanager
    def serving(self) -> Iterator["Gated"]:
        """Serve the objects while the block runs."""
        gated = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Keep standard error clean."""

            def do_GET(self) -> None:
                """Send an object, when it may go."""
                body = gated.objects[self.path]
                if self.command == "GET":
                    gated._reads.append(self.path)
                    held, gone = gated._held.pop(self.path, None), gated._gone
                    if held is not None:
                        held.set()
                        gone.wait(60)
                with contextlib.suppress(OSError):
                    part = send_status(self, body)
                    for name, value in (OBJECT | {"Content-Length": str(len(part))}).items():
                        self.send_header(name, value)
                    self.end_headers()
                    if self.command == "GET":
                        self.wfile.write(part)

            do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.let_go()
            server.shutdown()
            thread.join()
            server.server_close()
