"""Kills the real service again and again while shards come in, and checks what is left.

    python -m benchmarks.kill_service --kills 100 --database sqlite
    python -m benchmarks.kill_service --kills 100 --database postgresql

Each round starts `normgauge serve` on the same database, sends shards from several threads at once, and ends the
process with SIGKILL at a random moment. After each restart:

- every shard that was acknowledged is there, with the digest of its bytes and its rows;
- what is there beside them was sent to its last byte (its answer was lost with the server) and is whole: its digest is
  right; a shard of which any byte was not sent is not there;
- as soon as all shards of an assessment are in, its plan is, byte for byte, that of a single pass over the data.

At the end the plans of all assessments are asked for once more. Any deviation ends the run with an error.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import httpx
import numpy as np
from xxhash import xxh3_128

from assessor import assess
from tests.app.databases import KINDS, postgresql_databases
from tests.app.support import npy

SHARDS = 48
ROWS = 1024
FEATURES = 64
BATCH_SIZE = 32
THREADS = 8
PIECES = 4
MOST_BEFORE_KILL = 16
"""A kill comes after a random number of acknowledgements up to this, however fast the machine is, ..."""
LONGEST_PAUSE_S = 0.05
"""... and a random time, at most this: anywhere in an upload."""

_LISTENING = re.compile(r"listening on (http://[0-9.:]+)")


class LostError(AssertionError):
    """What must never be: a shard that was acknowledged is gone, or one counts that must not."""


@dataclass
class Dataset:
    """One assessment's data, in shards, and the plan of a single pass."""

    seed: int
    bodies: list[bytes] = field(init=False)
    digests: list[str] = field(init=False)
    plan: str = field(init=False)

    def __post_init__(self) -> None:
        """Make the data."""
        rng = np.random.default_rng(self.seed)
        x = (rng.normal(size=(SHARDS * ROWS, FEATURES)) * rng.uniform(0.5, 2, FEATURES)).astype(np.float32)
        self.bodies = [npy(part) for part in np.split(x, SHARDS)]
        self.digests = [f"xxh3-128:{xxh3_128(body).hexdigest()}" for body in self.bodies]
        self.plan = assess(x, batch_size=BATCH_SIZE).to_json()


@dataclass
class Upload:
    """An assessment on its way: what was acknowledged, what sent to its end, what found without an answer to it."""

    path: str
    data: Dataset
    acknowledged: set[int] = field(default_factory=set)
    sent_whole: set[int] = field(default_factory=set)
    unanswered: set[int] = field(default_factory=set)

    def left(self) -> list[int]:
        """Return the shards that were not acknowledged."""
        return [index for index in range(SHARDS) if index not in self.acknowledged]


@dataclass
class Report:
    """What a run saw."""

    kills: int = 0
    acknowledged: int = 0
    answers_lost: int = 0
    cut_off: int = 0
    plans: int = 0
    restart_s: list[float] = field(default_factory=list)

    def table(self, database: str) -> str:
        """Return the figures as a table in Markdown."""
        rows = {
            "kills": self.kills,
            "shards acknowledged": self.acknowledged,
            "of these lost": 0,
            "whole shards found whose answer was lost": self.answers_lost,
            "uploads cut off by a kill, none of them found": self.cut_off,
            "plans equal to the single pass, byte for byte": self.plans,
            "start to ready, median (s)": f"{statistics.median(self.restart_s):.1f}",
        }
        width = max(map(len, rows))
        lines = [f"| {name:<{width}} | {value!s:>10} |" for name, value in rows.items()]
        return "\n".join([f"| {database:<{width}} | {'':>10} |", f"|{'-' * (width + 2)}|{'-' * 11}:|", *lines])


@contextmanager
def served(database_url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `normgauge serve` in a process of its own; give it and its URL, and kill it at the end."""
    environment = {**os.environ, "NORMGAUGE_KERNEL": "numpy", "NORMGAUGE_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = ""
            while (found := _LISTENING.search(said)) is None:
                line = server.stderr.readline()
                if not line:
                    raise RuntimeError(f"expected the service to start; it said: {said}")
                said += line
            # Its log must not fill the pipe.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield server, found[1]
        finally:
            server.kill()


def send(url: str, upload: Upload, queue: "SimpleQueue[int]", report: Report) -> None:
    """Send shards until there are none, or the service is gone."""
    with httpx.Client(base_url=url, timeout=30) as client:
        while True:
            try:
                index = queue.get_nowait()
            except Empty:
                return

            def pieces(index: int = index) -> Iterator[bytes]:
                body = upload.data.bodies[index]
                step = -(-len(body) // PIECES)
                for start in range(0, len(body), step):
                    if start + step >= len(body):
                        upload.sent_whole.add(index)  # before: the last piece may arrive and its sending still fail
                    yield body[start : start + step]

            # A thread of the service reads bodies of a known length by itself; others come through its event loop.
            fields = {"Content-Length": str(len(upload.data.bodies[index]))} if index % 2 else {}
            try:
                place = f"{upload.path}/shards/{index}?first_row={index * ROWS}"
                answer = client.put(place, content=pieces(), headers=fields)
            except httpx.TransportError:
                if index not in upload.sent_whole:
                    report.cut_off += 1
                return
            if answer.status_code not in (200, 201):
                raise LostError(f"expected shard {index} to be taken; got {answer.status_code} {answer.text}")
            upload.acknowledged.add(index)


def check(client: httpx.Client, upload: Upload, report: Report) -> None:
    """Compare what the service has with what was sent.

    Raises:
        LostError: they differ in what must be the same.
    """
    state = client.get(upload.path).json()
    stored = {shard["index"]: shard for shard in state["shards"]}
    lost = upload.acknowledged - set(stored)
    if lost:
        raise LostError(f"expected every acknowledged shard; {sorted(lost)} are gone")
    half = set(stored) - upload.sent_whole
    if half:
        raise LostError(f"expected no shard that was not sent to its end; {sorted(half)} are there")
    for index, shard in stored.items():
        came = (shard["digest"], shard["first_row"], shard["rows"])
        if came != (upload.data.digests[index], index * ROWS, ROWS):
            raise LostError(f"expected shard {index} as it was sent; got {came}")
    if state["rows"] != ROWS * len(stored):
        raise LostError(f"expected {ROWS * len(stored)} rows; got {state['rows']}")
    unanswered = set(stored) - upload.acknowledged - upload.unanswered
    upload.unanswered |= unanswered
    report.answers_lost += len(unanswered)


def check_plan(client: httpx.Client, upload: Upload, report: Report) -> None:
    """Compare the plan with that of a single pass.

    Raises:
        LostError: a byte differs.
    """
    plan = client.get(f"{upload.path}/plan", timeout=60)
    if plan.text != upload.data.plan:
        raise LostError(f"expected the plan of a single pass; got {plan.status_code} {plan.text[:200]}")
    report.plans += 1


def begin(client: httpx.Client, data: Dataset) -> Upload:
    """Return a new assessment."""
    answer = client.post("/v1/assessments", json={"name": "kill", "batch_sizes": [BATCH_SIZE]})
    answer.raise_for_status()
    return Upload(answer.headers["location"], data)


def run(database_url: str, *, kills: int, seed: int = 0) -> Report:
    """Kill a service so many times and return what was seen.

    Raises:
        LostError: something was lost, or counted that must not.
    """
    rng = np.random.default_rng(seed)
    report = Report()
    data = Dataset(seed)
    done: list[Upload] = []
    upload: Upload | None = None
    for turn in range(kills + 1):
        began = time.perf_counter()
        with served(database_url) as (server, url), httpx.Client(base_url=url, timeout=30) as client:
            client.get("/readyz").raise_for_status()
            report.restart_s.append(time.perf_counter() - began)
            if upload is not None:
                check(client, upload, report)
            if upload is None or not upload.left():
                if upload is not None:
                    check_plan(client, upload, report)
                    done.append(upload)
                upload = begin(client, data)
            queue: SimpleQueue[int] = SimpleQueue()
            for index in rng.permutation(upload.left()):
                queue.put(int(index))
            before = len(upload.acknowledged)
            with ThreadPoolExecutor(THREADS) as threads:
                sending = [threads.submit(send, url, upload, queue, report) for _ in range(THREADS)]
                if turn < kills:
                    enough = before + rng.integers(MOST_BEFORE_KILL + 1)
                    while len(upload.acknowledged) < enough and not all(each.done() for each in sending):
                        time.sleep(0.001)
                    time.sleep(rng.uniform(0, LONGEST_PAUSE_S))
                    os.kill(server.pid, signal.SIGKILL)
                    report.kills += 1
            for each in sending:
                each.result()  # raises what the thread raised
            report.acknowledged += len(upload.acknowledged) - before
            if turn == kills:
                check(client, upload, report)
                for ended in [*done, upload]:
                    check_plan(client, ended, report)
    return report


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        if arguments.database == "sqlite":
            url = f"sqlite:///{name}/normgauge.db"
        else:
            url = stack.enter_context(postgresql_databases(durable=True))()
        print(run(url, kills=arguments.kills, seed=arguments.seed).table(arguments.database))


if __name__ == "__main__":
    main()
