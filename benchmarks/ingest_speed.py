"""shards:ingest through the real server: its rate, the growth of memory, and what a shard costs beside its bytes.

    python -m benchmarks.ingest_speed [--mb 512] [--features 3072] [--small 200]

Printed are, for a folder and for moto's S3 server on this machine (in Python; it copies an object whole for each range
of it, so it sets the pace, and its large object has at most 64 MB):

- the rate of a job with one shard of --mb MB, from its start to its end by its own events, and by how much the server's
  largest resident memory grew over what it had after a first shard of 16 MB;
- the time of a job with --small shards of 100 rows, a shard.

Linux only: memory is read from /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np

from assessor.sources import StoreSettings
from assessor.sources.backends import make_s3
from benchmarks.support.sending import memory_bytes, npy_head, reset_peak

MB = 10**6
BUCKET = "bench"
KEY = "bench"


@contextmanager
def serving(folder: Path, data: Path, endpoint: str) -> Iterator[tuple[httpx.Client, int]]:
    """Run a server that may read a folder and a bucket; give a client of it and its process id."""
    environment = os.environ | {
        "NORMGAUGE_DATABASE_URL": f"sqlite:///{folder}/normgauge.db",
        "NORMGAUGE_INGEST_PREFIXES": f"file://{data}/ s3://{BUCKET}/",
        "NORMGAUGE_INGEST_ENDPOINT": endpoint,
        "NORMGAUGE_INGEST_ACCESS_KEY_ID": KEY,
        "NORMGAUGE_INGEST_SECRET_ACCESS_KEY": KEY,
    }
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            url = next(line for line in server.stderr if "listening on" in line).split("listening on ")[1].split()[0]
            with httpx.Client(base_url=url, timeout=600) as client:
                yield client, server.pid
        finally:
            server.terminate()


@contextmanager
def object_store() -> Iterator[str]:
    """Run moto's S3 server in a process of its own; give its URL."""
    code = (
        "from moto.server import ThreadedMotoServer as S\n"
        "s = S(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "s.start()\nprint(*s.get_host_and_port(), flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()
        url = f"http://{host}:{port}"
        httpx.put(f"{url}/{BUCKET}").raise_for_status()
        try:
            yield url
        finally:
            process.terminate()


def write_shard(path: Path, size_bytes: int, features: int) -> None:
    """Write an npy file of about so many bytes; one block of rows again and again."""
    row_bytes = 4 * features
    n_rows = max(1, size_bytes // row_bytes)
    block = np.random.default_rng(0).standard_normal((min(n_rows, 512), features), np.float32).tobytes()
    with path.open("wb") as file:
        file.write(npy_head((n_rows, features)))
        left = n_rows * row_bytes
        while left > 0:
            file.write(block[:left])
            left -= len(block)


def run_job(client: httpx.Client, pattern: str) -> tuple[float, int]:
    """Return the seconds that a job takes, and its bytes."""
    created = client.post("/v1/assessments", json={"name": "speed", "batch_sizes": [32]})
    job = client.post(f"{created.headers['location']}/shards:ingest", json={"pattern": pattern}).headers["location"]
    moments: dict[str, datetime] = {}
    with client.stream("GET", f"{job}/events") as response:
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and "at" in (data := json.loads(line.removeprefix("data: "))):
                moments[name] = datetime.fromisoformat(data["at"])
    state = client.get(job).json()
    if state["state"] != "succeeded":
        raise RuntimeError(f"expected the job to succeed; got {state}")
    return (moments["succeeded"] - moments["started"]).total_seconds(), state["progress"]["bytes"]


def measure(kind: str, base: str, data: Path, endpoint: str, small: int) -> None:
    """Print the figures of one kind of store."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), data, endpoint) as (client, pid):
        run_job(client, f"{base}/first-*.npy")
        reset_peak(pid)
        before = memory_bytes(pid, peak=False)
        seconds, size_bytes = run_job(client, f"{base}/large-*.npy")
        grown = memory_bytes(pid, peak=True) - before
        rate = size_bytes / seconds / 1e9
        print(f"{kind}  one shard of {size_bytes / MB:.0f} MB: {rate:.2f} GB/s; memory grew by {grown / MB:.1f} MB")
        seconds, _ = run_job(client, f"{base}/small-*.npy")
        print(f"{kind}  {small} shards of 100 rows: {1000 * seconds / small:.1f} ms a shard")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description="Speed and memory of shards:ingest.")
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--small", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, object_store() as endpoint:
        data = Path(folder)
        write_shard(data / "first-0.npy", 16 * MB, arguments.features)
        write_shard(data / "large-0.npy", arguments.mb * MB, arguments.features)
        for i in range(arguments.small):
            write_shard(data / f"small-{i:05}.npy", 100 * 4 * arguments.features, arguments.features)
        measure("folder", f"file://{data}", data, endpoint, arguments.small)
        settings = StoreSettings(
            endpoint=endpoint, region="us-east-1", access_key_id=KEY, secret_access_key=KEY, read_timeout_s=600
        )
        store = make_s3(BUCKET, settings)
        write_shard(data / "large-0.npy", min(64, arguments.mb) * MB, arguments.features)
        for path in sorted(data.iterdir()):
            store.put(path.name, path)
        measure("S3    ", f"s3://{BUCKET}", data, endpoint, arguments.small)


if __name__ == "__main__":
    main()
