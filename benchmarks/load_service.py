"""Load on the real server: uploads and plan reads at once; latencies, throughput, and whether anything is lost.

    python -m benchmarks.load_service --seconds 60 [--uploaders 4] [--readers 4] [--kb 1024]

Each uploader fills assessments of its own, shard after shard, some compressed; each reader reads plans, states and
probes of what has come in. At the end every acknowledged shard must be listed with the digest of what was sent, and
every tenth plan must be that of a single pass over all rows. Answers of 5xx and lost connections are counted and make
the exit status 1.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from assessor import assess
from benchmarks.support.sending import Target, npy_head, percentile
from benchmarks.support.server import service
from clients.compression import zstd

BATCH_SIZE = 32
FEATURES = 256
SHARDS = 16
"""Shards of an assessment; then the next one is begun."""


@dataclass
class Tally:
    """What was measured, by kind of request; safe between threads."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    sent_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, kind: str, call: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        """Return what the call returns, and note how long it took and whether it failed."""
        start = time.perf_counter()
        try:
            status, answer = call()
        except OSError as error:
            status, answer = 599, repr(error).encode()
        took = time.perf_counter() - start
        with self.lock:
            self.seconds[kind].append(took)
            if status >= 500:
                self.failures.append(f"{kind}: {status} {answer.decode('utf-8', 'replace')[:200]}")
        return status, answer


@dataclass
class Sent:
    """An assessment and the digests of its acknowledged shards, by index."""

    path: str
    seed: int
    digests: dict[int, str] = field(default_factory=dict)


class Uploader:
    """Fills one assessment after another until the time is over."""

    def __init__(self, url: str, tally: Tally, number: int, rows: int) -> None:
        self._target = Target(url)
        self._tally = tally
        self._random = Random(number)
        self._number = number
        self._rows = rows
        self.sent: list[Sent] = []

    def run(self, until: float) -> None:
        """Send shards."""
        while time.monotonic() < until:
            made = self._target.json("POST", "/v1/assessments", {"name": "load", "batch_sizes": [BATCH_SIZE]})
            sent = Sent(f"/v1/assessments/{made['id']}", 1000 * self._number + len(self.sent))
            self.sent.append(sent)
            for index in self._random.sample(range(SHARDS), SHARDS):
                if time.monotonic() >= until:
                    break
                self._put(sent, index)
        self._target.close()

    def _put(self, sent: Sent, index: int) -> None:
        plain = shard_bytes(sent.seed, index, self._rows)
        packed = self._random.random() < 0.25
        body = zstd.compress(plain, 1) if packed else plain
        fields = "Content-Encoding: zstd\r\n" if packed else ""
        path = f"{sent.path}/shards/{index}?first_row={index * self._rows}"
        status, _ = self._tally.timed(
            "PUT shard", lambda: self._target.send("PUT", path, [body], size_bytes=len(body), fields=fields)
        )
        if status == 201:
            sent.digests[index] = f"xxh3-128:{xxh3_128(plain).hexdigest()}"
            with self._tally.lock:
                self._tally.sent_bytes += len(plain)


def shard_rows(seed: int, index: int, rows: int) -> NDArray[np.float32]:
    """Return the rows of a shard: a pure function of its place."""
    rng = np.random.default_rng([seed, index])
    return rng.standard_normal((rows, FEATURES), np.float32).round(2) * np.float32(1 + index % 3)


def shard_bytes(seed: int, index: int, rows: int) -> bytes:
    """Return the same as npy."""
    return npy_head((rows, FEATURES)) + shard_rows(seed, index, rows).tobytes()


def read(url: str, tally: Tally, uploaders: list[Uploader], until: float, number: int) -> None:
    """Read states, plans and probes until the time is over."""
    random = Random(-number)
    with Target(url) as target:
        while time.monotonic() < until:
            started = [sent for uploader in uploaders for sent in uploader.sent[-3:]]
            kind = random.choice(["GET plan", "GET plan", "GET assessment", "GET /livez"])
            path = "/livez" if kind == "GET /livez" or not started else random.choice(started).path
            path += "/plan" if kind == "GET plan" and path != "/livez" else ""
            tally.timed(kind, lambda path=path: target.send("GET", path))  # type: ignore[misc]  # bound in the loop
            time.sleep(0.005)  # a reader's own pace


def lost(url: str, sent: Sent, rows: int, *, whole: bool) -> list[str]:
    """Return what is not as it was acknowledged."""
    with Target(url) as target:
        state = target.json("GET", sent.path)
        stored = {shard["index"]: shard["digest"] for shard in state["shards"]}
        wrong = [f"{sent.path} shard {index}" for index, digest in sent.digests.items() if stored.get(index) != digest]
        if whole and len(sent.digests) == SHARDS:
            x = np.concatenate([shard_rows(sent.seed, index, rows) for index in range(SHARDS)])
            if target.json("GET", f"{sent.path}/plan") != json.loads(assess(x, batch_size=BATCH_SIZE).to_json()):
                wrong.append(f"{sent.path}: another plan than a single pass")
    return wrong


def main() -> int:
    """Print the figures; return 1 when something failed or was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--uploaders", type=int, default=4)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--kb", type=int, default=1024, help="size of a shard")
    arguments = parser.parse_args()
    tally = Tally()
    rows = max(1, arguments.kb * 1024 // (4 * FEATURES))
    with tempfile.TemporaryDirectory() as folder, service(folder) as server:
        url = server.url
        uploaders = [Uploader(url, tally, number, rows) for number in range(arguments.uploaders)]
        began = time.monotonic()
        until = began + arguments.seconds
        with ThreadPoolExecutor(arguments.uploaders + arguments.readers) as pool:
            work = [pool.submit(uploader.run, until) for uploader in uploaders]
            work += [pool.submit(read, url, tally, uploaders, until, k) for k in range(arguments.readers)]
            for done in work:
                done.result()
        took = time.monotonic() - began
        everything = [sent for uploader in uploaders for sent in uploader.sent]
        missing = [text for k, sent in enumerate(everything) for text in lost(url, sent, rows, whole=k % 10 == 0)]
    for kind, times in sorted(tally.seconds.items()):
        shown = ", ".join(f"p{percent} {percentile(times, percent) * 1e3:.1f} ms" for percent in (50, 95, 99, 100))
        print(f"{kind:14} {len(times) / took:7.1f} a second; {shown}")
    shards = sum(len(sent.digests) for sent in everything)
    print(f"{shards} shards of {arguments.kb} KB in {took:.0f} s: {tally.sent_bytes / took / 1e6:.0f} MB/s")
    for text in [*tally.failures, *missing][:20]:
        print(text)
    print(f"{len(tally.failures)} failures, {len(missing)} shards or plans lost")
    return int(bool(tally.failures or missing))


if __name__ == "__main__":
    sys.exit(main())
