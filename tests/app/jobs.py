"""What the tests of jobs share: a service that reads a folder or a bucket, its jobs followed to their end."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from app.serving import running
from app.settings import Settings
from assessor import assess
from tests.app.support import npy, rows

DEADLINE_S = 120.0


@contextmanager
def reading(settings: Settings, *prefixes: str, **changes: Any) -> Iterator[httpx.Client]:
    """Run a service that may read these prefixes while the block runs; give a client of it."""
    changed = settings.model_copy(update={"ingest_prefixes": prefixes, "job_poll_s": 0.05} | changes)
    with running(changed) as url, httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        yield client


def write_shards(folder: Path, *sizes: int, features: int = 6) -> NDArray[np.float32]:
    """Write shards part-0.npy, part-1.npy, ... with so many rows each; return all rows."""
    folder.mkdir(exist_ok=True)
    x = rows(sum(sizes), features=features)
    for i, part in enumerate(np.split(x, np.cumsum(sizes)[:-1])):
        (folder / f"part-{i}.npy").write_bytes(npy(part))
    return x


def ask(client: httpx.Client, assessment: str, **body: Any) -> str:
    """Return the path of a new ingest job."""
    response = client.post(f"{assessment}/shards:ingest", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["retry-after"] == "1"
    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"
    return response.headers["location"]


def wait(client: httpx.Client, job: str, *, within_s: float = DEADLINE_S) -> dict[str, Any]:
    """Return a job when it has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        state = client.get(job).json()
        if state["state"] not in ("queued", "running"):
            return dict(state)
        time.sleep(0.05)
    raise AssertionError(f"the job did not end: {state}")


def parse(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield server-sent events as the standard reads them: fields by name, comments left out, up to an empty line."""
    event: dict[str, str] = {}
    for line in lines:
        if not line:
            if set(event) - {"retry"}:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")


def follow(client: httpx.Client, job: str, *, after: str | None = None) -> list[dict[str, str]]:
    """Return a job's events until the stream ends."""
    headers = {} if after is None else {"Last-Event-ID": after}
    with client.stream("GET", f"{job}/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(parse(response.iter_lines()))


def kept(events: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Return the ids and names of the events that are kept."""
    return [(event["id"], event["event"]) for event in events if "id" in event]


def check_plan(client: httpx.Client, assessment: str, x: NDArray[Any]) -> None:
    """Check that an assessment's plan is, to the bit, the one that a single pass over all rows gives."""
    response = client.get(f"{assessment}/plan", params={"method": "need"})
    assert response.status_code == 200, response.text
    expected = json.loads(assess(x, batch_size=4, method="need").to_json())
    got = response.json()
    assert got["scores"] == expected["scores"]
    assert got == expected
