"""Many small objects in a bucket: time to read them ahead over asking for one after the other.

    python -m benchmarks.small_objects_speed [--objects 400] [--latency-ms 30] [--repeats 3]

The bucket is a server in a process of its own that lets every read wait for --latency-ms, as one at some distance does;
objects are npy of 20 kB. Both ways take turns in one run, in this process, and give the same profile.
"""

import argparse
import io
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

import numpy as np

from assessor.execution import Assessed, profile_sources
from assessor.sources import StoreSettings, ahead

ROWS, FEATURES = 80, 64
WAYS = {"one after the other": 1, "ahead": ahead.READ_AHEAD}


def serve(objects: int, latency_s: float, pipe: Connection) -> None:
    """Serve npy objects under any bucket; tell the port."""
    bodies = {}
    for number in range(objects):
        body = io.BytesIO()
        np.save(body, np.random.default_rng(number).standard_normal((ROWS, FEATURES), np.float32))
        bodies[f"{number:06}.npy"] = body.getvalue()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # which would add 40 ms to each answer

        def log_message(self, format: str, *args: object) -> None:
            """Keep standard error clean."""

        def do_GET(self) -> None:
            """Send a part of an object, late."""
            body = bodies[self.path.rpartition("/")[2]]
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = body[int(first) : int(last) + 1 if last else None]
            if self.command == "GET":
                time.sleep(latency_s)
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

        do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()


@contextmanager
def bucket(objects: int, latency_s: float) -> Iterator[str]:
    """Run the server in a process of its own; give its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(objects, latency_s, theirs))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


class Stretches:
    """When a run began to look and to read."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def begin(self, what: str, total: int, done: int, unit: str) -> None:
        """Note the time."""
        self.began[what] = time.perf_counter()

    def advance(self, n: int) -> None:
        """Note nothing."""


def read_all(url: str, objects: int, way: str) -> tuple[float, Assessed]:
    """Return the seconds that reading takes once all headers are known, and the profile."""
    ahead.READ_AHEAD = WAYS[way]
    settings = StoreSettings(endpoint=url, access_key_id="any", secret_access_key="any", region="us-east-1")
    told = Stretches()
    uris = [f"s3://data/{number:06}.npy" for number in range(objects)]
    assessed = profile_sources(uris, batch_sizes=[32], engine="serial", stores=settings, progress=told)
    return time.perf_counter() - told.began["reading"], assessed


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    profiles = set()
    with bucket(options.objects, options.latency_ms / 1e3) as url:
        read_all(url, options.objects, "ahead")  # loads the kernel
        for _ in range(options.repeats):
            for way in WAYS:
                took, assessed = read_all(url, options.objects, way)
                seconds[way].append(took)
                profiles.add(assessed.profile.to_bytes())
    if len(profiles) != 1:
        raise RuntimeError("expected the same profile both ways; got others")
    print(f"{options.objects} objects of {ROWS * FEATURES * 4 / 1e3:.0f} kB, {options.latency_ms:g} ms a read")
    for way, times in seconds.items():
        each = np.median(times) / options.objects * 1e3
        print(f"{way:20} {np.median(times):7.2f} s ({min(times):.2f} to {max(times):.2f}), {each:.1f} ms an object")
    slow, fast = (float(np.median(times)) for times in seconds.values())
    print(f"one after the other over ahead: {slow / fast:.1f}")


if __name__ == "__main__":
    main()
