"""Bodies read by a worker thread from the connection's socket: whole, in order, and given back whatever ends them."""

import base64
import gzip
import hashlib
import json
import os
import socket
import threading
import time
from contextlib import closing, suppress

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.draining import Drain
from app.inlet import _Inlet
from app.lending import LentBody
from app.limits import BodyLimit
from app.observability.requests import _Watched
from app.pieces import PiecePool
from app.serving import running
from app.settings import Settings
from assessor import assess
from tests.app.support import check_problem, create, npy, npy_head, rows, safetensors
from tests.app.test_streaming import read_answer, send_raw, shard_head

WAITING_S = 60.0


class Borrower:
    """A lent body at one end of a pair of sockets."""

    def __init__(self, head: bytes, size_bytes: int) -> None:
        self.sender, self._receiver = socket.socketpair()
        self._receiver.setblocking(False)
        self.back: list[int] = []
        descriptor = os.dup(self._receiver.fileno())
        self.body = LentBody(descriptor, head, size_bytes, self.back.append)

    def read(self, room_bytes: int, enough: int | None = None) -> bytes:
        """Return what comes, until the body has ended or runs dry."""
        came, room = b"", memoryview(bytearray(room_bytes))
        while self.body.left and not self.body.dry:
            came += room[: self.body.fill(room, room_bytes if enough is None else enough)]
        return came

    def rest(self) -> bytes:
        """Return what is left in the socket."""
        try:
            return self._receiver.recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.body.give_back()
        self.sender.close()
        self._receiver.close()


@given(
    size=st.integers(1, 5000),
    head=st.integers(0, 3000),
    room=st.integers(1, 700),
    more=st.binary(max_size=50),
    data=st.data(),
)
def test_what_is_there_is_read_and_no_more(size: int, head: int, room: int, more: bytes, data: st.DataObject) -> None:
    """All of the body that came, in order; nothing of what follows it."""
    content = os.urandom(size)
    head = min(head, size)
    there = data.draw(st.integers(head, size))
    with closing(Borrower(content[:head], size)) as borrower:
        borrower.sender.sendall(content[head:there])
        if there == size:
            borrower.sender.sendall(more)
        assert borrower.read(room) == content[:there]
        assert borrower.body.left == size - there
        assert borrower.body.dry == (there < size)
        assert borrower.rest() == (more if there == size else b"")
    assert borrower.back == [there - head]


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends(reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
        receiver.setblocking(False)
        body = LentBody(os.dup(receiver.fileno()), b"ab", 100, lambda n: None)
        sender.sendall(b"cd")
        while len(receiver.recv(100, socket.MSG_PEEK)) < 2:
            pass
        if reset:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        room = memoryview(bytearray(100))
        if not reset:
            sender.close()
            assert body.fill(room, 100) == 4
        else:
            sender.close()
            assert body.fill(room, 100) in (2, 4)  # what a reset takes with it is the system's
        assert body.dry
        body.give_back()
        receiver.close()


def test_bytes_that_come_in_a_moment_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lending.PACE_BYTES_PER_S", 6 / WAITING_S)
    with closing(Borrower(b"", 6)) as borrower:
        late = threading.Timer(0.05, borrower.sender.sendall, [b"abcdef"])
        late.start()
        assert borrower.read(6) == b"abcdef"
        late.join()


def test_enough_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_: float) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr("app.lending.time.sleep", wait)
    room = memoryview(bytearray(100))
    with closing(Borrower(b"abc", 1000)) as borrower:
        assert borrower.body.fill(room, 3) == 3
        borrower.sender.sendall(b"d" * 40)
        assert borrower.body.fill(room, 40) == 40
        borrower.sender.sendall(b"e" * 150)
        assert borrower.body.fill(room, 1) == 100
        assert borrower.body.fill(room, 50) == 50
        assert not borrower.body.dry
        assert borrower.body.left == 1000 - 193


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that each lent body gave to a thread."""
    given_back: list[int] = []
    init, back = LentBody.__init__, LentBody.give_back

    def noted_init(self: LentBody, *arguments: object) -> None:
        init(self, *arguments)  # type: ignore[arg-type]
        self.before = self.left  # type: ignore[attr-defined]

    def noted_back(self: LentBody) -> None:
        given_back.append(self.before - self.left)  # type: ignore[attr-defined]
        back(self)

    monkeypatch.setattr(LentBody, "__init__", noted_init)
    monkeypatch.setattr(LentBody, "give_back", noted_back)
    return given_back


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread waits for a busy machine's client."""
    monkeypatch.setattr("app.lending.PACE_BYTES_PER_S", 1000.0)


def open_sockets() -> int:
    """Return how many descriptors of sockets this process has."""
    names = []
    for entry in os.scandir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(entry.path))
    return sum(name.startswith("socket:") for name in names)


@pytest.mark.databases
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("columns", [6, 700, 100_000])
def test_most_of_a_body_is_lent(client: httpx.Client, lent: list[int], columns: int) -> None:
    x = np.random.default_rng(columns).normal(size=(6_000_000 // columns // 4, columns)).astype(np.float32)
    path = create(client)
    assert client.put(f"{path}/shards/0", content=npy(x)).status_code == 201
    assert client.put(f"{path}/shards/0", content=npy(x)).status_code == 200
    assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()
    # The connection goes on behind each body.
    assert client.get(path).json()["rows"] == len(x)
    assert sum(lent) > 2 * x.nbytes * 0.9


def test_a_body_that_stops_now_and_then(client: httpx.Client, server_url: str, lent: list[int]) -> None:
    """The event loop and threads take turns; what one began the other ends."""
    x = rows(600_000)
    data, path = npy(x), create(client)
    random = np.random.default_rng(3)
    with send_raw(server_url, shard_head(path, f"Content-Length: {len(data)}")) as connection:
        at = 0
        while at < len(data):
            n = int(random.integers(1, 300_000))
            connection.sendall(data[at : at + n])
            at += n
            time.sleep(float(random.choice([0.0, 0.02])))
        assert read_answer(connection).startswith(b"HTTP/1.1 201 ")
    assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()
    assert len(lent) > 1
    assert sum(lent) < len(data) + 1


@pytest.mark.usefixtures("patient")
def test_pieces_end_with_batches_wherever_packets_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, lent: list[int]
) -> None:
    """What is read past a batch goes on with the next piece."""
    ends: list[int] = []
    pass_on = _Inlet._pass_on

    def noted(self: _Inlet, piece: memoryview) -> None:
        pass_on(self, piece)
        ends.append(self._passed_bytes)

    monkeypatch.setattr(_Inlet, "_pass_on", noted)
    x = np.random.default_rng(5).normal(size=(20_000, 100)).astype(np.float32)
    data = npy(x)
    settings = settings.model_copy(update={"piece_bytes": 1 << 18})
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client, batch_sizes=[32])
        with send_raw(url, shard_head(path, f"Content-Length: {len(data)}"), data[:70_000]) as connection:
            for at in range(70_000, len(data), 77_777):
                connection.sendall(data[at : at + 77_777])
                time.sleep(0.002)  # so that pieces end between packets
            assert read_answer(connection).startswith(b"HTTP/1.1 201 ")
        assert client.get(f"{path}/plan").text == assess(x, batch_size=32).to_json()
    assert lent == [len(data)]
    assert len(ends) > 20
    assert {(end - 128) % (32 * 400) for end in ends[1:-1]} == {0}


@pytest.mark.databases
def test_requests_behind_a_lent_body(client: httpx.Client, server_url: str) -> None:
    """What is sent ahead of the answer is answered, in its order; much of it is gathered before its turn comes."""
    x = rows(400_000)
    data, path = npy(x), create(client)
    head = shard_head(path, f"Content-Length: {len(data)}").replace("\n", "\r\n").encode()
    state = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with send_raw(server_url, "") as connection:
        sender = threading.Thread(target=connection.sendall, args=[head + data + head + data + state])
        sender.start()
        answer = b""
        while received := connection.recv(65536):
            answer += received
        sender.join()
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"201", b"200", b"200"]
    assert b'"rows":400000' in answer
    assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()


@pytest.mark.usefixtures("patient")
def test_a_shard_that_is_refused_in_mid_body(settings: Settings, lent: list[int]) -> None:
    """The client reads why, though it still sends; neither buffer nor descriptor stays."""
    x = rows(400_000)
    x[50_000, 2] = np.nan
    before = open_sockets()
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        for _ in range(5):
            response = client.put(f"{path}/shards/0", content=npy(x))
            check_problem(response, 422, "non-finite", "row 50000")
        assert client.get(path).json()["shards"] == []
        x[50_000, 2] = 0
        assert client.put(f"{path}/shards/0", content=npy(x)).status_code == 201
    assert lent
    assert open_sockets() <= before


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_while_a_thread_reads(
    settings: Settings, lent: list[int], reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[PiecePool] = []
    init = PiecePool.__init__

    def noted(self: PiecePool, **options: int) -> None:
        init(self, **options)
        pools.append(self)

    monkeypatch.setattr(PiecePool, "__init__", noted)
    data = npy(rows(100_000))
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        before = open_sockets()
        for _ in range(5):
            connection = send_raw(url, shard_head(path, f"Content-Length: {len(data)}"), data[: len(data) // 2])
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        assert client.put(f"{path}/shards/0", content=data).status_code == 201
        assert client.get(f"{path}/plan").text == assess(rows(100_000), batch_size=4).to_json()
        deadline = time.monotonic() + WAITING_S
        while (any(pool.uploads for pool in pools) or open_sockets() > before) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(pool.uploads for pool in pools)
        assert open_sockets() <= before


def test_a_client_that_waits_to_be_told_to_go_on(client: httpx.Client, server_url: str, lent: list[int]) -> None:
    data, path = npy(rows(40_000)), create(client)
    head = shard_head(path, f"Content-Length: {len(data)}", "Expect: 100-continue")
    with send_raw(server_url, head) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(data)
        assert read_answer(connection).startswith(b"HTTP/1.1 201 ")
    assert client.get(path).json()["rows"] == 40_000


def test_what_has_a_digest_or_an_encoding_or_no_length_is_not_lent(client: httpx.Client, lent: list[int]) -> None:
    data, path = npy(rows(40_000)), create(client)
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
    assert client.put(f"{path}/shards/0", content=data, headers={"content-digest": digest}).status_code == 201
    zipped = gzip.compress(data, 1)
    assert client.put(f"{path}/shards/0", content=zipped, headers={"content-encoding": "gzip"}).status_code == 200
    assert client.put(f"{path}/shards/0", content=iter([data[:70_000], data[70_000:]])).status_code == 200
    assert lent == []


def test_a_trickle_is_not_waited_for_in_a_thread(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that send a little now and then leave the threads to others, and are refused as slow."""
    settings = settings.model_copy(
        update={"body_rate_window_s": 0.5, "body_min_bytes_per_s": 1 << 20, "worker_threads": 1}
    )
    data = npy(rows(100_000))
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        ended = threading.Event()

        def trickle(connection: socket.socket) -> None:
            try:
                while not ended.is_set():
                    connection.sendall(b"x" * 10)
                    time.sleep(0.001)
            except OSError:
                pass

        slow = []
        for index in range(1, 4):
            head = shard_head(path, f"Content-Length: {len(data)}").replace("shards/0", f"shards/{index}?first_row=1")
            slow.append(send_raw(url, head, npy_head((100_000, 6))))
        threads = [threading.Thread(target=trickle, args=(connection,)) for connection in slow]
        for thread in threads:
            thread.start()
        assert client.put(f"{path}/shards/0", content=data).status_code == 201
        for connection in slow:
            assert b"/problems/slow-upload" in read_answer(connection)
        ended.set()
        for thread, connection in zip(threads, slow, strict=True):
            thread.join()
            connection.close()


@pytest.mark.parametrize("first", [1, 5, 8])
@pytest.mark.parametrize("kind", ["npy", "safetensors", "ndjson"])
def test_a_body_whose_first_bytes_come_alone(client: httpx.Client, server_url: str, kind: str, first: int) -> None:
    """They do not tell the format; what comes after them does."""
    x = rows(40_000)
    data = {
        "npy": npy(x),
        "safetensors": safetensors(x),
        "ndjson": b"".join(json.dumps({"x": row}).encode() + b"\n" for row in x.tolist()),
    }[kind]
    path = create(client)
    with send_raw(server_url, shard_head(path, f"Content-Length: {len(data)}"), data[:first]) as connection:
        time.sleep(0.05)
        connection.sendall(data[first:])
        assert read_answer(connection).startswith(b"HTTP/1.1 201 ")
    assert client.get(path).json()["rows"] == 40_000


def test_a_short_body_in_single_bytes(client: httpx.Client) -> None:
    for data in (npy(rows(4)), npy(rows(40)), b'{"x": [1, 2]}\n{"x": [3, 4]}\n'):
        path = create(client, batch_sizes=[2])
        pieces = (data[k : k + 1] for k in range(len(data)))
        assert client.put(f"{path}/shards/0", content=pieces).status_code == 201


@pytest.mark.usefixtures("patient")
def test_more_uploads_get_their_share_of_the_buffers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that began alone goes on in smaller pieces when others come, and in larger ones when they have gone."""
    sizes: list[int] = []
    pools: list[PiecePool] = []
    init, pass_on = PiecePool.__init__, _Inlet._pass_on

    def noted_init(self: PiecePool, **options: int) -> None:
        init(self, **options)
        pools.append(self)

    def noted(self: _Inlet, piece: memoryview) -> None:
        sizes.append(len(piece))
        if len(sizes) == 4:
            pools[0].uploads += 7
        if len(sizes) == 30:
            pools[0].uploads -= 7
        pass_on(self, piece)

    monkeypatch.setattr(PiecePool, "__init__", noted_init)
    monkeypatch.setattr(_Inlet, "_pass_on", noted)
    x = rows(1_500_000)
    settings = settings.model_copy(update={"upload_memory_bytes": 3 << 20, "piece_bytes": 1 << 20})
    with running(settings) as url, httpx.Client(base_url=url, timeout=120) as client:
        path = create(client)
        assert client.put(f"{path}/shards/0", content=npy(x)).status_code == 201
        assert client.get(path).json()["rows"] == len(x)
    assert len(sizes) > 50
    assert max(sizes[6:28]) <= 1 << 18
    assert max(sizes[50:]) > 1 << 18


def test_without_descriptors_a_body_comes_as_others_do(client: httpx.Client, lent: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patched:

        def full(descriptor: int) -> int:
            raise OSError(24, "Too many open files")

        patched.setattr("app.protocol.os.dup", full)
        path, x = create(client), rows(100_000)
        assert client.put(f"{path}/shards/0", content=npy(x)).status_code == 201
    assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()
    assert lent == []


@pytest.mark.usefixtures("patient")
def test_a_refused_body_that_was_read_whole_keeps_the_connection(client: httpx.Client) -> None:
    x = rows(100_000)
    path = create(client)
    x[-1, 0] = np.nan
    response = client.put(f"{path}/shards/0", content=npy(x))
    check_problem(response, 422, "non-finite", "row 99999")
    assert response.headers.get("connection") != "close"


@pytest.mark.usefixtures("patient")
def test_bytes_that_were_lent_are_counted(
    client: httpx.Client, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    count = _Watched.count

    def noted(self: _Watched, size_bytes: int) -> None:
        count(self, size_bytes)
        counted.append((self, self.bytes_in))

    monkeypatch.setattr(_Watched, "count", noted)
    data = npy(rows(100_000))
    assert client.put(f"{create(client)}/shards/0", content=data).status_code == 201
    assert counted[-1][1] == len(data)
    assert lent


@pytest.mark.databases
def test_a_body_of_another_length_than_announced_is_never_stored(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be, were there no mistake in how bodies are handed on."""
    monkeypatch.setattr(BodyLimit, "passed", lambda self, size_bytes, *, complete: setattr(self, "_complete", complete))
    path = create(client)
    assert client.put(f"{path}/shards/0", content=npy(rows(100_000))).status_code == 500
    assert client.get(path).json()["shards"] == []


@pytest.mark.usefixtures("patient")
def test_a_lent_body_is_recalled_when_the_time_for_uploads_is_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender is faster than the thread, so that it never runs dry by itself."""
    drains: list[Drain] = []
    passed: list[int] = []
    init, pass_on = Drain.__init__, _Inlet._pass_on

    def noted_init(self: Drain) -> None:
        init(self)
        drains.append(self)

    def noted(self: _Inlet, piece: memoryview) -> None:
        passed.append(len(piece))
        if len(passed) == 3:
            drains[0].expire()
        pass_on(self, piece)

    monkeypatch.setattr(Drain, "__init__", noted_init)
    monkeypatch.setattr(_Inlet, "_pass_on", noted)
    data = npy(rows(600_000))
    settings = settings.model_copy(update={"piece_bytes": 1 << 16})
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        response = client.put(f"{create(client)}/shards/0", content=data)
        check_problem(response, 503, "shutting-down", "nothing of it was stored")
    assert sum(passed) < len(data) / 2
