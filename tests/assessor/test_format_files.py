"""Every format against the array that was written, by pyarrow, NumPy, csv, Pillow and tarfile themselves."""

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from assessor import AssessorError, DecodeSettings, decoder_for, formats, profile_array, profile_shard
from assessor.errors import (
    DtypeError,
    EmptyShardError,
    FormatError,
    LabelError,
    NonFiniteError,
    SettingError,
    ShapeError,
)
from assessor.formats import arrow as arrow_format
from assessor.formats import parquet as parquet_format
from assessor.formats.spool import Spool
from benchmarks.support.fuzz_seeds import arrow, csv_text, ndjson, npy, npz, parquet, picture, table, tar, zipped
from tests.assessor.shard_files import Dripping, profile_bytes

RNG = np.random.default_rng(5)
X = RNG.normal(size=(23, 4)).astype(np.float32)
Y = RNG.integers(0, 5, 23)
WIDE = X.astype(np.float64)
PIXELS = RNG.integers(0, 256, (5, 6, 7, 3), np.uint8)
CHANNELS_FIRST = PIXELS.transpose(0, 3, 1, 2)


def bodies() -> list[tuple[str, str, bytes, NDArray[Any], NDArray[Any] | None]]:
    """Return (what, format, body, x, y)."""
    flat, fixed, lists = (table(X, Y, lists=kind) for kind in ("", "fixed", "list"))
    tensor = table(CHANNELS_FIRST, Y[:5], lists="tensor")
    nested = pyarrow.table(
        {"x": pyarrow.array(PIXELS[..., 0].tolist(), pyarrow.list_(pyarrow.list_(pyarrow.uint8(), 7)))}
    )
    found: list[tuple[str, str, bytes, NDArray[Any], NDArray[Any] | None]] = [
        ("npz", "npz", npz(x=X, y=Y), X, Y),
        ("deflated", "npz", npz(compressed=True, x=PIXELS), PIXELS, None),
        ("names", "csv", csv_text(WIDE, Y), WIDE, Y),
        ("no names", "csv", csv_text(WIDE, names=False), WIDE, None),
        ("objects", "ndjson", ndjson(WIDE, Y), WIDE, Y),
        ("lists", "ndjson", b"".join(json.dumps(row).encode() + b"\r\n" for row in WIDE.tolist())[:-2], WIDE, None),
        (
            "rank 3",
            "json",
            json.dumps({"x": PIXELS[..., 0].tolist(), "y": [1] * 5}).encode(),
            PIXELS[..., 0] * 1.0,
            Y[:5] * 0 + 1,
        ),
        (
            "records",
            "json",
            json.dumps([{"b": b, "a": a, "label": 3} for a, b in WIDE[:, :2].tolist()]).encode(),
            WIDE[:, 1::-1],
            Y * 0 + 3,
        ),
        (
            "png",
            "webdataset",
            tar(
                {
                    f"d/{k}.{e}": v
                    for k in range(5)
                    for e, v in (("png", picture(PIXELS[k])), ("cls", b"%d" % Y[k]), ("json", b"{}"))
                }
            ),
            CHANNELS_FIRST,
            Y[:5],
        ),
        (
            "npy",
            "webdataset",
            tar({f"{'d' * 150}/{k:03}.NPY": npy(x) for k, x in enumerate(X)}, tarfile.PAX_FORMAT),
            X,
            None,
        ),
        (
            "gnu",
            "webdataset",
            tar({f"{'d' * 150}/{k:03}.npy": npy(x) for k, x in enumerate(X)}, tarfile.GNU_FORMAT),
            X,
            None,
        ),
    ]
    for what, rows, x, y in (
        ("flat", flat, X, Y),
        ("fixed", fixed, X, Y),
        ("lists", lists, X, Y),
        ("tensor", tensor, CHANNELS_FIRST, Y[:5]),
        ("nested", nested, PIXELS[..., 0], None),
        ("halves", table(X.astype(np.float16)), X.astype(np.float16), None),
        ("bools", table(X > 0), X > 0, None),
    ):
        found += [
            (what, "arrow", arrow(rows), x, y),
            (what, "arrow", arrow(rows, compression="zstd", batch_rows=9), x, y),
            (what, "arrow_file", arrow(rows, file=True), x, y),
            (what, "arrow_file", arrow(rows, file=True, compression="lz4"), x, y),
            (what, "parquet", parquet(rows), x, y),
            (what, "parquet", parquet(rows, row_group_size=5, compression="gzip", data_page_version="2.0"), x, y),
            (what, "parquet", parquet(rows, use_dictionary=False, data_page_size=64, write_batch_size=2), x, y),
        ]
    return found


BODIES = bodies()


@pytest.mark.parametrize(
    ("what", "name", "body", "x", "y"), BODIES, ids=[f"{b[1]}-{b[0]}-{k}" for k, b in enumerate(BODIES)]
)
@settings(max_examples=5, deadline=None)
@given(sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=6))
def test_in_any_pieces_it_is_what_was_written(
    what: str, name: str, body: bytes, x: NDArray[Any], y: NDArray[Any] | None, sizes: list[int]
) -> None:
    expected = profile_array(x, labels=y, batch_sizes=[3]).to_bytes()
    assert profile_shard(Dripping(body, sizes), format=name, batch_sizes=[3]).to_bytes() == expected


@pytest.mark.parametrize(("what", "name", "body", "x", "y"), BODIES[::3])
def test_a_file_is_read_in_place_and_recognized(
    tmp_path: Path, what: str, name: str, body: bytes, x: NDArray[Any], y: NDArray[Any] | None
) -> None:
    path = tmp_path / f"shard.{name}"
    path.write_bytes(body)
    seen: list[int] = []
    got = profile_shard(path, batch_sizes=[3], on_bytes=seen.append)
    assert got.to_bytes() == profile_array(x, labels=y, batch_sizes=[3]).to_bytes()
    assert sum(seen) == len(body)
    if name not in ("csv", "json", "ndjson"):
        assert decoder_for(body[:512]) == name


def test_columns_and_labels_by_name() -> None:
    chosen = DecodeSettings(columns=("f3", "f1"), label="f0")
    rows = pyarrow.table({"id": ["a", "b"], "f0": [1, 2], "f1": [0.5, 1.5], "f3": [2.5, 4.0], "y": [7, 8]})
    expected = profile_array(np.array([[2.5, 0.5], [4.0, 1.5]]), labels=[1, 2], batch_sizes=[3]).to_bytes()
    text = b"id,f0,f1,f3,y\r\na,1,0.5,2.5,7\r\nb,2,1.5,4.0,8\r\n"
    for name, body in (("arrow", arrow(rows.drop(["id"]))), ("parquet", parquet(rows)), ("csv", text)):
        assert profile_bytes(body, format=name, settings=chosen).to_bytes() == expected


def test_csv_as_other_programs_write_it() -> None:
    expected = profile_array(np.array([[1.0, -2e3], [0.5, 4.0]]), labels=[3, -1], batch_sizes=[3]).to_bytes()
    for text in (
        b"\xef\xbb\xbfa,y,b\n1,3,-2e3\n.5,-1,4\n",
        b'"a","y","b"\r\n"1"," 3",-2000\r\n 0.5,-1,4.0\r\n\r\n',
        b"a,y,b\n1,3,-2000\n0.5,-1,4",
    ):
        assert profile_bytes(text, format="csv").to_bytes() == expected


def test_a_large_record_batch_is_memory_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_format, "MESSAGE_IN_MEMORY_BYTES", 300)
    body = arrow(table(X, Y, lists="fixed"), batch_rows=20)
    assert profile_bytes(body).to_bytes() == profile_array(X, labels=Y, batch_sizes=[3]).to_bytes()


@pytest.mark.parametrize("held_bytes", [1, 600, 1 << 20])
def test_many_columns_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch, held_bytes: int) -> None:
    monkeypatch.setattr(parquet_format, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(parquet_format, "BUFFER_BYTES", 1)
    mixed = table(X, Y).append_column("more", pyarrow.array(np.arange(23), pyarrow.int16()))
    x = np.column_stack([X, np.arange(23, dtype=np.float32)])
    for size in (5, 100):
        got = profile_bytes(parquet(mixed, row_group_size=size))
        assert got.to_bytes() == profile_array(x, labels=Y, batch_sizes=[3]).to_bytes()
    missing = pyarrow.table({"a": np.arange(9.0), "b": pyarrow.array([0.0] * 7 + [None, 1.0])})
    with pytest.raises(NonFiniteError, match="row 7, column 'b' is null"):
        profile_bytes(parquet(missing, row_group_size=4))


def test_row_groups_of_many_columns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_format, "HELD_BYTES", 1)
    body = parquet(table(X))
    with pytest.raises(FormatError, match=r"row groups of at most 367 bytes when decoded, .* got one of 368"):
        list(formats.get("parquet")(DecodeSettings(max_spool_bytes=367)).read(io.BytesIO(body)))  # type: ignore[attr-defined]  # FileDecoder


def test_a_spool_is_bounded_and_maps_what_it_wrote() -> None:
    spool = Spool(100, "a shard", in_memory_bytes=10)
    spool.write(b"0123456789")
    assert spool.buffer() == b"0123456789"
    spool.write(b"abc")
    assert spool.buffer()[:] == b"0123456789abc"
    with pytest.raises(
        FormatError, match=r"expected a shard of at most 100 bytes.* at least 113 came: .*max_spool_bytes"
    ):
        spool.write(b"0" * 100)


def nulls(lists: bool = False) -> pyarrow.Table:
    values = [[1.0, 2.0], [3.0, None]] if lists else [1.0, None]
    return pyarrow.table({"a": pyarrow.array(values), "b": [1.0, 2.0] if not lists else [[1.0], [2.0]]})


SMALL = DecodeSettings(max_features=3, max_spool_bytes=500, max_decoded_bytes=700, max_page_bytes=60)
ZEROS = np.zeros((40, 3), np.float32)
PICKLE = pickle.dumps({"x": 1})
BIG_SCHEMA = b"\xff\xff\xff\xff" + (1 << 24).to_bytes(4, "little")
BAD: list[tuple[str, bytes, type[AssessorError], str]] = [
    ("npz", npz(a=X), FormatError, r"got members \['a.npy'\]: save with numpy.savez\(path, x=samples, y=labels\)"),
    ("npz", npz(x=np.array([[None]])), DtypeError, r"pickle and never loaded.*\(in member 'x.npy'\)"),
    ("npz", npz(x=X, y=X), LabelError, r"expected y of shape \(rows,\).*\(in member 'y.npy'\)"),
    ("npz", npz(x=X, y=Y[:4]), LabelError, "expected one label a row, 23 in all; got 4"),
    ("npz", npz(x=X)[:-30], FormatError, "its directory cannot be read"),
    ("npz", zipped({"x.npy": npy(X)[:-4]}), FormatError, r"the body was cut off.*\(in member 'x.npy'\)"),
    ("npz", zipped({"x.npy": PICKLE}), FormatError, "expected an npy file"),
    ("arrow", arrow(nulls()), NonFiniteError, "row 1, column 'a' is null: remove or impute"),
    ("arrow", arrow(nulls(True)), NonFiniteError, "row 1, column 'a', value 1 is null"),
    ("parquet", parquet(nulls()), NonFiniteError, "row 1, column 'a' is null"),
    ("arrow", arrow(pyarrow.table({"a": ["x"]})), DtypeError, "in column 'a'; got string: leave the column out"),
    ("parquet", parquet(pyarrow.table({"a": ["x"]})), DtypeError, "in column 'a'; got string: leave the column out"),
    (
        "arrow",
        arrow(pyarrow.table({"x": [[1.0], [2.0, 3.0]]})),
        ShapeError,
        "has 1 values in row 0 and 2 in row 1: cut",
    ),
    (
        "arrow",
        arrow(pyarrow.table({"x": [[], []]}).cast(pyarrow.schema([("x", pyarrow.list_(pyarrow.float32()))]))),
        EmptyShardError,
        "lists without values from row 0",
    ),
    ("arrow", arrow(pyarrow.table({"x": [1.0], "y": [1.0]})), LabelError, "integer type in column 'y'; got double"),
    ("arrow", arrow(pyarrow.table({"x": [1.0], "y": [1], "label": [1]})), LabelError, "got y and label: name one"),
    ("arrow", arrow(table(X))[:-8], FormatError, "ends with its end mark; .* the body was cut off"),
    ("arrow", arrow(table(X)) + b"\0", FormatError, "nothing after the end mark of an Arrow IPC stream; 1 bytes came"),
    ("arrow", BIG_SCHEMA, FormatError, "metadata of at most 8388608 bytes; got 16777216 at byte 0"),
    (
        "arrow",
        arrow(pyarrow.table({"x": [1.0], "d": pyarrow.array(["a"]).dictionary_encode()})),
        DtypeError,
        "in column 'd'",
    ),
    ("arrow_file", arrow(table(X), file=True)[:-3], FormatError, "ends with its index and b'ARROW1'"),
    ("parquet", parquet(table(X))[:-3], FormatError, "ends with its metadata and b'PAR1'; got"),
    (
        "parquet",
        b"PAR1" + (1 << 30).to_bytes(4, "little") + b"PAR1",
        FormatError,
        "metadata of at most 0 bytes; got 1073741824",
    ),
    ("csv", b"a,b\n1,2\n3,\n", NonFiniteError, "row 1, column 'b' is '': remove or impute"),
    ("csv", b"a,b\n1,2\n3,nan\n", NonFiniteError, "row 1, column 'b' is 'nan'"),
    ("csv", b"a,b\n1,2\n3,-inf\n", NonFiniteError, "row 1, column 'b' is '-inf'"),
    ("csv", b"a,b\n1,2\n3,red\n", DtypeError, "row 1, column 'b' is 'red': leave the column out"),
    ("csv", b"a,b\n1,2\n3\n", ShapeError, "expected 2 columns; got 1 in row 1"),
    ("csv", b"a,b\n1,2\n\n3,4\n", NonFiniteError, "a line after row 0 is empty"),
    ("csv", b"a,y\n1,2\n3,4.0\n", LabelError, "row 1, column 'y' is '4.0': number the classes"),
    ("csv", b"a,y\n1,99999999999999999999\n", LabelError, "expected integer labels below 2.63"),
    ("csv", b"0,1,2\n5,6,7\n", FormatError, "counts from 0 to 2, which may be either: name the columns"),
    ("csv", b"a,a\n1,2\n", FormatError, "'a' comes twice: rename it"),
    ("csv", b"\xff\xfea\0", FormatError, "expected CSV in UTF-8; got byte 0xff"),
    ("csv", b"a\n", EmptyShardError, "expected at least one row"),
    ("csv", b"y\n1\n", ShapeError, "at least one column of features"),
    ("ndjson", b'{"x": [1, null]}\n', NonFiniteError, "row 0, column 1 is null"),
    ("ndjson", b'{"a": 1}\n{"a": null}\n', NonFiniteError, "row 1, column 'a' is null"),
    ("ndjson", b'{"a": 1}\n{"a": NaN}\n', NonFiniteError, "got NaN: remove or impute"),
    ("ndjson", b'{"a": "1"}\n', DtypeError, "row 0, column 'a' is '1'"),
    ("ndjson", b'{"a": 1}\n{"b": 1}\n', ShapeError, "the fields .* as before; row 1 has"),
    ("ndjson", b'{"x": [1], "y": null}\n', NonFiniteError, "expected a label; row 0"),
    ("ndjson", b'{"x": [[1], [2]], "y": [0, 1]}\n', LabelError, 'one document with all rows, its format is "json"'),
    ("ndjson", b'{"x": [1], "y": 0, "z": 2}\n', FormatError, r"got \['z'\]: leave them out"),
    ("ndjson", b"[1]\n[1, 2]\n", ShapeError, r"rows of shape \(1,\) as before; got \(2,\) at row 1"),
    ("ndjson", b"[1" + b"0" * 5_000_000, FormatError, "NDJSON line of at most 4194304 bytes"),
    ("ndjson", b"[" * 100_000 + b"\n", FormatError, "expected record 0 in JSON"),
    ("json", b"[[1], [1, 2]]", ShapeError, "lists of one length in x; got ragged ones"),
    ("json", b"[1, 2]", ShapeError, "expected x of shape .rows, features."),
    ("json", b"[]", EmptyShardError, "at least one row"),
    ("json", b'{"z": 1}', FormatError, "got \\['z'\\]"),
    ("json", b"[" + b"[]," * 300_000 + b"0]", FormatError, "at most 262144 brackets"),
    ("webdataset", tar({"0.pkl": PICKLE}), FormatError, "member '0.pkl' may hold a pickle, which is never loaded"),
    (
        "webdataset",
        tar({"0.png": picture(PIXELS[0]), "0.seg.pth": PICKLE}),
        FormatError,
        "member '0.seg.pth' may hold a",
    ),
    ("webdataset", tar({"0.json": b"{}"}), FormatError, "sample '0' has none of npy, png"),
    ("webdataset", tar({"0.npy": npy(X[0]), "0.cls": b"cat"}), LabelError, "member '0.cls' has 'cat': number"),
    ("webdataset", tar({"0.npy": npy(X[0]), "0.cls": b"1", "1.npy": npy(X[0])}), LabelError, "sample '1' differs"),
    ("webdataset", tar({"0.npy": npy(X[0]), "1.npy": npy(X[0, :2])}), ShapeError, r"got \(2,\) at row 1"),
    ("webdataset", tar({"0.npy": npy(np.array([None]))}), DtypeError, r"never loaded.*\(in member '0.npy'\)"),
    (
        "webdataset",
        tar({"0.png": picture(PIXELS[0]), "1.png": picture(PIXELS[1, :3])}),
        ShapeError,
        "RGB 7 x 6 as '0.png'; '1.png' has RGB 7 x 3",
    ),
    ("webdataset", tar({"0.png": b"GIF89a"}), FormatError, "expected a picture .*; '0.png' cannot be read"),
    ("webdataset", tar({"0.npy": npy(X[0])})[:700], FormatError, "within member '0.npy': it was cut off"),
    ("webdataset", tar({"0.npy": npy(X[0])})[:1024], FormatError, "ends with blocks of zeros; .*: it was cut off"),
    ("webdataset", b"\1" * 512, FormatError, "expected a tar header at byte 0"),
]


@pytest.mark.parametrize(("name", "body", "error", "message"), BAD)
def test_bad_files(name: str, body: bytes, error: type[AssessorError], message: str) -> None:
    for stream in (io.BytesIO(body), Dripping(body, [1000, 7, 70_000])):
        with pytest.raises(error, match=message) as caught:
            profile_shard(stream, format=name, batch_sizes=[3])
        assert str(caught.value).startswith("expected ")
        assert len(str(caught.value)) < 700


LIMITED: list[tuple[str, bytes, type[AssessorError], str]] = [
    ("npz", npz(x=ZEROS), FormatError, "an npz shard of at most 500 bytes.*raise max_spool_bytes"),
    (
        "npz",
        npz(compressed=True, x=np.zeros((400, 3))),
        FormatError,
        "at most 700 bytes when decompressed; it says 9728",
    ),
    ("parquet", parquet(table(RNG.normal(size=(99, 3)))), FormatError, "a Parquet shard of at most 500 bytes"),
    (
        "parquet",
        parquet(table(np.zeros((40, 1))), use_dictionary=False, write_statistics=False, store_schema=False),
        FormatError,
        "pages of at most 60 bytes",
    ),
    (
        "arrow",
        arrow(table(ZEROS), batch_rows=40, compression="zstd"),
        FormatError,
        "record batches of at most 60 bytes each",
    ),
    ("arrow", arrow(table(X)), ShapeError, "at most 3 values; got 4 columns"),
    ("arrow", arrow(table(X, lists="fixed")), ShapeError, "column 'x' has lists of 4 values"),
    ("csv", csv_text(WIDE), ShapeError, "at most 3 values; got 4 columns"),
    ("webdataset", tar({"0.png": picture(PIXELS[0])}), ShapeError, "'0.png' has 7 x 6 pixels of mode RGB: resize it"),
]


@pytest.mark.parametrize(("name", "body", "error", "message"), LIMITED)
def test_limits(name: str, body: bytes, error: type[AssessorError], message: str) -> None:
    with pytest.raises(error, match=message):
        profile_bytes(body, format=name, settings=SMALL)


def test_settings_out_of_range() -> None:
    with pytest.raises(SettingError, match="expected max_page_bytes to be an integer >= 1; got 0"):
        DecodeSettings(max_page_bytes=0)
    with pytest.raises(SettingError, match="expected columns to be a tuple of at least one name"):
        DecodeSettings(columns=())


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, body in (("pyarrow", arrow(table(X))), ("PIL", tar({"0.png": picture(PIXELS[0])}))):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, module, None)
            with pytest.raises(SettingError, match=r"pip install 'normgauge\[formats\]'"):
                profile_bytes(body)


def test_text_that_may_be_two_formats_is_not_guessed() -> None:
    with pytest.raises(FormatError, match="expected to tell JSON from NDJSON"):
        decoder_for(b'{"x": [[1, 2], [3, 4]]}')
    assert (decoder_for(b"[[1, 2]]"), decoder_for(b"[1, 2]\n")) == ("json", "ndjson")
    assert set(formats.names()) >= {name for _, name, *_ in BODIES}
