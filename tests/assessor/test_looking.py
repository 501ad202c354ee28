"""What a header or a footer says is believed of files as they are written, and refused where it cannot be true."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assessor import DecodeSettings, FormatError, profile_array
from assessor.execution import open_engine, profile_sources
from assessor.sources import SourceUri, StoreSettings, open_store
from assessor.sources.extents import Extent, inspect_source
from tests.assessor.shard_sets import WRITERS
from tests.object_stores import KEYS, OBJECT, Answer, scripted

X = np.random.default_rng(5).standard_normal((150, 6)).astype(np.float32)
Y = np.arange(150) % 3


def look(body: bytes, folder: Path, settings: DecodeSettings | None = None) -> Extent:
    path = folder / "x.bin"
    path.write_bytes(body)
    uri = SourceUri.parse(f"file://{path}")
    store = open_store(uri, StoreSettings())
    return inspect_source(store, store.find(uri), settings or DecodeSettings())


def column(kind: str, n: int) -> Any:
    """Return n values of a type, with no more bytes than it needs."""
    zeros = pa.array(np.zeros(n, np.float16))
    if kind == "null":
        return pa.nulls(n)
    if kind == "list":
        return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), zeros)
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(zeros, 1)
    return zeros.cast(pa.float32()).cast(kind)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["null", "bool", "uint8", "halffloat", "double", "list", "fixed"]), max_size=3),
    read=st.sampled_from(["bool", "uint8", "float", "list", "fixed"]),
    rows=st.sampled_from([1, 7, 8, 9, 1000, 70_000, 1_000_000]),
    batch_rows=st.sampled_from([1 << 10, 1 << 16, 1 << 30]),
    compression=st.sampled_from([None, "lz4", "zstd"]),
)
def test_the_rows_of_files_that_pyarrow_writes_are_believed(
    tmp_path: Path, kinds: list[str], read: str, rows: int, batch_rows: int, compression: str | None
) -> None:
    table = pa.table({**{f"f{k}": column(kind, rows) for k, kind in enumerate(kinds)}, "x": column(read, rows)})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
        writer.write_table(table.slice(0, 0))
        writer.write_table(table.slice(rows // 2))
    assert look(sink.getvalue(), tmp_path, DecodeSettings(columns=("x",))).rows == rows + rows - rows // 2
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink, row_group_size=min(rows, batch_rows), compression=compression or "none")
    assert look(sink.getvalue(), tmp_path, DecodeSettings(columns=("x",))).rows == rows


def damaged(folder: Path, what: str) -> bytes:
    """Return an Arrow file of which one number was written over."""
    body = bytearray(WRITERS["arrow"](X, Y))
    first, second = look(bytes(body), folder).groups[:2]
    rows = body.index(struct.pack("<q", 7), first.start)
    listed = body.rindex(struct.pack("<q", second.start))
    node = body.index(struct.pack("<qq", 7, 0), first.start)
    buffer = body.index(struct.pack("<qq", 0, 7 * 24), node)
    numbers: dict[str, tuple[int, str, int]] = {
        "many rows": (rows, "<q", 1 << 42),
        "more rows": (rows, "<q", 8),
        "negative rows": (rows, "<q", -1),
        "column's rows": (node, "<q", 1 << 42),
        "buffer": (buffer, "<q", 1 << 42),
        "negative buffer": (buffer + 8, "<q", -8),
        "offset": (listed, "<q", -(1 << 62)),
        "far offset": (listed, "<q", 1 << 62),
        "metadata": (listed + 8, "<i", 1 << 30),
        "negative metadata": (listed + 8, "<i", -8),
        "body": (listed + 16, "<q", 1 << 62),
        "negative body": (listed + 16, "<q", -8),
        "schema": (body.rindex(struct.pack("<q", first.start)), "<q", 8),
        "prefix": (second.start + 4, "<i", 8),
    }
    at, code, number = numbers[what]
    struct.pack_into(code, body, at, number)
    return bytes(body)


DAMAGES = {
    "many rows": r"record batch of 0 to \d+ rows.*says 4398046511104",
    "more rows": "expected 8 rows in each column of a record batch, as its metadata says; the first has 7",
    "negative rows": "says -1",
    "column's rows": "the first has 4398046511104",
    "buffer": "expected buffers one after another within",
    "negative buffer": "-8 bytes long",
    "offset": "number 1 begins at byte -4611686018427387904",
    "far offset": "number 1 begins at byte 4611686018427387904",
    "metadata": "with 1073741824 and",
    "negative metadata": "with -8 and",
    "body": "and 4611686018427387904 bytes",
    "negative body": "and -8 bytes",
    "schema": "begins at byte 8: write it again",
    "prefix": "got another message",
}


@pytest.mark.parametrize("what", DAMAGES)
def test_an_arrow_file_with_a_wrong_number_is_named_or_left_out(tmp_path: Path, what: str) -> None:
    body = damaged(tmp_path, what)
    with pytest.raises(FormatError, match=DAMAGES[what]):
        look(body, tmp_path)
    (tmp_path / "x.bin").unlink()
    (tmp_path / "0.arrow").write_bytes(WRITERS["arrow"](X, Y))
    (tmp_path / "1.arrow").write_bytes(body)
    options: dict[str, Any] = {"batch_sizes": [8], "engine": "serial"}
    with pytest.raises(FormatError, match=rf"1\.arrow: .*{DAMAGES[what]}"):
        profile_sources([f"{tmp_path}/"], **options)
    assessed = profile_sources([f"{tmp_path}/"], on_error="skip", **options)
    [skipped] = assessed.skipped
    assert (skipped.uri, skipped.rows) == (f"file://{tmp_path}/1.arrow", 0)
    assert assessed.profile.to_bytes() == profile_array(X, labels=Y, batch_sizes=[8]).to_bytes()


def test_workers_leave_the_same_file_out(tmp_path: Path) -> None:
    for number, body in enumerate([WRITERS["arrow"](X, Y), damaged(tmp_path, "many rows")]):
        (tmp_path / f"{number}.arrow").write_bytes(body)
    with open_engine("processes", workers=1) as engine:
        assessed = profile_sources([f"{tmp_path}/*.arrow"], batch_sizes=[8], engine=engine, on_error="skip")
    assert [skipped.uri for skipped in assessed.skipped] == [f"file://{tmp_path}/1.arrow"]
    assert assessed.profile.to_bytes() == profile_array(X, labels=Y, batch_sizes=[8]).to_bytes()


def test_a_footer_that_ends_before_it_begins(tmp_path: Path) -> None:
    body = WRITERS["arrow"](X, Y)
    for length in (0, len(body), 1 << 31):
        with pytest.raises(FormatError, match="it was cut off"):
            look(body[:-10] + struct.pack("<I", length) + body[-6:], tmp_path)


def test_rows_that_a_parquet_file_contradicts(tmp_path: Path) -> None:
    """The first 5,000 as a variable-length integer are the rows of the file, the last those of the row group."""
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"x": np.arange(5000)}), sink)
    body = bytearray(sink.getvalue())
    written, more = b"\x90\x4e", b"\x92\x4e"  # 5,000 and 5,001
    places = [at for at in range(len(body)) if body[at : at + 2] == written]
    look(bytes(body), tmp_path)
    refused = []
    for at in places:
        changed = body[:at] + more + body[at + 2 :]
        try:
            look(bytes(changed), tmp_path)
        except FormatError as error:
            refused.append(str(error))
    assert "expected 5001 rows, as the metadata says; its row groups have 5000" in refused
    assert "expected a value a row in each column of a row group of 5001 rows; one has 5000" in refused


def file_of(batch_rows: int, rows: int, end: str) -> bytes:
    """Return float32 rows of 64 bytes, in so many record batches or row groups."""
    x = np.random.default_rng(0).standard_normal((rows, 16)).astype(np.float32)
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 16)})
    sink = io.BytesIO()
    if end == "parquet":
        pa.parquet.write_table(table, sink, row_group_size=batch_rows, use_dictionary=False)
        return sink.getvalue()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("body", "requests"),
    [
        (WRITERS["npy"](X.repeat(300, axis=0), Y), 1),
        (WRITERS["safetensors"](X.repeat(300, axis=0), Y.repeat(300)), 1),
        (file_of(10, 100, "arrow"), 1),  # all of it is in the first 64 kB
        (file_of(1000, 20_000, "arrow"), 3),  # first, last, and the rest at once
        (file_of(4000, 40_000, "arrow"), 11),  # first with its record batch, last, and each of nine others
        (file_of(1000, 20_000, "parquet"), 2),
    ],
)
def test_requests_to_look_at_an_object(body: bytes, requests: int) -> None:
    """As docs/scaling.md says."""
    with scripted(Answer(200, body, OBJECT)) as (endpoint, asked):
        uri = SourceUri.parse("s3://data/x")
        store = open_store(uri, StoreSettings(endpoint=endpoint, **KEYS))  # type: ignore[arg-type]  # no booleans
        source = store.find(uri)
        asked.clear()
        assert inspect_source(store, source, DecodeSettings()).rows
        assert len(asked) == requests
