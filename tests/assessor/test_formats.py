"""Shard formats: rows as NumPy and the safetensors library read them; what is refused, and with which words."""

import io
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from assessor import (
    AssessorError,
    DtypeError,
    EmptyShardError,
    FormatError,
    LabelError,
    NonFiniteError,
    Profile,
    ShapeError,
    UnknownNameError,
    decoder_for,
    formats,
    profile_array,
    profile_shard,
)
from assessor.kernels import warm
from tests.assessor.shard_files import (
    Dripping,
    entry,
    npy,
    npy_header,
    npy_with,
    profile_bytes,
    tensors,
    tensors_with,
)

RNG = np.random.default_rng(41)
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]
JUNK = b"0123456789{}[](),:'\"L<>|fiuO \\\xff\x00"
Pieces = st.lists(st.integers(1, 300), min_size=1, max_size=8)


def data(dtype: str, shape: tuple[int, ...] = (17, 2, 3)) -> NDArray[Any]:
    return (RNG.integers(0, 2, shape) if dtype == "bool" else RNG.uniform(0, 100, shape)).astype(dtype)


def feed(name: str, body: bytes, sizes: list[int]) -> dict[str, NDArray[Any]]:
    """Decode a body given in pieces, each in a buffer that is overwritten afterwards."""
    decoder, at, turn = formats.get(name)(), 0, 0
    rows: dict[str, list[NDArray[Any]]] = {}
    while at < len(body):
        piece = bytearray(body[at : at + sizes[turn % len(sizes)]])
        for part in decoder.feed(memoryview(piece)):
            rows.setdefault(part.name, []).append(part.block.copy())
        at, turn = at + len(piece), turn + 1
        piece[:] = b"\xff" * len(piece)
    decoder.finish()
    return {name: np.concatenate(blocks) for name, blocks in rows.items()}


@pytest.mark.parametrize("dtype", [*DTYPES, ">f4", ">i2", ">f8"])
@settings(max_examples=15, deadline=None)
@given(sizes=Pieces)
def test_npy_in_any_pieces_is_what_numpy_loads(dtype: str, sizes: list[int]) -> None:
    body = npy(data(dtype))
    got = feed("npy", body, sizes)["x"]
    expected = np.load(io.BytesIO(body))
    assert_array_equal(got, expected)
    assert got.dtype.name == expected.dtype.name


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(version: tuple[int, int]) -> None:
    x = data("float32")
    for size in (1, 7, 12, 1000):
        assert_array_equal(feed("npy", npy(x, version), [size])["x"], x)


def test_npy_headers_that_other_programs_write() -> None:
    x = np.arange(6, dtype="<f4").reshape(2, 3)
    for header in (
        '{"shape": (2,3), "fortran_order": False, "descr": "<f4"}',
        "{'descr':'<f4','fortran_order':False,'shape':(2L, 3L),}\n",
        npy_header() + " " * 2000,
    ):
        assert_array_equal(feed("npy", npy_with(header, x.tobytes()), [50])["x"], x)
    column = np.asfortranarray(np.arange(4.0).reshape(4, 1))
    assert_array_equal(feed("npy", npy(column), [9])["x"], column)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=10, deadline=None)
@given(sizes=Pieces)
def test_safetensors_in_any_pieces_is_what_the_library_loads(dtype: str, sizes: list[int]) -> None:
    body = tensors(x=data(dtype), y=np.arange(17, dtype=np.int32))
    got, expected = feed("safetensors", body, sizes), safetensors.numpy.load(body)
    for name in ("x", "y"):
        assert_array_equal(got[name], expected[name])
        assert got[name].dtype == expected[name].dtype


def test_bfloat16_is_widened_exactly() -> None:
    x = RNG.normal(3, 2, size=(17, 6)).astype(np.float32)
    bits = (x.view(np.uint32) >> np.uint32(16)).astype("<u2")
    kept = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    body = tensors_with({"x": entry("BF16", [17, 6], 0, 204)}, bits.tobytes())
    ((name, tensor),) = safetensors.deserialize(body)  # type: ignore[no-untyped-call]  # the library has no types
    assert (name, tensor["dtype"], tensor["shape"]) == ("x", "BF16", [17, 6])
    for size in (1, 13, 1000):
        assert_array_equal(feed("safetensors", body, [size])["x"], kept)
    profile = profile_bytes(body)
    assert profile.dtype == "bfloat16"
    same = profile_array(kept, batch_sizes=[3])
    for field in ("means", "labels", "spans"):
        assert_array_equal(getattr(profile.rows, field), getattr(same.rows, field))
    assert_array_equal(profile.lanes[3].records, same.lanes[3].records)
    assert_array_equal(profile.moments.m2, same.moments.m2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("feature_axis", ["element", "channel"])
@settings(max_examples=8, deadline=None)
@given(sizes=Pieces)
def test_a_shard_is_profiled_as_its_array(dtype: str, feature_axis: str, sizes: list[int]) -> None:
    x, y = data(dtype), np.arange(17) % 3
    common: dict[str, Any] = {"batch_sizes": [2, 5], "first_row": 7, "feature_axis": feature_axis}
    plain = profile_array(x, **common).to_bytes()
    labelled = profile_array(x, labels=y, **common).to_bytes()
    assert profile_shard(Dripping(npy(x), sizes), **common).to_bytes() == plain
    assert profile_shard(Dripping(npy(x), sizes), labels=y, **common).to_bytes() == labelled
    both = Dripping(tensors(x=x, y=y), sizes)
    assert profile_shard(both, format="safetensors", **common).to_bytes() == labelled
    assert profile_shard(io.BytesIO(tensors(x=x)), **common).to_bytes() == plain


@pytest.mark.parametrize("write", [npy, lambda x: tensors(x=x)])
def test_x_of_rows_of_one_number_is_one_feature(write: Callable[[NDArray[Any]], bytes]) -> None:
    x = data("float32", (17,))
    profile = profile_bytes(write(x))
    assert profile.sample_shape == (1,)
    assert profile.to_bytes() == profile_bytes(write(x[:, None])).to_bytes()


def test_y_may_come_before_or_after_x() -> None:
    x, y = data("float32"), np.arange(17, dtype=np.int64)
    y_first = {"y": entry("I64", [17], 0, 136), "x": entry("F32", [17, 2, 3], 136, 544)}
    x_first = {"y": entry("I64", [17], 408, 544), "x": entry("F32", [17, 2, 3], 0, 408)}
    first = tensors_with(y_first, y.tobytes() + x.tobytes())
    last = tensors_with(x_first, x.tobytes() + y.tobytes())
    assert profile_bytes(first).to_bytes() == profile_bytes(last).to_bytes()
    assert profile_bytes(last).to_bytes() == profile_array(x, batch_sizes=[3], labels=y).to_bytes()


def test_the_shard_may_be_named() -> None:
    body = npy(data("float32"))
    assert profile_shard(stream_or_path=io.BytesIO(body), batch_sizes=[4]).n_rows == 17


def test_paths_and_progress(tmp_path: Path) -> None:
    x = data("float32")
    path = tmp_path / "x.npy"
    np.save(path, x)
    seen: list[int] = []
    expected = profile_array(x, batch_sizes=[4]).to_bytes()
    assert profile_shard(path, batch_sizes=[4], on_bytes=seen.append).to_bytes() == expected
    assert profile_shard(str(path), batch_sizes=[4]).to_bytes() == expected
    assert sum(seen) == path.stat().st_size
    with pytest.raises(FileNotFoundError):
        profile_shard(tmp_path / "none.npy", batch_sizes=[4])


def test_formats_are_recognized_by_their_first_bytes() -> None:
    assert decoder_for(npy(data("uint8"))[:9]) == "npy"
    assert decoder_for(tensors(x=data("uint8"))[:9]) == "safetensors"
    for other in (b"GIF89a...", b"", b"\x93NUM", b"{}", b"12345678"):
        with pytest.raises(FormatError, match=r"in a known format \(npy, safetensors, npz, .*\); its first"):
            decoder_for(other)
    with pytest.raises(UnknownNameError, match=r"expected a format among: npy, safetensors, .*; got 'xls'"):
        profile_bytes(npy(data("uint8")), format="xls")


# What is refused ----------------------------------------------------------------------------------------------------

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
Y = np.arange(4)
NPY, TENSORS = npy(X), tensors(x=X, y=Y)
STRUCTURED = np.zeros(3, "f4,i4")
GOOD = entry("F32", [2, 3], 0, 24)

BAD_NPY: list[tuple[bytes, type[AssessorError], str]] = [
    (b"", EmptyShardError, r"expected a shard; it has no bytes: leave it out"),
    (NPY + b"\0", FormatError, r"expected 96 bytes of data for shape \(4, 2, 3\), dtype float32; at least 97 came"),
    (NPY + NPY, FormatError, "send one array a shard"),
    (NPY[:-1], FormatError, r"expected 96 bytes .* got 95: the body was cut off, send it again"),
    (NPY[:128], FormatError, r"expected 96 bytes .* got 0: the body was cut off"),
    (NPY[:60], FormatError, "only 60 bytes of its header came: the body was cut off"),
    (npy(np.zeros((0, 3))), EmptyShardError, "expected at least one row; the shard has none"),
    (npy(np.zeros((3, 0))), EmptyShardError, r"expected at least one feature; got x of shape \(3, 0\)"),
    (npy(np.array([[1, None]])), DtypeError, "dtype object, which is stored as pickle and never loaded: convert"),
    (npy(np.zeros((2, 2), complex)), DtypeError, "got dtype complex128: convert the data first"),
    (npy(np.zeros((2, 2), "datetime64[s]")), DtypeError, r"got dtype '<M8\[s\]': convert the data first"),
    (npy(np.zeros((2, 2), "U3")), DtypeError, "got dtype '<U3'"),
    (npy(np.zeros((2, 2), "S3")), DtypeError, "got dtype '|S3'"),
    (npy(STRUCTURED), DtypeError, r"got dtype \[\('f0', '<f4'\), \('f1', '<i4'\)\]"),
    (npy(np.asfortranarray(X)), FormatError, r"got Fortran order: save numpy.ascontiguousarray\(array\)"),
    (npy(np.array(5.0)), ShapeError, "expected at least one axis in x; got a single number"),
    (npy(np.where(X == 3, np.nan, X)), NonFiniteError, r"row 0, element 3 is nan \(batch 0 of size 3\)"),
    (b"\x93NUMPX" + NPY[6:], FormatError, "expected a shard in a known format"),
    (b"\x93NUMPY\x09\x00" + NPY[8:], FormatError, "expected npy version 1, 2 or 3; got 9.0"),
    (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", FormatError, "header of at most 10000 bytes; got 4294967295"),
    (npy_with(npy_header().replace("(", "[").replace(")", "]")), FormatError, "expected a shape of integers >= 0"),
    (npy_with(npy_header(shape=(-1, 3))), FormatError, r"expected a shape of integers >= 0 .*; got \(-1, 3\)"),
    (npy_with(npy_header(shape=(True, 3))), FormatError, "expected a shape of integers >= 0"),
    (npy_with(npy_header(shape=(2.0, 3))), FormatError, "expected a shape of integers >= 0"),
    (npy_with(npy_header(fortran=1)), FormatError, "fortran_order True or False"),
    (npy_with(npy_header(descr="<f3")), FormatError, "expected a readable npy header; got dtype '<f3'"),
    (npy_with(npy_header(descr="<f16")), DtypeError, "at most 64 bits|readable npy header"),
    (npy_with(npy_header(descr=None)), DtypeError, "got dtype None"),
    (npy_with(npy_header(descr=())), DtypeError, r"got dtype \(\)"),
    (npy_with(npy_header(descr=("<f4", (2,)))), DtypeError, "got dtype"),
    (npy_with(npy_header(descr="(2,3)f4")), DtypeError, "got dtype"),
    (npy_with("{'descr': '<f4', 'shape': (2, 3)}"), FormatError, "header of descr, fortran_order and shape; got"),
    (npy_with("[1, 2]"), FormatError, "header of descr, fortran_order and shape"),
    (npy_with("{" * 500), FormatError, "expected a readable npy header"),
    (npy_with("-" * 9000 + "1"), FormatError, "expected a readable npy header"),
    (npy_with("{'a': '''b"), FormatError, "expected a readable npy header"),
    (npy_with("  {'a':\n 1"), FormatError, "expected a readable npy header"),
    (npy_with("\0" * 9), FormatError, "expected a readable npy header"),
    (npy_with("__import__('os').getpid()"), FormatError, "expected a readable npy header"),
    (npy_with(npy_header(shape=(10**30, 3))), ShapeError, "at most 32 axes of less than 2.63"),
    (npy_with(npy_header(shape=(1,) * 60)), ShapeError, "at most 32 axes of less than 2.63; got 60 axes"),
    (npy_with(npy_header(shape=(2, 2**40))), ShapeError, r"samples of at most 16777216 values; .* is the first axis"),
    (npy_with(npy_header(shape=(2**62, 3)), b"\0" * 12), FormatError, r"expected 55340232221128654848 bytes .* got 12"),
]


@pytest.mark.parametrize(("body", "error", "message"), BAD_NPY)
def test_bad_npy(body: bytes, error: type[AssessorError], message: str) -> None:
    for stream in (io.BytesIO(body), Dripping(body, [5])):
        with pytest.raises(error, match=message) as caught:
            profile_shard(stream, batch_sizes=[3])
        assert str(caught.value).startswith("expected ")
        assert len(str(caught.value)) < 600


BAD_TENSORS: list[tuple[bytes, type[AssessorError], str]] = [
    (TENSORS + b"\0", FormatError, r"expected 128 bytes of tensors; at least 129 came: send one safetensors file"),
    (TENSORS[:-1], FormatError, "expected 128 bytes of tensors; got 127: the body was cut off, send it again"),
    (TENSORS[:50], FormatError, "only 50 bytes of its header came: the body was cut off"),
    (tensors(x=np.zeros((0, 3)), y=Y[:0]), EmptyShardError, "expected at least one row; the shard has none"),
    (tensors(x=np.zeros((3, 0))), EmptyShardError, r"expected at least one feature; got x of shape \(3, 0\)"),
    (tensors(x=X, y=Y[:3]), LabelError, r"expected one label a row, 4 in all; got y of shape \(3,\)"),
    (tensors(x=X, y=Y[:, None]), LabelError, r"expected y of shape \(rows,\) and an integer dtype; got shape \(4, 1\)"),
    (tensors(x=X, y=Y.astype("f4")), LabelError, r"got shape \(4,\), dtype float32"),
    (tensors(y=Y), FormatError, r'expected a tensor "x" .* got tensors \[\'y\'\]: rename them'),
    (tensors(images=X), FormatError, r"got tensors \['images'\]: rename them"),
    (tensors(x=X, z=X), FormatError, r"got tensors \['x', 'z'\]: rename them"),
    (tensors_with({"x": entry("F8_E4M3", [2, 3], 0, 6)}, b"\0" * 6), DtypeError, "'x' has 'F8_E4M3'"),
    (tensors_with({"x": entry("C64", [2, 3], 0, 48)}, b"\0" * 48), DtypeError, "expected a dtype among BOOL, U8"),
    (tensors_with({}), FormatError, r"got tensors \[\]"),
    (tensors_with(b"{]"), FormatError, "expected a safetensors header in JSON"),
    (tensors_with(b'{"x"'), FormatError, "expected a safetensors header in JSON"),
    (tensors_with(b'{"x":' + b"[" * 100_000), FormatError, "expected a safetensors header in JSON"),
    (tensors_with(b'{"x": "\xff"}'), FormatError, "expected a safetensors header in JSON"),
    (tensors_with('{"x": 1}'.encode("utf-16-le")), FormatError, "expected a safetensors header in JSON"),
    (tensors_with(b'{"x": 1' + b"0" * 5000 + b"}"), FormatError, "expected a safetensors header in JSON"),
    (
        tensors_with(b'{"x":' + json.dumps(GOOD).encode() + b',"x":' + json.dumps(GOOD).encode() + b"}", b"\0" * 24),
        FormatError,
        "expected a safetensors header in JSON: 'x' comes twice",
    ),
    (
        tensors_with(b'{"x":{"dtype":"F32","shape":[2,3],"shape":[3,2],"data_offsets":[0,24]}}', b"\0" * 24),
        FormatError,
        "'shape' comes twice",
    ),
    ((2**63).to_bytes(8, "little") + b"{", FormatError, "header of at most 1048576 bytes that begins with '{'"),
    (
        tensors_with({"x": entry("F32", [2, 3], 8, 32)}, b"\0" * 32),
        FormatError,
        "at bytes 0 to 24; its data_offsets are 8",
    ),
    (tensors_with({"x": entry("F32", [2, 3], 0, 28)}, b"\0" * 28), FormatError, "its data_offsets are 0 to 28"),
    (tensors_with({"x": entry("F32", [2, 3], 24, 0)}, b"\0" * 24), FormatError, "its data_offsets are 24 to 0"),
    (
        tensors_with({"x": GOOD, "y": entry("I64", [2], 16, 32)}, b"\0" * 32),
        FormatError,
        r"tensor 'y' of shape \(2,\), dtype int64 at bytes 24 to 40; its data_offsets are 16 to 32",
    ),
    (tensors_with({"x": {**GOOD, "shape": [-2, 3]}}), FormatError, "expected integers >= 0 for tensor 'x'"),
    (tensors_with({"x": {**GOOD, "shape": [2.0, 3]}}), FormatError, "expected integers >= 0 for tensor 'x'"),
    (tensors_with({"x": {**GOOD, "shape": [True, 3]}}), FormatError, "expected integers >= 0 for tensor 'x'"),
    (tensors_with({"x": {**GOOD, "shape": "23"}}), FormatError, "expected dtype, shape and data_offsets"),
    (tensors_with({"x": {**GOOD, "shape": {"2": 3}}}), FormatError, "expected dtype, shape and data_offsets"),
    (tensors_with({"x": {**GOOD, "data_offsets": [0, 24, 48]}}), FormatError, "expected dtype, shape and data_offsets"),
    (tensors_with({"x": {**GOOD, "dtype": ["F32"]}}), DtypeError, "expected a dtype among"),
    (tensors_with({"x": [1, 2]}), FormatError, "expected dtype, shape and data_offsets"),
    (tensors_with({"x": None}), FormatError, "expected dtype, shape and data_offsets"),
    (tensors_with({"x": entry("U8", [2**62, 1], 0, 2**62)}, b"\0"), FormatError, "got 1: the body was cut off"),
    (tensors_with({"x": entry("U8", [1, 2**62], 0, 2**62)}, b"\0"), ShapeError, "samples of at most 16777216 values"),
    (tensors_with({"x": entry("U8", [1] * 99, 0, 1)}, b"\0"), ShapeError, "at most 32 axes"),
    (tensors(x=np.where(X == 20, np.inf, X)), NonFiniteError, r"row 3, element 2 is inf \(batch 1 of size 3\)"),
]


@pytest.mark.parametrize(("body", "error", "message"), BAD_TENSORS)
def test_bad_safetensors(body: bytes, error: type[AssessorError], message: str) -> None:
    for stream in (io.BytesIO(body), Dripping(body, [11])):
        with pytest.raises(error, match=message) as caught:
            profile_shard(stream, batch_sizes=[3])
        assert str(caught.value).startswith("expected ")
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("whole", [NPY, TENSORS])
def test_truncated_anywhere(whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises((FormatError, EmptyShardError)):
            profile_bytes(whole[:length])


def test_labels_given_twice() -> None:
    with pytest.raises(LabelError, match="the shard has its own y: leave labels out"):
        profile_bytes(TENSORS, labels=Y)
    with pytest.raises(LabelError, match="expected one label a row, 4 in all; got 3"):
        profile_bytes(NPY, labels=Y[:3])


class Bomb:
    """An object whose unpickling writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    array = np.empty((2, 1), object)
    array[:] = Bomb(str(proof))
    body = npy(array)
    as_floats = npy_with(npy_header("<f8", shape=(2, len(pickle.dumps(Bomb(str(proof)))))))
    for bad in (body, body.replace(b"|O", b"O8"), pickle.dumps(array), as_floats + pickle.dumps(array)):
        with pytest.raises((DtypeError, FormatError)):
            profile_bytes(bad)
        with pytest.raises(FormatError):
            Profile.from_bytes(bad)
    assert not proof.exists()
    with pytest.warns(ResourceWarning):  # the file that the pickle opens
        np.load(io.BytesIO(body), allow_pickle=True)
    assert proof.exists(), "the pickle is live: only not loading it kept it from running"


BIG_CLAIMS = [
    npy_with(npy_header("<f8", shape=(2**40, 2**20))),
    npy_with(npy_header("<f8", shape=(1, 2**24))),
    npy_with(npy_header("|u1", shape=(2**50, 2**24))),
    npy_with("{" + "1," * 4990 + "}"),
    b"\x93NUMPY\x03\x00" + (2**32 - 1).to_bytes(4, "little"),
    tensors_with({"x": entry("F64", [2**30, 2**24], 0, 2**57)}),
    tensors_with(b'{"x":[' + b"[]," * 300_000 + b"0]}"),
    (2**40).to_bytes(8, "little") + b"{",
]


@pytest.mark.parametrize("body", BIG_CLAIMS)
def test_no_memory_is_given_on_a_claim(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(AssessorError):
            profile_bytes(body + b"\0" * 100)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_a_long_shard_is_read_in_bounded_memory() -> None:
    n, features = 6000, 1500  # 36 MB
    header = npy_with(npy_header("<f4", shape=(n, features)))
    row_bytes = np.arange(features, dtype="<f4").tobytes()

    class Endless(io.BytesIO):
        sent = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            total = len(header) + n * len(row_bytes)
            start, self.sent = self.sent, min(self.sent + size, total)
            if start == 0:
                return (header + row_bytes * (size // len(row_bytes) + 1))[:size]
            shift = (start - len(header)) % len(row_bytes)
            return (row_bytes * (size // len(row_bytes) + 2))[shift : shift + self.sent - start]

    warm()  # the compiler's own memory is not the shard's
    tracemalloc.start()
    try:
        profile = profile_shard(Endless(), batch_sizes=[32], calibration_rows=64)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert profile.n_rows == n
    assert_array_equal(profile.moments.mean, np.arange(features))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_refused_or_read_but_nothing_else_happens(seed: int) -> None:
    random = Random(seed)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    wholes = [npy(x), npy(x.astype(np.uint8), (2, 0)), tensors(x=x, y=Y), tensors(x=x.astype(np.float16))]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1000):
        body = bytearray(random.choice(wholes))
        for _ in range(random.choice([1, 1, 2, 4])):
            at, kind = random.randrange(len(body)), random.random()
            if kind < 0.5:
                body[at] = random.randrange(256)
            elif kind < 0.65:
                body[at : at + random.randrange(1, 9)] = b""
            elif kind < 0.8:
                body[at:at] = bytes(random.choices(JUNK, k=random.randrange(1, 6)))
            elif kind < 0.9:
                other = random.choice(wholes)
                start = random.randrange(len(other))
                body[at : at + 8] = other[start : start + 8]
            else:
                body = body[: at + 1]
        try:
            profile_bytes(bytes(body), format=random.choice([None, None, "npy", "safetensors"]))
            outcomes["read"] += 1
        except AssessorError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 400
    assert outcomes["read"] > 50
