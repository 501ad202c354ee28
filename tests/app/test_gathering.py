"""Bodies on their way from packets to pieces: nothing is lost, nothing comes twice, memory is bounded."""

import asyncio
import tracemalloc
from contextlib import ExitStack
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import gathering
from app.gathering import LATENCY_S, UNREAD_BYTES, Gatherer
from app.pieces import SMALLEST_BYTES, PiecePool
from app.problems import ProblemError

PACKETS = st.lists(st.integers(1, 3 * SMALLEST_BYTES), max_size=12)


def pool(*, total: int = 4 * SMALLEST_BYTES, most: int = 2) -> PiecePool:
    return PiecePool(max_uploads=most, total_bytes=total, largest_bytes=2 * SMALLEST_BYTES)


def pattern(size: int, start: int) -> bytes:
    """Return bytes that tell their place."""
    return bytes((start + k) * 7 % 251 for k in range(251)) * (size // 251 + 1)


async def through(packets: list[bytes], give_back: bool) -> tuple[bytes, list[int]]:
    """Return what a consumer got of packets that a producer added, and the sizes of the pieces."""
    pieces, woken = pool(), asyncio.Event()
    gatherer = Gatherer(pieces, asyncio.get_running_loop(), woken.set)
    resumed = asyncio.Event()
    got, sizes = bytearray(), []

    async def produce() -> None:
        for packet in packets:
            gatherer.add(packet)
            while gatherer.full:
                resumed.clear()
                await resumed.wait()
            await asyncio.sleep(0)
        gatherer.end()

    producer = asyncio.create_task(produce())
    more = True
    while more:
        woken.clear()
        gatherer.want()
        if not gatherer.full:
            resumed.set()
        await woken.wait()
        piece, more = gatherer.take()
        got += piece
        sizes.append(len(piece))
        if give_back:
            pieces.give_back(piece)
    await producer
    return bytes(got), sizes


@given(PACKETS, st.booleans())
def test_all_comes_in_order(sizes: list[int], give_back: bool) -> None:
    packets = [pattern(size, k)[:size] for k, size in enumerate(sizes)]
    got, pieces = asyncio.run(through(packets, give_back))
    assert got == b"".join(packets)
    # A piece is no larger than a buffer, or than what is taken without one.
    assert max(pieces, default=0) <= max(2 * SMALLEST_BYTES, UNREAD_BYTES + 3 * SMALLEST_BYTES)


def test_one_piece_is_worked_on_while_one_fills_and_both_are_used_again() -> None:
    packet = bytes(3 * SMALLEST_BYTES + 4096)  # ends in mid-buffer: what is left over waits without a third one

    async def run() -> tuple[list[int], int]:
        pieces = pool()
        gatherer = Gatherer(pieces, asyncio.get_running_loop(), lambda: None)
        sizes: list[int] = []
        working: bytes | memoryview = b""
        gatherer.want()
        for _ in range(20):
            while not gatherer.full:
                gatherer.add(packet)
            piece, _ = gatherer.take()
            sizes.append(len(piece))
            pieces.give_back(working)
            working = piece
            gatherer.want()
        gatherer.close()
        return sizes, pieces.held_bytes

    sizes, held = asyncio.run(run())
    assert set(sizes) == {2 * SMALLEST_BYTES}
    assert held == 2 * max(sizes)


@given(PACKETS, st.integers(0, 10**6), st.integers(1, 5 * SMALLEST_BYTES), st.integers(0, 3))
def test_pieces_end_with_cuts_once_these_are_known(sizes: list[int], first: int, stride: int, known: int) -> None:
    body = b"".join(pattern(size, k)[:size] for k, size in enumerate(sizes))

    async def run() -> list[bytes]:
        pieces = pool()
        gatherer = Gatherer(pieces, asyncio.get_running_loop(), lambda: None)
        got, left = [], memoryview(body)
        while left:
            gatherer.want()
            while left and not gatherer.full:  # as from a socket, straight into the room
                room = gatherer.room(len(left))
                n = min(len(room), 40_000, len(left))
                room[:n] = left[:n]
                gatherer.came(n)
                left = left[n:]
            piece, _ = gatherer.take()
            got.append(bytes(piece))
            pieces.give_back(piece)
            if len(got) == known + 1:
                gatherer.cut((first, stride))
        gatherer.close()
        return got

    got = asyncio.run(run())
    assert b"".join(got) == body
    at = sum(map(len, got[: known + 1]))
    for piece in got[known + 1 : -1]:
        assert len(piece) <= 2 * SMALLEST_BYTES
        cuts = [k for k in range(at + 2 * SMALLEST_BYTES, at, -1) if (k - first) % stride == 0]
        at += len(piece)
        assert at == cuts[0] if stride <= 2 * SMALLEST_BYTES else len(piece) == 2 * SMALLEST_BYTES


def test_few_bytes_wait_a_moment_for_others_only() -> None:
    async def run() -> None:
        woken = asyncio.Event()
        gatherer = Gatherer(pool(), asyncio.get_running_loop(), woken.set)
        gatherer.want()
        gatherer.add(b"ab")
        assert not woken.is_set()
        await asyncio.wait_for(woken.wait(), 60)
        assert gatherer.take() == (b"ab", True)
        gatherer.end()
        assert gatherer.take() == (b"", False)

    asyncio.run(run())


def test_nothing_is_gathered_for_an_application_that_does_not_ask() -> None:
    async def run() -> None:
        gatherer = Gatherer(pool(), asyncio.get_running_loop(), lambda: None)
        full = []
        for packet in (bytes(UNREAD_BYTES), b"x"):
            gatherer.add(packet)
            full.append(gatherer.full)
        assert full == [False, True]
        gatherer.close()

    asyncio.run(run())


def test_after_the_end_there_is_only_waiting() -> None:
    """An application that listens for the client's going asks on; it is not woken for nothing."""

    async def run() -> None:
        woken = asyncio.Event()
        gatherer = Gatherer(pool(), asyncio.get_running_loop(), woken.set)
        gatherer.end()
        woken.clear()
        gatherer.want()
        assert woken.is_set()
        assert gatherer.take() == (b"", False)
        woken.clear()
        gatherer.want()
        await asyncio.sleep(2 * LATENCY_S)
        assert not woken.is_set()

    asyncio.run(run())


def test_a_body_in_tiny_chunks_holds_little_more_than_its_bytes() -> None:
    body = pattern(UNREAD_BYTES, 5)[:UNREAD_BYTES]

    async def run() -> int:
        gatherer = Gatherer(pool(), asyncio.get_running_loop(), lambda: None)
        tracemalloc.start()
        for start in range(0, len(body), 2):
            gatherer.add(body[start : start + 2])
        # of this body only: a server that another test runs in a thread takes memory too
        files = [tracemalloc.Filter(True, name) for name in (gathering.__file__, __file__)]
        held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(files).traces)
        tracemalloc.stop()
        gatherer.want()
        gatherer.end()
        assert gatherer.take() == (body, False)
        return held

    assert asyncio.run(run()) < 1.5 * len(body)


def test_buffers_shrink_with_uploads_and_are_used_again() -> None:
    pieces = pool()
    with pieces.upload():
        buffer = pieces.take()
        assert len(buffer) == 2 * SMALLEST_BYTES
        pieces.give_back(memoryview(buffer))
        assert pieces.take() is buffer
        with pieces.upload():
            assert len(pieces.take()) == SMALLEST_BYTES
            pieces.give_back(memoryview(buffer))  # of another size now: dropped
            assert len(pieces.take()) == SMALLEST_BYTES
            third = pieces.upload()
            with pytest.raises(ProblemError, match="at most 2 shards to come in at once"):
                third.__enter__()
    assert pieces.uploads == 0


def test_buffers_of_all_uploads_keep_to_their_sum_while_more_begin() -> None:
    total = 64 * SMALLEST_BYTES
    pieces = PiecePool(max_uploads=8, total_bytes=total, largest_bytes=total)
    held: list[bytearray] = []
    with ExitStack() as uploads:
        for _ in range(8):
            uploads.enter_context(pieces.upload())
            held += [pieces.take(), pieces.take()]
            beyond = sum(len(buffer) for buffer in held if len(buffer) == SMALLEST_BYTES)
            assert pieces.held_bytes == sum(map(len, held)) <= total + beyond
        # Those that were large go, and the next ones have the size of eight.
        while held:
            pieces.give_back(memoryview(held.pop()))
        held = [pieces.take() for _ in range(16)]
        assert [len(buffer) for buffer in held] == [total // 16] * 16
        assert pieces.held_bytes == total


def test_a_buffer_that_no_one_gives_back_is_not_counted_for_ever() -> None:
    pieces = pool()
    buffer = pieces.take()
    assert pieces.held_bytes == len(buffer) == 2 * SMALLEST_BYTES
    thread = Thread(target=[buffer].clear)
    del buffer
    thread.start()
    thread.join()
    del thread
    assert pieces.held_bytes == 0


def test_a_third_buffer_while_processors_are_left() -> None:
    pieces = PiecePool(max_uploads=9, total_bytes=12 << 20, largest_bytes=4 << 20, processors=3)
    found = []
    with ExitStack() as uploads:
        for _ in range(4):
            uploads.enter_context(pieces.upload())
            found.append((pieces.buffers_an_upload, pieces.size_bytes >> 20))
    assert found == [(3, 4), (3, 2), (2, 2), (2, 1)]
    alone = PiecePool(max_uploads=9, total_bytes=12 << 20, largest_bytes=4 << 20, processors=1)
    assert alone.buffers_an_upload == 2
