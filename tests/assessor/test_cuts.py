"""Where pieces best end: each shard read so is cut between batches, and nothing else changes."""

import io
from collections.abc import Iterator
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from numpy.typing import NDArray

from assessor import Profiler, profile_array, profile_shard
from assessor.cuts import best_cuts, piece_bytes
from assessor.formats.decoder import formats
from assessor.moments import dyadic_blocks
from assessor.sources.blocks import cut
from assessor.sources.extents import Extent, Tensor
from assessor.sources.stores import Source
from assessor.sources.uris import SourceUri

X = np.random.default_rng(41).normal(size=(500, 6)).astype(np.float32)


def shard(kind: str, x: NDArray[np.float32]) -> bytes:
    if kind == "safetensors":
        return safetensors.numpy.save({"x": x, "y": np.zeros(len(x), np.int64)})
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


@given(st.integers(-500, 500), st.integers(1, 300), st.integers(1, 400))
def test_a_piece_ends_with_the_last_cut_in_it(first: int, stride: int, most: int) -> None:
    cuts = [at for at in range(1, most + 1) if (at - first) % stride == 0]
    assert piece_bytes((first, stride), most) == (cuts[-1] if stride <= most else most)


def test_a_piece_without_cuts_is_as_large_as_it_may_be() -> None:
    assert piece_bytes(None, 77) == 77


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@given(st.integers(0, 100), st.lists(st.integers(1, 40), min_size=1, max_size=2), st.integers(1, 3000))
def test_pieces_that_end_with_cuts_leave_no_row_waiting(
    kind: str, first_row: int, batch_sizes: list[int], first_piece: int
) -> None:
    body, at = shard(kind, X), 0
    decoder = formats.get(kind)()
    profiler = Profiler(batch_sizes=batch_sizes, first_row=first_row)
    size, aligned, largest = first_piece, 0, max(batch_sizes)
    while at < len(body):
        for part in decoder.feed(body[at : at + size]):
            if part.name == "x":
                profiler.add(part.block)
            else:
                profiler.add_labels(part.block)
        cuts = best_cuts(decoder, profiler)
        at += size
        if at < len(body) and cuts is not None and cuts[0] == 0:
            aligned += 1
            assert (first_row + profiler.rows) % largest == 0
        size = piece_bytes(cuts, 4000)
    list(decoder.finish())
    labels = np.zeros(500, np.int64) if kind == "safetensors" else None
    expected = profile_array(X, batch_sizes=batch_sizes, first_row=first_row, labels=labels)
    assert profiler.finish().to_bytes() == expected.to_bytes()
    assert aligned or kind == "safetensors" or first_piece > 2000


@pytest.mark.parametrize("read_bytes", [100, 1000, 1 << 20])
def test_a_shard_is_read_in_such_pieces(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.shards.READ_BYTES", read_bytes)
    sizes: list[int] = []
    profile = profile_shard(io.BytesIO(shard("npy", X)), batch_sizes=[32], first_row=5, on_bytes=sizes.append)
    assert profile.to_bytes() == profile_array(X, batch_sizes=[32], first_row=5).to_bytes()
    if read_bytes == 1000:
        ends = np.cumsum(sizes)[1:-1] - 128
        assert len(ends) > 10
        assert ((ends // 24 + 5) % 32 == 0).all()
        assert (ends % 24 == 0).all()


def extent(rows: int) -> Extent:
    source = Source(SourceUri.parse("s3://data/x"), rows * 4000, None)
    return Extent(source, "npy", rows, (Tensor("x", 128, (rows, 1000), "<f4", "float32"),))


def edges(rows: int, block_rows: int, first_row: int, batch_size: int) -> Iterator[int]:
    blocks = cut(extent(rows), block_rows * 4000, first_row=first_row, batch_size=batch_size)
    assert [block.first for block in blocks] == [0, *(block.first + block.rows for block in blocks[:-1])]
    assert all(block.whole == (len(blocks) == 1) for block in blocks)
    yield 0
    yield from (block.first + block.rows for block in blocks)


@given(st.integers(1, 3000), st.integers(1, 700), st.integers(0, 10**6), st.integers(1, 64))
def test_blocks_are_about_as_long_as_asked_for_and_end_with_a_batch(
    rows: int, block_rows: int, first_row: int, batch_size: int
) -> None:
    places = list(edges(rows, block_rows, first_row, batch_size))
    assert places[-1] == rows
    sizes = [stop - start for start, stop in pairwise(places)]
    assert min(sizes) > 0
    assert len(sizes) == max(1, round(rows / block_rows))
    strides = [batch_size << k for k in range(10) if k == 0 or 8 * (batch_size << k) <= block_rows]
    assert max(abs(size - rows / len(sizes)) for size in sizes) <= strides[-1] + 1
    if block_rows >= 2 * batch_size:
        assert all((first_row + place) % strides[-1] == 0 for place in places[1:-1])


def test_blocks_end_with_a_power_of_two_of_batches_where_they_have_many() -> None:
    assert list(edges(1000, 260, 0, 32)) == [0, 256, 512, 736, 1000]  # multiples of 32
    assert list(edges(10_000, 2600, 0, 32)) == [0, 2560, 5120, 7424, 10_000]  # multiples of 256
    assert list(edges(10_000, 2600, 100, 32)) == [0, 2460, 5020, 7580, 10_000]  # of which the dataset's rows count


def test_a_row_more_than_two_blocks_is_no_third_one() -> None:
    assert list(edges(21_845, 10_922, 0, 32)) == [0, 11_264, 21_845]


@pytest.mark.parametrize("batch_size", [5, 32])
@pytest.mark.parametrize("first_row", [0, 21_845])
def test_profiles_of_blocks_have_few_nodes(batch_size: int, first_row: int) -> None:
    """Fewer than of blocks that end with any batch, by what the cutting is for."""

    def nodes(places: list[int]) -> int:
        spans = [(-(-(first_row + a) // batch_size), (first_row + b) // batch_size) for a, b in pairwise(places)]
        return sum(len(list(dyadic_blocks(*span))) for span in spans)

    rows, block_rows = 87_381, 10_922
    any_batch = [at - (first_row + at) % batch_size for at in (rows * k // 8 for k in range(1, 8))]
    assert nodes(list(edges(rows, block_rows, first_row, batch_size))) <= 0.7 * nodes([0, *any_batch, rows])
