"""Mutated shard bodies through the real server: an answer of 2xx or 4xx to each, memory bounded, the server alive.

    python -m benchmarks.fuzz_service --bodies 20000 --seed 1

Bodies of every format are mutated as `benchmarks.fuzz_formats` does, and some long ones in a few bytes; a third of them
are then compressed, and some of those mutated again. They are sent with their media type, none or another one, in
pieces of some size, some of them cut off, to POST /v1/assess and to PUT of a shard, over some connections at once. A
finding is named by its number: `benchmarks.fuzz_service.request(seed, number)` makes it again.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from assessor.formats import MEDIA_TYPES
from benchmarks.support.mutation import BODIES, mutated
from benchmarks.support.sending import Target, memory_bytes, npy_head, reset_peak
from benchmarks.support.server import service
from clients.compression import zstd

LIMITS = {
    "max_features": 1 << 16,
    "max_spool_bytes": 1 << 24,
    "max_decoded_bytes": 1 << 26,
    "max_body_bytes": 1 << 24,
    "body_idle_timeout_s": 5.0,
}
"""Small enough that a body which only claims to be large is soon over."""
_MEDIA_TYPES = {name: media_type for media_type, name in MEDIA_TYPES.items()}
_STATUSES = range(200, 500)
_X = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
LONG = {
    "npy": npy_head(_X.shape) + _X.tobytes(),
    "safetensors": safetensors.numpy.save({"x": _X, "y": np.arange(len(_X)) % 7}),
}
"""By format, a body longer than what the event loop reads of one (`app.gathering.UNREAD_BYTES`)."""


class Sent(NamedTuple):
    """One request: its header fields, its body, and the bytes after which the connection is cut (None: never)."""

    format_name: str
    fields: str
    body: bytes
    cut_bytes: int | None
    keep: bool


def request(seed: int, number: int) -> Sent:
    """Return request `number` of a run: a pure function of both."""
    random = Random(f"service {seed} {number}")
    name = list(BODIES)[number % len(BODIES)]
    body = mutated(name, seed, number) if random.random() < 0.95 else random.choice(BODIES[name])
    if name in LONG and random.random() < 0.3:
        body = _long(name, random)
    fields = ""
    kind = random.random()
    if kind < 0.8:
        fields += f"Content-Type: {_MEDIA_TYPES.get(name, 'application/octet-stream')}\r\n"
    elif kind < 0.9:
        fields += f"Content-Type: {random.choice(list(MEDIA_TYPES))}\r\n"
    if random.random() < 1 / 3:
        encoding = random.choice(["gzip", "zstd"])
        body = gzip.compress(body, 1) if encoding == "gzip" else zstd.compress(body, 1)
        if random.random() < 0.5:
            damaged = bytearray(body)
            for _ in range(random.randrange(1, 4)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            body = bytes(damaged[: random.randrange(1, len(damaged) + 1)] if random.random() < 0.3 else damaged)
        fields += f"Content-Encoding: {random.choice([encoding] * 9 + ['br'])}\r\n"
    if random.random() < 0.02:
        fields += "Content-Digest: sha-256=:" + "A" * 43 + "=:\r\n"
    cut_bytes = random.randrange(len(body) + 1) if random.random() < 0.02 else None
    return Sent(name, fields, body, cut_bytes, random.random() < 0.3)


def _long(name: str, random: Random) -> bytes:
    """Return a body that a worker thread reads by itself: right, with some other bytes, or of another length."""
    body = bytearray(LONG[name])
    for _ in range(random.choice([0, 1, 3])):
        body[random.choice([random.randrange(200), random.randrange(len(body))])] = random.randrange(256)
    stop = random.choice([len(body)] * 3 + [random.randrange(1, len(body))])
    return bytes(body[:stop]) + b"x" * random.choice([0, 0, 0, 1, 100_000])


def _pieces(body: bytes, random: Random) -> Iterator[bytes]:
    step = random.choice([1 << 16, 100, max(1, len(body) // 2)])
    for start in range(0, len(body), step):
        yield body[start : start + step]


class Sender:
    """One connection and an assessment, over which a share of the requests goes."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._seed = seed
        self._target = Target(url, timeout_s=60)
        self._path = self._create()
        self._row = 0
        self.counts: Counter[str] = Counter()
        self.findings: list[dict[str, Any]] = []

    def _create(self) -> str:
        made = self._target.json("POST", "/v1/assessments", {"name": "fuzz", "batch_sizes": [2]})
        return f"/v1/assessments/{made['id']}"

    def send(self, number: int) -> None:
        """Send a request and count its answer."""
        sent = request(self._seed, number)
        if sent.cut_bytes is not None:
            self._cut(sent)
            return
        path = "/v1/assess?batch_size=2"
        method = "POST"
        if sent.keep:
            method, path = "PUT", f"{self._path}/shards/{number}?first_row={self._row}"
            self._row += 1_000_000
            if self._row > 40_000_000:
                self._target.send("DELETE", self._path)
                self._path, self._row = self._create(), 0
        pieces = _pieces(sent.body, Random(number))
        try:
            status, answer = self._target.send(method, path, pieces, size_bytes=len(sent.body), fields=sent.fields)
        except OSError as error:
            self._find(number, f"no answer: {error!r:.200}")
            self._reconnect()
            return
        self.counts[f"{status // 100}xx"] += 1
        if status not in _STATUSES:
            self._find(number, f"{status}: {answer.decode('utf-8', 'replace')[:300]}")
        elif status >= 400 and not str(json.loads(answer)["detail"]).startswith("expected "):
            self._find(number, f"{status}, which does not say what was expected: {answer.decode()[:300]}")
        if status >= 400:
            self._reconnect()

    def _cut(self, sent: Sent) -> None:
        """Send a part of a body and close."""
        assert sent.cut_bytes is not None
        self.counts["cut"] += 1
        self._target.begin("POST", "/v1/assess?batch_size=2", len(sent.body) + 1, sent.fields)
        self._target.write(sent.body[: sent.cut_bytes])
        self._reconnect()

    def close(self) -> None:
        """Close the connection."""
        self._target.close()

    def _reconnect(self) -> None:
        self._target.close()
        self._target = Target(self._url, timeout_s=60)

    def _find(self, number: int, what: str) -> None:
        self.counts["findings"] += 1
        self.findings.append({"number": number, "what": what})


def fuzz(url: str, seed: int, numbers: range, connections: int) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Return the counts of answers and the findings of these requests."""

    def work(k: int) -> Sender:
        sender = Sender(url, seed)
        for number in numbers[k::connections]:
            sender.send(number)
        sender.close()
        return sender

    with ThreadPoolExecutor(connections) as pool:
        senders = list(pool.map(work, range(connections)))
    counts: Counter[str] = Counter()
    for sender in senders:
        counts.update(sender.counts)
    return counts, [finding for sender in senders for finding in sender.findings]


def main() -> int:
    """Print the counts; return 1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--connections", type=int, default=4)
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, service(folder, **LIMITS) as server:
        # What is imported and compiled once, by the first bodies of every format.
        warm = min(arguments.bodies, 500)
        counts, findings = fuzz(server.url, arguments.seed, range(warm), arguments.connections)
        reset_peak(server.pid)
        before = memory_bytes(server.pid, peak=False)
        rest, found = fuzz(server.url, arguments.seed, range(warm, arguments.bodies), arguments.connections)
        grown = memory_bytes(server.pid, peak=True) - before
        with Target(server.url) as target:
            alive = server.process.is_alive() and target.send("GET", "/readyz")[0] == 200
    counts.update(rest)
    findings += found
    for finding in findings[:20]:
        print(json.dumps(finding))
    print(f"{arguments.bodies} bodies, seed {arguments.seed}: {dict(sorted(counts.items()))}")
    print(f"largest memory {grown / 1e6:.0f} MB over that after the first {warm}; server alive: {alive}")
    print(f"{time.perf_counter() - began:.0f} s; {len(findings)} findings")
    return int(bool(findings) or not alive)


if __name__ == "__main__":
    sys.exit(main())
