"""Content-Encoding: what comes out is what went in, however it was cut; what grows without end is bounded."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.encodings import ENCODINGS, PIECE_BYTES, ContentDecoder, encoding_of
from app.problems import ProblemError
from clients.compression import zstd

pytestmark = pytest.mark.databases

FRAMES = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: zstd.compress(data, 1),
}
LIMIT = 1 << 24


def decode(encoding: str, pieces: Sequence[bytes], *, most: int = LIMIT) -> bytes:
    decoder = ContentDecoder(encoding, max_decoded_bytes=most)
    decoded = []
    for piece in pieces:
        decoder.feed(piece)
        while out := decoder.take():
            assert len(out) <= PIECE_BYTES
            decoded.append(out)
    decoder.finish()
    return b"".join(decoded)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def refused(encoding: str, pieces: Sequence[bytes], code: str, words: str, *, most: int = LIMIT) -> None:
    with pytest.raises(ProblemError, match=words) as caught:
        decode(encoding, pieces, most=most)
    assert caught.value.code == code


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 200))
def test_any_frames_in_any_cut(encoding: str, parts: list[bytes], size: int) -> None:
    body = b"".join(FRAMES[encoding](part) for part in parts)
    assert decode(encoding, cut(body, size)) == b"".join(parts)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pieces_are_bounded_and_complete(encoding: str) -> None:
    data = bytes(range(256)) * (5 * PIECE_BYTES // 256) + b"end"
    assert decode(encoding, [FRAMES[encoding](data)]) == data


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("cut_bytes", [1, 4, 8])
def test_cut_off(encoding: str, cut_bytes: int) -> None:
    body = FRAMES[encoding](b"some rows" * 100)
    refused(encoding, [body[:-cut_bytes]], "malformed-encoding", f"the end of the {encoding} stream.*cut off")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("garbage", [b"\0", b"garbage", b"\x1f", b"\x28\xb5"])
def test_something_after_the_end(encoding: str, garbage: bytes) -> None:
    refused(encoding, [FRAMES[encoding](b"rows") + garbage], "malformed-encoding", "expected")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_damaged(encoding: str) -> None:
    body = bytearray(FRAMES[encoding](bytes(1000) + b"rows"))
    body[0] ^= 0xFF
    refused(encoding, [bytes(body)], "malformed-encoding", f"Content-Encoding {encoding}")


def test_damaged_checksum() -> None:
    body = bytearray(gzip.compress(b"rows"))
    body[-5] ^= 1
    refused("gzip", [bytes(body)], "malformed-encoding", "incorrect length check|incorrect data check")


@pytest.fixture(scope="module")
def alone() -> Iterator[Executor]:
    """A process in which nothing else runs; in this one servers of other tests do, whose memory would be counted."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


def peak_of_a_bomb(encoding: str) -> int:
    bomb, most = FRAMES[encoding](bytes(64 << 20)), PIECE_BYTES  # 64 MB of zeros in some KB
    tracemalloc.start()
    try:
        refused(encoding, [bomb], "decoded-too-large", f"at most {most} bytes.*MAX_DECODED_BYTES", most=most)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_cut_off_and_costs_no_memory(encoding: str, alone: Executor) -> None:
    assert alone.submit(peak_of_a_bomb, encoding).result() < 4 * PIECE_BYTES


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_as_long_as_it_may_be(encoding: str) -> None:
    body = FRAMES[encoding](bytes(3000))
    assert decode(encoding, [body], most=3000) == bytes(3000)
    refused(encoding, [body], "decoded-too-large", "at most 2999 bytes", most=2999)


def test_zstd_window_is_capped() -> None:
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.window_log: 24, parameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    body = compressor.compress(b"rows" * 1000) + compressor.flush()
    refused("zstd", [body], "malformed-encoding", "Content-Encoding zstd")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_many_empty_members_are_refused(encoding: str) -> None:
    body = FRAMES[encoding](b"") * 3000
    refused(encoding, [body], "malformed-encoding", "members of at least")
    assert decode(encoding, [FRAMES[encoding](b"x" * 2000) * 3000]) == b"x" * 2000 * 3000


@given(st.sampled_from(ENCODINGS), st.binary(max_size=200))
def test_random_bytes_are_refused(encoding: str, body: bytes) -> None:
    refused(encoding, [b"\1" + body], "malformed-encoding", "expected ")


@pytest.mark.parametrize(
    ("fields", "encoding"),
    [
        ([], None),
        (["identity"], None),
        (["", " "], None),
        (["x-gzip"], "gzip"),
        (["ZSTD"], "zstd"),
        (["identity, gzip"], "gzip"),
    ],
)
def test_encoding_of(fields: list[str], encoding: str | None) -> None:
    assert encoding_of(fields) == encoding


@pytest.mark.parametrize("fields", [["br"], ["gzip, zstd"], ["gzip", "gzip"], ["deflate"], ["zstd;q=1"]])
def test_unknown_or_stacked(fields: list[str]) -> None:
    with pytest.raises(ProblemError, match="expected Content-Encoding zstd, gzip or identity, one at most") as caught:
        encoding_of(fields)
    assert caught.value.code == "unsupported-encoding"
    assert caught.value.headers == {"Accept-Encoding": "zstd, gzip, identity"}


def test_raw_deflate_is_no_gzip() -> None:
    refused("gzip", [zlib.compress(b"rows")], "malformed-encoding", "incorrect header check")


def peak_of_short_members() -> float:
    """Return the most memory that a body of short members takes, as a part of its size."""
    member = gzip.compress(bytes(1100))
    body = member * (1 << 14)
    decoder = ContentDecoder("gzip", max_decoded_bytes=LIMIT * 2)
    decoder.feed(body)
    tracemalloc.start()
    while decoder.take():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoder.decoded_bytes == 1100 << 14
    return peak / len(body)


def test_short_members_cost_no_copies_of_the_rest(alone: Executor) -> None:
    # A copy of all that follows, for each member, made a body of a few megabytes cost minutes.
    assert alone.submit(peak_of_short_members).result() < 1 / 4
