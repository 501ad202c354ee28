"""From a request body to a profile: read as a stream, hashed, decoded and profiled in worker threads (`app.inlet`).

A body that ends early or a client that goes away raises before anything is stored, so nothing half-written can stay.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import Request

from app.digests import ContentIdentity
from app.inlet import read_body
from app.problems import ProblemError
from app.records import Shard
from app.service import Service
from app.settings import Settings
from assessor import EmptyShardError, FeatureLimitError, Profile, Profiler
from assessor.cuts import Cuts, best_cuts, samples_of
from assessor.formats import MEDIA_TYPES, RECOGNIZED_BYTES, Decoder, DecodeSettings, Part, decoder_for, formats

T = TypeVar("T")

SNIFFED_MEDIA_TYPE = "application/octet-stream"


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
        self._digest.update(piece)
        self._size_bytes += len(piece)
        with _naming_the_limit():
            self._decode(piece)

    def _decode(self, piece: bytes | bytearray | memoryview) -> None:
        if self._decoder is None:
            if self._head or (self._format_name is None and len(piece) < RECOGNIZED_BYTES):
                self._head += piece
                if len(self._head) < RECOGNIZED_BYTES:
                    return
                piece, self._head = self._head, bytearray()
            self._decoder = self._open(piece)
        self._decoded_bytes += len(piece)
        for part in self._decoder.feed(piece):
            self._take(part)
        if self.cuts is None and (cuts := best_cuts(self._decoder, self._profiler)) is not None:
            self.cuts = self._decoded_bytes + cuts[0], cuts[1]

    def finish(self) -> Ingested:
        """Return the profile of all that came.

        Raises:
            AssessorError: the shard is empty or cut off.
        """
        with _naming_the_limit():
            self._end_decoding()
        profile = self._profiler.finish()
        del self._profiler  # its memory is not needed while the profile is stored
        return Ingested(profile, str(self._digest), self._size_bytes)

    def _end_decoding(self) -> None:
        if self._head:
            head, self._head = self._head, bytearray()
            self._decoder = self._open(head)
            self._decode(head)
        if self._decoder is None:
            raise EmptyShardError(
                "expected a shard; got an empty body: send the bytes of a file of rows (docs/formats.md), or "
                "leave this shard out"
            )
        for part in self._decoder.finish():
            self._take(part)

    def _open(self, head: bytes | bytearray | memoryview) -> Decoder:
        """Return the decoder of the format that was named, or that the first bytes tell."""
        limits = DecodeSettings(
            max_features=self._settings.max_features,
            max_spool_bytes=self._settings.max_spool_bytes,
            max_decoded_bytes=self._settings.max_decoded_bytes,
            missing=self._missing,
        )
        return formats.get(self._format_name or decoder_for(bytes(head[:RECOGNIZED_BYTES])))(limits)

    def _take(self, part: Part) -> None:
        if part.name == "y":
            self._check_classes(part)
            self._profiler.add_labels(part.block)
            return
        shape = part.block.shape[1:]
        if math.prod(shape) > self._settings.max_features:  # not all decoders look
            raise FeatureLimitError(
                f"expected samples of at most {self._settings.max_features} values; got {math.prod(shape)}"
            )
        if self._like is not None:
            self._like.check_like(shape)
        if not self._profiler.rows and self._decoder is not None and (samples := samples_of(self._decoder)) is not None:
            self._profiler.expect(min(samples.shape[0], self._settings.max_rows))
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


@contextmanager
def _naming_the_limit() -> Iterator[None]:
    """Say which setting a sample is too long for: decoders do not know it."""
    try:
        yield
    except FeatureLimitError as error:
        raise ProblemError("too-many-features", f"{error} (NORMGAUGE_MAX_FEATURES)") from error


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
    await read_body(request, reader, service)

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
    await read_body(request, hasher, service)
    return str(hasher.identity)


class _Hasher:
    """A sink that only hashes."""

    cuts = None

    def __init__(self, kind: str) -> None:
        self.identity = ContentIdentity(kind)

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        self.identity.update(piece)
