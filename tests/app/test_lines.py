"""Pieces on their way through worker threads: in order, every one to every consumer, and none after a failure."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator

import pytest
from anyio import CapacityLimiter
from hypothesis import given
from hypothesis import strategies as st

from app.lines import Lines, _Line, at_once
from app.pieces import PiecePool

Piece = bytes | memoryview
PIECES = [bytes([k]) * 3 for k in range(20)]


class Taker:
    """A consumer that notes what it takes, in so many steps a piece; it may wait, and fail."""

    def __init__(self, steps: int = 1, fails_at: int | None = None) -> None:
        self.took: list[bytes] = []
        self.threads: set[int] = set()
        self.at_once = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._steps = steps
        self._fails_at = fails_at

    def __call__(self, piece: Piece) -> Iterator[None]:
        self.at_once += 1
        assert self.at_once == 1
        assert self.go_on.wait(60)
        self.threads.add(threading.get_ident())
        for _ in range(self._steps):
            yield
        if len(self.took) == self._fails_at:
            self.at_once -= 1
            raise ValueError(f"piece {self._fails_at}")
        self.took.append(bytes(piece))
        self.at_once -= 1

    def take(self, piece: Piece) -> None:
        """Take a piece in one step."""
        for _ in self(piece):
            pass


async def send(takers: list[Taker], most: int, limiter: CapacityLimiter) -> list[bytes]:
    """Give all pieces to the takers; return those that were done, in that order."""
    done: list[bytes] = []
    lines = Lines([(taker, limiter) for taker in takers], lambda piece: done.append(bytes(piece)), most=lambda: most)
    try:
        for number, piece in enumerate(PIECES):
            lines.put(piece)
            await lines.has_room()
            assert number + 1 - len(done) < most
        await lines.end()
    finally:
        await lines.abandon()
    return done


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 4))
def test_every_consumer_takes_every_piece_in_order(steps: list[int], most: int, threads: int) -> None:
    takers = [Taker(n) for n in steps]
    done = asyncio.run(_with_limiter(takers, most, threads))
    assert done == PIECES
    assert all(taker.took == PIECES for taker in takers)


async def _with_limiter(takers: list[Taker], most: int, threads: int) -> list[bytes]:
    return await send(takers, most, CapacityLimiter(threads))


def test_a_thread_takes_the_pieces_that_wait_without_the_event_loop() -> None:
    taker = Taker()
    taker.go_on.clear()

    async def run() -> None:
        lines = Lines([(taker, CapacityLimiter(1))], lambda piece: None, most=lambda: 9)
        for piece in PIECES[:5]:
            lines.put(piece)
        while not taker.at_once:
            await asyncio.sleep(0.001)
        taker.go_on.set()
        end = time.monotonic() + 60
        while len(taker.took) < 5 and time.monotonic() < end:
            time.sleep(0.001)  # the event loop does nothing
        assert len(taker.took) == 5
        await lines.end()

    asyncio.run(run())
    assert taker.took == PIECES[:5]
    assert len(taker.threads) == 1


def test_a_thread_is_left_to_who_waits_for_it_between_steps() -> None:
    """One line has a piece without end, as a body that grows without end has; the other is served nevertheless."""
    served = threading.Event()

    def endless(piece: Piece) -> Iterator[None]:
        end = time.monotonic() + 60
        while not served.is_set() and time.monotonic() < end:
            yield
        assert served.is_set()

    def short(piece: Piece) -> Iterator[None]:
        yield
        served.set()

    async def run() -> None:
        limiter = CapacityLimiter(1)
        first, second = (
            Lines([(consumer, limiter)], lambda piece: None, most=lambda: 2) for consumer in (endless, short)
        )
        first.put(b"x")
        second.put(b"x")
        await second.end()
        await first.end()

    asyncio.run(run())


@pytest.mark.parametrize("which", [0, 1])
def test_a_failure_is_raised_and_ends_all(which: int) -> None:
    takers = [Taker(), Taker()]
    takers[which] = Taker(fails_at=4)

    async def run() -> None:
        with pytest.raises(ValueError, match="piece 4"):
            await send(takers, 3, CapacityLimiter(4))

    asyncio.run(run())
    assert takers[which].took == PIECES[:4]
    assert takers[1 - which].took == PIECES[: len(takers[1 - which].took)]
    assert len(takers[1 - which].took) < 8


def test_after_a_failure_every_buffer_is_free_again_without_the_garbage_collector() -> None:
    async def run() -> None:
        pieces = PiecePool(max_uploads=2, total_bytes=1 << 20, largest_bytes=1 << 16, processors=4)
        for fails_at in (0, 1, 3, 0, 1, 3):
            taker = Taker(fails_at=fails_at)
            lines: Lines[Piece] = Lines(
                [(Taker(), CapacityLimiter(1)), (taker, CapacityLimiter(1))], pieces.give_back, most=lambda: 9
            )
            for _ in range(5):
                lines.put(memoryview(pieces.take()))
            with pytest.raises(ValueError, match="piece"):
                await lines.end()
            await lines.abandon()
            # A failure's traceback holds the line, so it may not hold the failure.
            assert all(line.failure is None and line._current is None for line in lines._lines)
            del lines, taker
            taken = [pieces.take() for _ in range(5)]
            assert pieces.held_bytes == sum(map(len, taken))
            for buffer in taken:
                pieces.give_back(memoryview(buffer))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_piece_takes_one_turn_of_a_thread_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[object] = []
    work = _Line._work

    def counted(self: _Line[Piece]) -> None:
        turns.append(self)
        work(self)

    monkeypatch.setattr(_Line, "_work", counted)

    async def run() -> None:
        limiter = CapacityLimiter(1)
        takers = [Taker() for _ in range(4)]
        lines = [Lines([(at_once(taker.take), limiter)], lambda piece: None, most=lambda: 9) for taker in takers]
        for piece in PIECES[:5]:
            for line in lines:
                line.put(piece)
        for line in lines:
            await line.end()
        assert all(taker.took == PIECES[:5] for taker in takers)

    asyncio.run(run())
    assert len(turns) <= 4 * 5


def test_a_failure_of_the_last_piece_is_raised_at_the_end() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="piece 19"):
            await send([Taker(fails_at=19)], 30, CapacityLimiter(1))

    asyncio.run(run())


def test_abandoned_lines_take_nothing_more_and_leave_no_thread() -> None:
    taker = Taker()
    taker.go_on.clear()

    async def run() -> None:
        lines = Lines([(taker, CapacityLimiter(1))], lambda piece: None, most=lambda: 9)
        for piece in PIECES[:5]:
            lines.put(piece)
        await asyncio.sleep(0.01)
        left = asyncio.create_task(lines.abandon())
        await asyncio.sleep(0.01)
        assert not left.done()  # its thread works still
        taker.go_on.set()
        await asyncio.wait_for(left, 60)
        lines.put(PIECES[6])

    asyncio.run(run())
    assert taker.took in ([], PIECES[:1])


def test_who_waits_for_room_may_be_cancelled_while_a_thread_works() -> None:
    taker = Taker()
    taker.go_on.clear()

    async def run() -> None:
        sending = asyncio.create_task(send([taker], 2, CapacityLimiter(1)))
        await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.sleep(0.01)
        assert not sending.done()
        taker.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(sending, 60)

    asyncio.run(run())
    assert len(taker.took) <= 1
