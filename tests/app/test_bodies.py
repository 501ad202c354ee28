"""Bodies of every format in every encoding through the real server; what is left behind of those that were cut."""

import gzip
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.ingest import ShardReader
from app.serving import running
from app.settings import Settings
from assessor import profile_shard
from assessor.formats import MEDIA_TYPES
from benchmarks.fuzz_service import LIMITS, fuzz
from benchmarks.support.mutation import BODIES
from clients.compression import zstd
from tests.app.support import check_problem, create, npy, rows, safetensors
from tests.app.test_streaming import send_raw, shard_head

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {"identity": bytes, "gzip": gzip.compress, "zstd": zstd.compress}
MEDIA_TYPE_OF = {name: media_type for media_type, name in MEDIA_TYPES.items()}
ALL = [(name, number) for name, bodies in BODIES.items() for number in range(len(bodies))]


@pytest.mark.parametrize(("name", "number"), ALL)
def test_every_format_in_every_encoding(client: httpx.Client, name: str, number: int) -> None:
    body = BODIES[name][number]
    path = create(client, batch_sizes=[2])
    answers: list[tuple[dict[str, Any], str]] = []
    for encoding, encode in ENCODINGS.items():
        headers = {"content-type": MEDIA_TYPE_OF[name], "content-encoding": encoding}
        sent = encode(body)
        stored = client.put(f"{path}/shards/0", content=sent, headers=headers)
        assert stored.status_code == (200 if answers else 201), stored.text
        in_chunks = (sent[start : start + 100] for start in range(0, len(sent), 100))
        plan = client.post("/v1/assess?batch_size=2&method=published", content=in_chunks, headers=headers)
        answers.append((stored.json(), plan.text))
    assert answers[1:] == answers[:1] * 2
    assert answers[0][0]["rows"] == profile_shard(io.BytesIO(body), format=name, batch_sizes=[2]).n_rows


@pytest.mark.parametrize(("name", "number"), ALL)
@pytest.mark.parametrize("size", [7, 600, 100_000])
def test_nothing_is_kept_of_a_piece(name: str, number: int, size: int) -> None:
    """The buffer of a piece is overwritten after it was read, as the service does."""
    body = BODIES[name][number]
    reader = ShardReader(batch_sizes=[2], feature_axis="element", settings=Settings(), format_name=name)
    buffer = bytearray(size)
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        buffer[: len(piece)] = piece
        reader.feed(memoryview(buffer)[: len(piece)])
        buffer[:] = b"\xff" * size
    expected = profile_shard(io.BytesIO(body), format=name, batch_sizes=[2])
    assert reader.finish().profile.to_bytes() == expected.to_bytes()


def test_mutated_bodies(settings: Settings) -> None:
    """As `python -m benchmarks.fuzz_service` at length."""
    with running(settings.model_copy(update=LIMITS)) as url:
        counts, findings = fuzz(url, 0, range(400), 2)
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    assert findings == []
    assert counts["2xx"] > 20
    assert counts["4xx"] > 200


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_cut_upload_leaves_no_temporary_file(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = create(client)
    head = shard_head(path, f"Content-Length: {64 << 20}")
    with send_raw(str(client.base_url), head, b"PK\x03\x04" + bytes(20 << 20)):
        wait_until(lambda: temporary_files(tmp_path) == 1)
    wait_until(lambda: temporary_files(tmp_path) == 0)
    assert client.get(path).json()["shards"] == []
    assert client.put(f"{path}/shards/0", content=npy(rows(4))).status_code == 201


def temporary_files(folder: Path) -> int:
    """Return how many files without a name this process, in which the server runs, has open in a folder."""
    links = []
    for place in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(place))
        except OSError:
            continue  # closed meanwhile
    return sum(link.startswith(f"{folder}/") and link.endswith(" (deleted)") for link in links)


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)  # until the server has come so far


def test_limits_on_what_is_in_a_shard(settings: Settings) -> None:
    limits = {"max_classes": 3, "max_decoded_bytes": 2000, "max_spool_bytes": 1000, "max_features": 8}
    with running(settings.model_copy(update=limits)) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        labelled = safetensors(rows(8), np.arange(8) % 4)
        refused = client.put(f"{path}/shards/0", content=labelled)
        check_problem(refused, 413, "too-many-classes", "at most 3 different labels", "NORMGAUGE_MAX_CLASSES")
        assert client.put(f"{path}/shards/0", content=safetensors(rows(8), np.arange(8) % 3)).status_code == 201
        for encoding in ("gzip", "zstd"):
            sent = ENCODINGS[encoding](npy(np.ones((1000, 6), np.float32)))
            refused = client.put(f"{path}/shards/1", content=sent, headers={"content-encoding": encoding})
            check_problem(refused, 413, "decoded-too-large", "at most 2000 bytes", "NORMGAUGE_MAX_DECODED_BYTES")
        refused = client.put(f"{path}/shards/1", content=b"PK\x03\x04" + bytes(2000))
        check_problem(refused, 413, "spool-too-large", "at most 1000 bytes")
        wide = b",".join(b"f%d" % k for k in range(9)) + b"\n" + b",".join([b"1"] * 9) + b"\n"
        refused = client.put(f"{path}/shards/1", content=wide, headers={"content-type": "text/csv"})
        check_problem(refused, 413, "too-many-features", "at most 8 values")
        assert [shard["index"] for shard in client.get(path).json()["shards"]] == [0]
