"""Shard bodies: whole files to their readers, and no copy of the array in memory."""

import base64
import gzip
import hashlib
import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from blake3 import blake3
from xxhash import xxh3_128

from assessor import DtypeError, LabelError, NonFiniteError, SettingError, ShapeError
from clients.bodies import NPY, SAFETENSORS, UNNAMED, shard_body
from clients.compression import Sending, zstd
from clients.wire import sending_to

DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def whole(body: Any) -> bytes:
    content = b"".join(body)
    assert body.size_bytes is None or len(content) == body.size_bytes
    if body.repeatable:
        assert b"".join(body) == content
    return content


def strided(x: Any) -> list[Any]:
    wide = np.zeros((2 * len(x), *x.shape[1:], 2), x.dtype)
    wide[::2, ..., 0] = x
    return [x, np.asfortranarray(x), wide[::2, ..., 0], x.astype(x.dtype.newbyteorder(">"))]


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy(dtype: str) -> None:
    x = (np.arange(7 * 3 * 2) % 100).reshape(7, 3, 2).astype(dtype)
    for array in strided(x):
        body = shard_body(array)
        assert body.media_type == NPY
        read = np.load(io.BytesIO(whole(body)), allow_pickle=False)
        assert read.dtype == x.dtype
        np.testing.assert_array_equal(read, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_safetensors_with_labels(dtype: str) -> None:
    x = (np.arange(7 * 3) % 100).reshape(7, 3).astype(dtype)
    y = np.arange(7, dtype=np.int32)
    for array in strided(x):
        body = shard_body(array, y)
        assert body.media_type == SAFETENSORS
        read = safetensors.numpy.load(whole(body))
        np.testing.assert_array_equal(read["x"], x)
        assert read["x"].dtype == x.dtype
        np.testing.assert_array_equal(read["y"], y)


def test_torch_tensors_of_every_kind() -> None:
    x = torch.randn(5, 3)
    np.testing.assert_array_equal(np.load(io.BytesIO(whole(shard_body(x)))), x.numpy())
    read = safetensors.torch.load(whole(shard_body(x.bfloat16(), torch.arange(5))))
    assert torch.equal(read["x"], x.bfloat16())
    assert torch.equal(read["y"], torch.arange(5))
    alone = safetensors.torch.load(whole(shard_body(x.bfloat16().requires_grad_())))
    assert torch.equal(alone["x"], x.bfloat16())


def test_empty_and_flat_arrays() -> None:
    assert np.load(io.BytesIO(whole(shard_body(np.zeros((0, 3)))))).shape == (0, 3)
    assert np.load(io.BytesIO(whole(shard_body(np.arange(4))))).shape == (4,)


def test_rows_larger_than_a_piece() -> None:
    x = np.random.default_rng(0).normal(size=(3, 400_000))
    body = shard_body(x)
    assert max(map(len, body)) <= 2**20
    np.testing.assert_array_equal(np.load(io.BytesIO(whole(body))), x)


def test_files(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(500, 600)), np.arange(500)
    np.save(tmp_path / "x.npy", x)
    safetensors.numpy.save_file({"x": x, "y": y}, tmp_path / "x.safetensors")
    for name, kind in (("x.npy", NPY), ("x.safetensors", SAFETENSORS)):
        body = shard_body(tmp_path / name)
        assert body.media_type == kind
        assert whole(body) == (tmp_path / name).read_bytes()
    labelled = safetensors.numpy.load(whole(shard_body(str(tmp_path / "x.npy"), y)))
    np.testing.assert_array_equal(labelled["x"], x)


def test_bytes_and_iterables() -> None:
    assert whole(shard_body(b"abc")) == b"abc"
    assert whole(shard_body(bytearray(b"abc"))) == b"abc"
    assert whole(shard_body([b"a", b"bc"])) == b"abc"
    once = shard_body(iter([b"a", b"bc"]))
    assert (once.media_type, once.size_bytes, once.repeatable) == (UNNAMED, None, False)
    assert b"".join(once) == b"abc"


@pytest.mark.parametrize(
    ("data", "labels", "error", "message"),
    [
        (np.array(["a"]), None, DtypeError, "expected uint8, .* or bfloat16; got <U1"),
        (np.zeros((2, 2), complex), None, DtypeError, "complex128"),
        (np.array([{}]), None, DtypeError, "object"),
        (np.float32(1), None, ShapeError, "expected rows along the first axis"),
        (np.zeros((2, 2)), [1], LabelError, r"expected 2 integer labels, one a row; got shape \(1,\)"),
        (np.zeros((2, 2)), [1.5, 2], LabelError, "dtype float64"),
        (b"abc", [1], LabelError, "bytes hold their own"),
        ("x.csv", None, SettingError, "ending in .npy or .safetensors; got 'x.csv'"),
        ("x.safetensors", [1], LabelError, "as tensor y"),
        (5, None, SettingError, "expected an array, the path .* got int"),
        ({"x": b"abc"}, None, SettingError, "an iterable of bytes; got dict"),
        (np.ma.masked_greater(np.arange(4.0).reshape(2, 2), 2), None, NonFiniteError, "the array has masked ones"),
    ],
)
def test_what_is_no_shard(data: Any, labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shard_body(data, labels)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_no_second_copy_of_the_array(labelled: bool, order: Any) -> None:
    x = np.zeros((4000, 2000), np.float32, order=order)  # 32 MB
    y = np.zeros(4000, np.int64) if labelled else None
    tracemalloc.start()
    try:
        sent = sum(len(piece) for piece in shard_body(x, y))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent > x.nbytes
    assert peak < 4 * 2**20


@pytest.mark.parametrize(("encoding", "decompress"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
def test_compressed(encoding: str, decompress: Any) -> None:
    x = np.arange(3_000_000).reshape(-1, 10)
    plain = shard_body(x)
    seen: list[tuple[int, int | None]] = []
    body = replace(plain, sending=Sending(encoding), progress=lambda *sent: seen.append(sent))
    sent = b"".join(body)
    assert len(sent) < x.nbytes / 2
    assert decompress(sent) == b"".join(plain)
    assert b"".join(body) == sent
    content = b"".join(plain)
    for kind, digits in (("xxh3-128", xxh3_128(content).hexdigest()), ("blake3", blake3(content).hexdigest())):
        assert body.has_digest(f"{kind}:{digits}")
        assert not body.has_digest(f"{kind}:{digits[::-1]}")
        assert not body.has_digest(f"new-{kind}:{digits}")
    assert seen[-1] == (plain.size_bytes, plain.size_bytes)
    digest = base64.b64encode(hashlib.sha256(sent).digest()).decode()
    assert body.headers == {
        "Content-Type": "application/x-npy",
        "Content-Encoding": encoding,
        "Content-Digest": f"sha-256=:{digest}:",
    }


def test_headers_of_what_can_be_read_once() -> None:
    body = replace(shard_body(iter([b"ab"])), sending=Sending())
    assert body.headers == {"Content-Type": "application/octet-stream"}
    assert b"".join(body) == b"ab"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (np.zeros((1000, 100), np.float32), "zstd"),
        (np.random.default_rng(0).integers(0, 4, (1000, 100)), "zstd"),
        (np.random.default_rng(0).normal(size=(1000, 100)).astype(np.float32), None),
        (np.random.default_rng(0).integers(0, 256, (1000, 100)).astype(np.uint8), None),
        (b"", None),
        (iter([bytes(10**6)]), None),  # looking at it would use it up
    ],
)
def test_compressed_where_it_pays(data: Any, encoding: str | None) -> None:
    before = b"" if isinstance(data, Iterator) else b"".join(shard_body(data))
    body = shard_body(data).sent_as(Sending("auto"))
    assert body.headers.get("Content-Encoding") == encoding
    assert b"".join(body.open()) == (before or bytes(10**6 if isinstance(data, Iterator) else 0))


@pytest.mark.parametrize(
    ("url", "compress"),
    [
        ("http://127.0.0.1:8000", None),
        ("http://localhost", None),
        ("http://[::1]:80", None),
        ("http://far.test", "auto"),
    ],
)
def test_nothing_pays_on_this_machine(url: str, compress: str | None) -> None:
    assert sending_to(url, "auto", True) == Sending(compress)
    assert sending_to(url, "zstd", False) == Sending("zstd", False)


def test_unknown_compression() -> None:
    with pytest.raises(SettingError, match="expected compress among zstd, gzip, auto or None; got 'br'"):
        Sending("br")
