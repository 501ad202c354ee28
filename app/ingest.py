"""From a request body to a profile: read as a stream, decoded, profiled and hashed in worker threads.

A few pieces of the body are held at a time: one that is worked on, one that waits, and one that is coming in. A body
that ends early or a client that goes away raises before anything is stored, so nothing half-written can stay.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from app.digests import ContentDigests, ContentIdentity
from app.encodings import ContentDecoder, encoding_of
from app.gathering import CUTS
from app.lending import LENDING, PASSED, LentBody
from app.limits import allow_body
from app.lines import Consumer, Lines, at_once
from app.problems import ProblemError
from app.records import Shard
from app.service import Service
from app.settings import Settings
from assessor import EmptyShardError, Profile, Profiler
from assessor.cuts import Cuts, best_cuts, piece_bytes, samples_of
from assessor.formats import MEDIA_TYPES, RECOGNIZED_BYTES, Decoder, DecodeSettings, Part, decoder_for, formats
from assessor.formats.decoder import MAX_HEADER_BYTES

T = TypeVar("T")

SNIFFED_MEDIA_TYPE = "application/octet-stream"
_LARGEST_VALUE_BYTES = 8
ENOUGH_PARTS = 4
"""A thread waits for more bytes until so small a part of its buffer is filled: smaller pieces cost more a byte."""
PIECES_OF_A_LOAN = 16
"""After so many a body is given back where a larger buffer may be had; at once where others need some of this one."""
_ROW_BY_ROW = ("npy", "safetensors")
"""Formats whose decoders hold nothing but one unfinished row; the others bound what they hold themselves."""


@dataclass(frozen=True)
class Ingested:
    """A body that was read to its end."""

    profile: Profile
    digest: str
    size_bytes: int


class ShardReader:
    """Turns the pieces of one shard into its profile; blocks, so it runs in a worker thread.

    Args:
        batch_sizes, feature_axis, nonfinite, first_row: as of `assessor.Profiler`.
        format_name: the shard's format; None recognizes it by its first bytes.
        settings: the limits.
        like: a stored shard whose sample shape this one must have, checked with the first rows.

    Raises:
        SettingError: a setting out of its range.
        ProblemError: first_row is beyond the limit ("too-many-rows").
    """

    def __init__(
        self,
        *,
        batch_sizes: Sequence[int],
        feature_axis: str,
        nonfinite: str = "raise",
        settings: Settings,
        format_name: str | None = None,
        first_row: int = 0,
        like: Shard | None = None,
    ) -> None:
        self._profiler = Profiler(
            batch_sizes=batch_sizes,
            first_row=first_row,
            feature_axis=feature_axis,
            nonfinite=nonfinite,
            in_memory_bytes=settings.profile_memory_bytes,
        )
        self._missing = nonfinite != "raise"
        self._first_row = first_row
        self._format_name = format_name
        self._settings = settings
        self._like = like
        self._decoder: Decoder | None = None
        self._head = bytearray()  # what does not yet tell the format
        self._digest = ContentIdentity(settings.shard_digest)
        self._size_bytes = 0
        self._undecoded_bytes = 0
        self._decoded_bytes = 0
        self.cuts: Cuts | None = None
        self._classes: set[int] = set()
        self._check_rows()

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece; nothing of it is kept, so its memory may be used again.

        Raises:
            AssessorError: the shard is not usable.
            ProblemError: it is over a limit.
        """
        self.identify(piece)
        self.decode(piece)

    def identify(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece for the shard's identity only; may run beside `decode` of the same piece."""
        self._digest.update(piece)
        self._size_bytes += len(piece)

    def decode(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece for its rows only.

        Raises:
            AssessorError, ProblemError: as `feed`.
        """
        if self._decoder is None:
            if self._head or (self._format_name is None and len(piece) < RECOGNIZED_BYTES):
                self._head += piece
                if len(self._head) < RECOGNIZED_BYTES:
                    return
                piece, self._head = self._head, bytearray()
            self._decoder = self._open(piece)
        self._undecoded_bytes += len(piece)
        self._decoded_bytes += len(piece)
        for part in self._decoder.feed(piece):
            self._undecoded_bytes = 0
            self._take(part)
        # A decoder holds the bytes of one unfinished row; here that has a bound.
        longest_row = self._settings.max_features * _LARGEST_VALUE_BYTES
        if self._format_name in _ROW_BY_ROW and self._undecoded_bytes > MAX_HEADER_BYTES + longest_row + len(piece):
            raise self._too_many_features(f"a row longer than {longest_row} bytes")
        if self.cuts is None and (cuts := best_cuts(self._decoder, self._profiler)) is not None:
            self.cuts = self._decoded_bytes + cuts[0], cuts[1]

    def finish(self) -> Ingested:
        """Return the profile of all that came.

        Raises:
            AssessorError: the shard is empty or cut off.
        """
        if self._head:
            head, self._head = self._head, bytearray()
            self._decoder = self._open(head)
            self.decode(head)
        if self._decoder is None:
            raise EmptyShardError(
                "expected a shard; got an empty body: send the bytes of an npy or safetensors "
                "file, or leave this shard out"
            )
        for part in self._decoder.finish():
            self._take(part)
        profile = self._profiler.finish()
        del self._profiler  # its memory is not needed while the profile is stored
        return Ingested(profile, str(self._digest), self._size_bytes)

    def _open(self, head: bytes | bytearray | memoryview) -> Decoder:
        """Return the decoder of the format that was named, or that the first bytes tell."""
        self._format_name = self._format_name or decoder_for(bytes(head[:RECOGNIZED_BYTES]))
        return formats.get(self._format_name)(
            replace(_decode_settings(self._format_name, self._settings), missing=self._missing)
        )

    def _take(self, part: Part) -> None:
        if part.name == "y":
            self._check_classes(part)
            self._profiler.add_labels(part.block)
            return
        shape = part.block.shape[1:]
        if math.prod(shape) > self._settings.max_features:
            raise self._too_many_features(f"{math.prod(shape)} (shape {list(shape)})")
        if self._like is not None:
            self._like.check_like(shape)
        if not self._profiler.rows and self._decoder is not None and (samples := samples_of(self._decoder)) is not None:
            self._profiler.expect(samples.shape[0])
        self._profiler.add(part.block, dtype=part.dtype)
        self._check_rows()

    def _check_rows(self) -> None:
        end_row = self._first_row + self._profiler.rows
        if end_row > self._settings.max_rows:
            raise ProblemError(
                "too-many-rows",
                f"expected at most {self._settings.max_rows} rows in all; got row {end_row - 1} "
                "and maybe more; send fewer or raise NORMGAUGE_MAX_ROWS",
            )

    def _check_classes(self, part: Part) -> None:
        self._classes.update(np.unique(part.block).tolist())
        if len(self._classes) > self._settings.max_classes:
            raise ProblemError(
                "too-many-classes",
                f"expected at most {self._settings.max_classes} different labels in a shard; got at least "
                f"{len(self._classes)}; are they row numbers? else raise NORMGAUGE_MAX_CLASSES",
            )

    def _too_many_features(self, came: str) -> ProblemError:
        return ProblemError(
            "too-many-features",
            f"expected at most {self._settings.max_features} values in a sample; got {came}; "
            "reduce the samples or raise NORMGAUGE_MAX_FEATURES",
        )


def _decode_settings(format_name: str, settings: Settings) -> DecodeSettings:
    """Return the decoder's limits; a row of the row-by-row formats is refused here, in the service's own words."""
    limits = DecodeSettings(
        max_spool_bytes=settings.max_spool_bytes,
        max_decoded_bytes=settings.max_decoded_bytes,
    )
    most = settings.max_features
    return replace(limits, max_features=max(most, limits.max_features) if format_name in _ROW_BY_ROW else most)


def format_of(request: Request) -> str | None:
    """Return the shard format that the Content-Type names; None where it is to be recognized.

    Raises:
        ProblemError: a media type that is no shard format ("unsupported-media-type").
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("", SNIFFED_MEDIA_TYPE):
        return None
    if media_type not in MEDIA_TYPES:
        known = ", ".join([*MEDIA_TYPES, SNIFFED_MEDIA_TYPE])
        raise ProblemError(
            "unsupported-media-type",
            f"expected Content-Type among {known}; got {media_type!r}; "
            "name the format of the body, or leave the header out to have it recognized",
        )
    return MEDIA_TYPES[media_type]


class Sink(Protocol):
    """What a body is read into. Nothing may be kept of a piece.

    Attributes:
        cuts: where pieces best end, see `app.gathering.Gatherer.cut`; None where that is not known, or does not matter.
    """

    @property
    def cuts(self) -> Cuts | None: ...  # noqa: D102  # see above

    def identify(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece for the identity."""
        ...

    def decode(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece for the rows; may run beside `identify` of the same one."""
        ...


async def ingest(
    request: Request, reader: ShardReader, service: Service, use: Callable[[Ingested], T], *, limiter: CapacityLimiter
) -> T:
    """Return what `use` makes of the profile and identity of the request's body.

    A profile is at its largest when it is finished, so it is made and used in one turn of a worker thread, and few such
    turns are taken at once: uploads that end together do not hold all of theirs while they wait for the database.

    Args:
        use: called in a worker thread; should not take long, others wait for its turn.
        limiter: of these turns: `service.finishing` where the database is written to, which may be busy for long.

    Raises:
        AssessorError, ProblemError: see `ShardReader`; the body is over a limit, or not what its headers say.
        ClientDisconnect: the connection was cut in mid-body.
    """
    began = time.monotonic()
    await _consume(request, reader, service)

    def finish() -> T:
        ingested = reader.finish()
        seconds = time.monotonic() - began
        service.metrics.ingested(size_bytes=ingested.size_bytes, n_rows=ingested.profile.n_rows, seconds=seconds)
        return use(ingested)

    return await to_thread.run_sync(finish, limiter=limiter)


async def identify(request: Request, service: Service, *, like: str) -> str:
    """Return the identity of the shard in the request's body, of the kind of another one; nothing else is done with it.

    Raises:
        ProblemError, ClientDisconnect: as `ingest`.
    """
    hasher = _Hasher(like)
    await _consume(request, hasher, service)
    return str(hasher.identity)


class _Hasher:
    """A sink that only hashes."""

    cuts = None

    def __init__(self, kind: str) -> None:
        self.identity = ContentIdentity(kind)

    def identify(self, piece: bytes | bytearray | memoryview) -> None:
        self.identity.update(piece)

    def decode(self, piece: bytes | bytearray | memoryview) -> None:
        pass


async def _consume(request: Request, sink: Sink, service: Service) -> None:
    """Read the body into the sink, whose work is done in worker threads while the next piece comes in."""
    inlet = _Inlet(request, sink, service)
    with service.pieces.upload():
        await inlet.run()


@dataclass(frozen=True)
class _Borrowed:
    """The rest of a body, its bytes, and the buffer that a worker thread reads it to."""

    body: LentBody
    buffer: bytearray
    size_bytes: int


_Handed = bytes | memoryview | _Borrowed


class _Inlet:
    """One body on its way: its digest checked, decompressed, and given to a sink, a piece at a time."""

    def __init__(self, request: Request, sink: Sink, service: Service) -> None:
        self._request = request
        self._service = service
        self._sink = sink
        encoding = encoding_of(request.headers.getlist("content-encoding"))
        self._digests = ContentDigests(request.headers.getlist("content-digest"))
        self._decoder: ContentDecoder | None = None
        if encoding is not None:
            most = service.settings.max_decoded_bytes
            self._decoder = ContentDecoder(encoding, max_decoded_bytes=most)
        self._size_bytes = 0
        self._passed_bytes = 0
        extensions = request.scope.get("extensions", {})
        # What is decompressed, or hashed by another thread, comes piece by piece through the event loop.
        as_it_is = encoding is None
        self._cut: Callable[[Cuts], None] | None = extensions[CUTS]["cut"] if as_it_is and CUTS in extensions else None
        self._lend: Callable[[], LentBody | None] = lambda: None
        if as_it_is and not self._digests and LENDING in extensions:
            self._lend = extensions[LENDING]["lend"]
        self._limit = allow_body(request)

    async def run(self) -> None:
        """Read the body to its end."""
        lines = Lines(self._consumers(), self._on_done, most=lambda: self._service.pieces.buffers_an_upload)
        try:
            more = True
            while more:
                more = not await self._borrow(lines) and await self._receive(lines)
            await lines.end()
            self._check_end()
        finally:
            # On an error or a disconnect a thread may still run: wait, so that no state is shared with it afterwards.
            await lines.abandon()

    async def _borrow(self, lines: Lines[_Handed]) -> bool:
        """Let a worker thread read as much as is there, where it may; return whether that was all."""
        while (body := self._lend()) is not None:
            try:
                borrowed = _Borrowed(body, self._service.pieces.take(), body.left)
            except BaseException:
                body.give_back()
                raise
            lines.put(borrowed)
            with self._service.drain.cutting(body.recall):
                await lines.all_done()
            if body.dry or body.recalled or not body.left:
                return not body.left
        return False

    async def _receive(self, lines: Lines[_Handed]) -> bool:
        """Pass on the next piece; return whether there are more.

        Raises:
            ClientDisconnect: the connection was cut in mid-body.
        """
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if piece := message.get("body", b""):
            self._size_bytes += len(piece)
            lines.put(piece)
            await lines.has_room()
        return bool(message.get("more_body", False))

    def _on_done(self, handed: _Handed) -> None:
        if isinstance(handed, _Borrowed):
            handed.body.give_back()
            self._service.pieces.give_back(memoryview(handed.buffer))
            read_bytes = handed.size_bytes - handed.body.left
            self._size_bytes += read_bytes
            self._limit.passed(read_bytes, complete=not handed.body.left)
            self._request.scope.get(PASSED, lambda size_bytes: None)(read_bytes)
            return
        self._service.pieces.give_back(handed)
        if self._cut is not None and (cuts := self._sink.cuts) is not None:
            self._cut(cuts)
            self._cut = None

    def _consumers(self) -> list[tuple[Consumer[Any], CapacityLimiter]]:
        """Return what takes each piece, beside each other."""
        take: Consumer[Any] = self._take
        if self._decoder is not None:
            take = partial(self._take_encoded, self._decoder)
        consumers = [(take, self._service.decoding)]
        if self._digests:
            consumers.append((at_once(self._digests.update), self._service.limiter))
        return consumers

    def _take(self, handed: _Handed) -> Iterator[None]:
        """Pass on a piece, or all pieces that are read from a borrowed body."""
        if isinstance(handed, _Borrowed):
            return self._read(handed)
        self._pass_on(handed)
        return iter(())

    def _read(self, borrowed: _Borrowed) -> Iterator[None]:
        """Pass on what is read, to the end of a batch where that is known; the rest goes on with more."""
        body, room, rest = borrowed.body, memoryview(borrowed.buffer), 0
        enough, n_pieces, goes_on = len(room) // ENOUGH_PARTS, 0, True
        while rest or (body.left and goes_on):
            cuts = self._sink.cuts and (self._sink.cuts[0] - self._passed_bytes, self._sink.cuts[1])
            if goes_on:
                rest += body.fill(room[rest : piece_bytes(cuts, len(room))], max(0, enough - rest))
            n_pieces += 1
            goes_on = body.left > 0 and not body.dry and not body.recalled and self._fits(len(room), n_pieces)
            whole = piece_bytes(cuts, rest) if rest and goes_on else rest
            if whole:
                self._pass_on(room[:whole])
            room[: rest - whole] = room[whole:rest]
            rest -= whole
            yield

    def _fits(self, buffer_bytes: int, n_pieces: int) -> bool:
        """Return whether a buffer is still an upload's share after so many pieces; asked in a thread, so about."""
        share = self._service.pieces.size_bytes
        return share == buffer_bytes or (share > buffer_bytes and n_pieces < PIECES_OF_A_LOAN)

    def _pass_on(self, piece: bytes | memoryview) -> None:
        self._passed_bytes += len(piece)
        self._sink.identify(piece)
        self._sink.decode(piece)

    def _take_encoded(self, decoder: ContentDecoder, piece: bytes | memoryview) -> Iterator[None]:
        """Pass on what a piece is decoded to, in steps, so that a body which grows without end holds up no other."""
        decoder.feed(piece)
        while decoded := decoder.take():
            self._pass_on(memoryview(decoded))
            yield

    def _check_end(self) -> None:
        # First what was sent, then what it says: a body that was cut off on the way is told as that.
        self._digests.check()
        if self._decoder is not None and self._size_bytes:
            self._decoder.finish()
        self._limit.check_length()
