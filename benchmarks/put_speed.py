"""PUT of a shard through the real server: its time over that of a handler that discards the stream, memory, probes.

    python -m benchmarks.put_speed [--mb 256] [--repeats 7] [--large-mb 2048] [--features 3072]

Both servers run in processes of their own, under the same uvicorn settings, and take turns in one run; the client is
one socket that sends what it has in memory. Printed are:

- the time of each and their ratio, by medians and by the best of each; "discard" runs on uvicorn's own protocol,
  "discard, ours" on the service's, which gathers packets; "with digest" sends the service a Content-Digest too, as our
  clients do (computed before the time is taken), which it checks;
- the growth of the server's largest resident memory over what it had after a first shard, for shards of 16 MB and of
  --large-mb, 1 and 8 uploads at once;
- percentiles of the time that GET /livez takes while 4 uploads run.

Linux only: memory is read from /proc.
"""

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import uvicorn
from starlette.types import Receive, Scope, Send

from app.pieces import PiecePool
from app.protocol import ServiceProtocol
from app.serving import make_server, open_socket, url_of
from app.settings import Settings
from assessor.kernels import usable_processors
from benchmarks.support.sending import Target, memory_bytes, npy_head, percentile, processor_seconds, reset_peak
from clients.compression import content_digest

MB = 10**6
BATCH_SIZES = [32]
_STEP_BYTES = 1 << 20


async def discard(scope: Scope, receive: Receive, send: Send, *, pieces: PiecePool | None = None) -> None:
    """Read a request's body and do nothing with it."""
    while scope["type"] == "http":
        message = await receive()
        if pieces is not None:
            pieces.give_back(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def serve(kind: str, database: str, pipe: Connection) -> None:
    """Run one of the two servers; tell its URL and process."""
    settings = Settings(database_url=database, port=0, log_level="warning")
    server = make_server(settings, log_level="warning", own_process=True)
    if kind != "service":
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "ws": "none", "server_header": False}
        if kind == "discard":
            config = uvicorn.Config(discard, http="httptools", loop="uvloop", lifespan="off", **options)
        else:
            pool = PiecePool(
                max_uploads=settings.max_uploads,
                total_bytes=settings.upload_memory_bytes,
                largest_bytes=settings.piece_bytes,
                processors=usable_processors(),
            )
            protocol: Any = partial(ServiceProtocol, settings=settings, pieces=pool)
            app: Any = partial(discard, pieces=pool)
            config = uvicorn.Config(app, http=protocol, loop="uvloop", lifespan="off", interface="asgi3", **options)
        server = uvicorn.Server(config)
    listener = open_socket("127.0.0.1", 0)
    pipe.send((url_of(listener), os.getpid()))
    server.run(sockets=[listener])


@contextmanager
def running(kind: str, folder: str) -> Iterator[tuple[str, int]]:
    """Run a server in a process of its own; give its URL and process id."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(kind, f"sqlite:///{folder}/{kind}.db", theirs))
    process.start()
    try:
        url, pid = ours.recv()
        yield url, pid
    finally:
        process.terminate()
        process.join()


class Shard:
    """A shard of float32 that is sent from memory; one block of rows is sent again and again."""

    def __init__(self, size_bytes: int, features: int) -> None:
        block_rows = max(1, 4 * _STEP_BYTES // (4 * features))
        rng = np.random.default_rng(0)
        self._block = memoryview(rng.standard_normal((block_rows, features), np.float32).tobytes())
        self._rows = max(1, size_bytes // (4 * features))
        self._row_bytes = 4 * features
        self._head = npy_head((self._rows, features))
        self.rows = self._rows
        self.size_bytes = len(self._head) + self._rows * self._row_bytes

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield its bytes."""
        yield self._head
        left = self._rows * self._row_bytes
        while left > 0:
            yield self._block[: min(left, len(self._block))]
            left -= len(self._block)

    @cached_property
    def digest_field(self) -> str:
        """The Content-Digest that our clients send, as a line of a request's head."""
        return f"Content-Digest: {content_digest(bytes(piece) for piece in self.pieces())}\r\n"

    def put(self, target: Target, path: str, fields: str = "") -> float:
        """Return the seconds that one PUT takes."""
        start = time.perf_counter()
        status, answer = target.send("PUT", path, self.pieces(), size_bytes=self.size_bytes, fields=fields)
        if status not in (201, 204):
            raise RuntimeError(f"expected the shard to be stored; got {status}: {answer.decode()[:300]}")
        return time.perf_counter() - start


class Assessment:
    """An assessment whose next shard has a place of its own."""

    def __init__(self, target: Target) -> None:
        created = target.json("POST", "/v1/assessments", {"name": "speed", "batch_sizes": BATCH_SIZES})
        self._path = f"/v1/assessments/{created['id']}/shards"
        self._index = self._row = 0
        self._lock = threading.Lock()

    def next_path(self, shard: Shard) -> str:
        """Return the path for one more shard."""
        with self._lock:
            path = f"{self._path}/{self._index}?first_row={self._row}"
            self._index += 1
            self._row += shard.rows
        return path


def compare(servers: dict[str, tuple[str, int]], shard: Shard, repeats: int) -> None:
    """Print the times of the servers, which take turns, and the processor time of each."""
    with (
        Target(servers["service"][0]) as service,
        Target(servers["discard"][0]) as bare,
        Target(servers["discard, ours"][0]) as ours,
    ):
        assessment = Assessment(service)
        runs: dict[str, Callable[[], float]] = {
            "discard": lambda: shard.put(bare, "/"),
            "discard, ours": lambda: shard.put(ours, "/"),
            "service": lambda: shard.put(service, assessment.next_path(shard)),
            "with digest": lambda: shard.put(service, assessment.next_path(shard), shard.digest_field),
        }
        pid_of = {kind: pid for kind, (_, pid) in servers.items()} | {"with digest": servers["service"][1]}
        seconds: dict[str, list[float]] = {kind: [] for kind in runs}
        busy = dict.fromkeys(runs, 0.0)
        for number in range(repeats + 1):
            for kind, run in runs.items():
                before = processor_seconds(pid_of[kind])
                took = run()
                if number:  # the first warms up
                    seconds[kind].append(took)
                    busy[kind] += processor_seconds(pid_of[kind]) - before
    for kind, times in seconds.items():
        rate = shard.size_bytes / np.median(times) / 1e9
        spread = f"{min(times):.3f} to {max(times):.3f}"
        processor = f"{busy[kind] / repeats:.3f} s of processor time"
        print(f"{kind:13} {np.median(times):.3f} s (median of {repeats}; {spread}), {rate:.2f} GB/s; {processor}")
    for kind, base in (("service", "discard"), ("service", "discard, ours"), ("with digest", "discard")):
        pairs = [own / other for own, other in zip(seconds[kind], seconds[base], strict=True)]
        best = min(seconds[kind]) / min(seconds[base])
        print(
            f"{kind} over {base}: {np.median(seconds[kind]) / np.median(seconds[base]):.2f} of medians, "
            f"{np.median(pairs):.2f} median of pairs, {best:.2f} of the best"
        )


def put_many(url: str, shard: Shard, uploads: int, assessment: Assessment) -> None:
    """Send as many shards at once."""

    def put(_: int) -> None:
        with Target(url) as target:
            shard.put(target, assessment.next_path(shard))

    with ThreadPoolExecutor(uploads) as pool:
        list(pool.map(put, range(uploads)))


def measure_memory(large_bytes: int, features: int) -> None:
    """Print the growth of a fresh server's memory for each size and number of uploads."""
    first = Shard(16 * MB, features)
    for shard in (first, Shard(large_bytes, features)):
        for uploads in (1, 8):
            with tempfile.TemporaryDirectory() as folder, running("service", folder) as (url, pid):
                with Target(url) as target:
                    assessment = Assessment(target)
                    first.put(target, assessment.next_path(first))
                reset_peak(pid)
                before = memory_bytes(pid, peak=False)
                put_many(url, shard, uploads, assessment)
                grown = memory_bytes(pid, peak=True) - before
            print(f"memory   {shard.size_bytes / MB:.0f} MB shards, {uploads} at once: grew by {grown / MB:.1f} MB")


def measure_probe(url: str, shard: Shard, uploads: int) -> None:
    """Print percentiles of /livez while uploads run."""
    times: list[float] = []
    with Target(url) as target, Target(url) as probe:
        assessment = Assessment(target)
        sender = threading.Thread(target=put_many, args=(url, shard, uploads, assessment))
        sender.start()
        while sender.is_alive():
            start = time.perf_counter()
            probe.send("GET", "/livez")
            times.append(time.perf_counter() - start)
            sender.join(0.005)
    shown = ", ".join(f"p{percent} {percentile(times, percent) * 1e3:.1f} ms" for percent in (50, 99, 100))
    print(f"/livez   while {uploads} uploads run: {shown} ({len(times)} requests)")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256)
    parser.add_argument("--large-mb", type=int, default=2048, help="0: leave memory out")
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    shard = Shard(arguments.mb * MB, arguments.features)
    with (
        tempfile.TemporaryDirectory() as folder,
        running("service", folder) as service,
        running("discard", folder) as bare,
        running("discard, ours", folder) as ours,
    ):
        compare({"discard": bare, "discard, ours": ours, "service": service}, shard, arguments.repeats)
        measure_probe(service[0], shard, 4)
    if arguments.large_mb:
        measure_memory(arguments.large_mb * MB, arguments.features)


if __name__ == "__main__":
    main()
