"""From a request body to a profile: read as a stream, decoded, profiled and hashed in a worker thread.

Two pieces of the body are held at a time: one that is being worked on and one that is coming in. A body that ends early
or a client that goes away raises before anything is stored, so nothing half-written can stay.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from app.digests import ContentIdentity
from app.limits import allow_body
from app.problems import ProblemError
from app.records import Shard
from app.settings import Settings
from assessor import EmptyShardError, Profile, Profiler
from assessor.formats import MEDIA_TYPES, RECOGNIZED_BYTES, Decoder, DecodeSettings, Part, decoder_for, formats
from assessor.formats.decoder import MAX_HEADER_BYTES

SNIFFED_MEDIA_TYPE = "application/octet-stream"
_LARGEST_VALUE_BYTES = 8
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
        batch_sizes, feature_axis, first_row: as of `assessor.Profiler`.
        format_name: the shard's format; None recognizes it by its first bytes.
        settings: the limits.
        like: a stored shard whose sample shape this one must have, checked with the first rows.

    Raises:
        SettingError: a setting out of its range.
        ProblemError: first_row is beyond the limit ("too-large").
    """

    def __init__(
        self,
        *,
        batch_sizes: Sequence[int],
        feature_axis: str,
        settings: Settings,
        format_name: str | None = None,
        first_row: int = 0,
        like: Shard | None = None,
    ) -> None:
        self._profiler = Profiler(batch_sizes=batch_sizes, first_row=first_row, feature_axis=feature_axis)
        self._first_row = first_row
        self._format_name = format_name
        self._settings = settings
        self._like = like
        self._decoder: Decoder | None = None
        self._digest = ContentIdentity()
        self._size_bytes = 0
        self._undecoded_bytes = 0
        self._check_rows()

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            AssessorError: the shard is not usable.
            ProblemError: it is over a limit ("too-large").
        """
        if self._decoder is None:
            self._format_name = self._format_name or decoder_for(piece[:RECOGNIZED_BYTES])
            self._decoder = formats.get(self._format_name)(_decode_settings(self._format_name, self._settings))
        self._digest.update(piece)
        self._size_bytes += len(piece)
        self._undecoded_bytes += len(piece)
        for part in self._decoder.feed(piece):
            self._undecoded_bytes = 0
            self._take(part)
        # A decoder holds the bytes of one unfinished row; here that has a bound.
        longest_row = self._settings.max_features * _LARGEST_VALUE_BYTES
        if self._format_name in _ROW_BY_ROW and self._undecoded_bytes > MAX_HEADER_BYTES + longest_row + len(piece):
            raise self._too_many_features(f"a row longer than {longest_row} bytes")

    def finish(self) -> Ingested:
        """Return the profile of all that came.

        Raises:
            AssessorError: the shard is empty or cut off.
        """
        if self._decoder is None:
            raise EmptyShardError(
                "expected a shard; got an empty body: send the bytes of an npy or safetensors "
                "file, or leave this shard out"
            )
        for part in self._decoder.finish():
            self._take(part)
        return Ingested(self._profiler.finish(), str(self._digest), self._size_bytes)

    def _take(self, part: Part) -> None:
        if part.name == "y":
            self._profiler.add_labels(part.block)
            return
        shape = part.block.shape[1:]
        if math.prod(shape) > self._settings.max_features:
            raise self._too_many_features(f"{math.prod(shape)} (shape {list(shape)})")
        if self._like is not None:
            self._like.check_like(shape)
        self._profiler.add(part.block, dtype=part.dtype)
        self._check_rows()

    def _check_rows(self) -> None:
        end_row = self._first_row + self._profiler.rows
        if end_row > self._settings.max_rows:
            raise ProblemError(
                "too-large",
                f"expected at most {self._settings.max_rows} rows in all; got row {end_row - 1} "
                "and maybe more; send fewer or raise NORMGAUGE_MAX_ROWS",
            )

    def _too_many_features(self, came: str) -> ProblemError:
        return ProblemError(
            "too-large",
            f"expected at most {self._settings.max_features} values in a sample; got {came}; "
            "reduce the samples or raise NORMGAUGE_MAX_FEATURES",
        )


def _decode_settings(format_name: str, settings: Settings) -> DecodeSettings:
    """Return the decoder's limits; a row of the row-by-row formats is refused here, in the service's own words."""
    limits = DecodeSettings(
        max_spool_bytes=settings.max_spool_bytes,
        max_decoded_bytes=settings.max_decoded_bytes,
    )
    return limits if format_name in _ROW_BY_ROW else replace(limits, max_features=settings.max_features)


def format_of(request: Request) -> str | None:
    """Return the shard format that the Content-Type names; None where it is to be recognized.

    Raises:
        ProblemError: a media type that is no shard format, or a compressed body.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise ProblemError(
            "unsupported-media-type",
            f"expected a body without Content-Encoding; got {encoding!r}; send it uncompressed",
        )
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


async def ingest(request: Request, reader: ShardReader, *, settings: Settings, limiter: CapacityLimiter) -> Ingested:
    """Return the profile and digest of the request's body.

    Raises:
        AssessorError, ProblemError: see `ShardReader`.
        ClientDisconnect: the connection was cut in mid-body.
    """
    await _consume(request, reader.feed, settings=settings, limiter=limiter)
    return await to_thread.run_sync(reader.finish, limiter=limiter)


async def digest_body(request: Request, *, settings: Settings, limiter: CapacityLimiter) -> str:
    """Return the identity of the request's body; nothing else is done with it."""
    digest = ContentIdentity()
    await _consume(request, digest.update, settings=settings, limiter=limiter)
    return str(digest)


async def _consume(
    request: Request,
    feed: Callable[[bytes], None],
    *,
    settings: Settings,
    limiter: CapacityLimiter,
) -> None:
    """Feed the body, piece by piece, to `feed` in a worker thread, while the next piece comes in."""
    allow_body(request, settings.max_body_bytes, "MAX_BODY_BYTES")
    working: asyncio.Task[None] | None = None
    try:
        async with aclosing(_pieces(request, settings.piece_bytes)) as pieces:
            async for piece in pieces:
                if working is not None:
                    await working
                working = asyncio.create_task(to_thread.run_sync(feed, piece, limiter=limiter))
        if working is not None:
            await working
    finally:
        # On an error or a disconnect the thread still runs: wait, so that no state is shared with it afterwards.
        if working is not None and not working.done():
            await asyncio.wait([working])
        if working is not None and working.done() and not working.cancelled():
            working.exception()  # seen, so that asyncio does not report it as forgotten


async def _pieces(request: Request, piece_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces of about `piece_bytes`: one thread hop each, not one for every packet."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= piece_bytes:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
