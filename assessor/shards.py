"""A shard file or stream, read in bounded pieces and reduced to a profile."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from numpy.typing import ArrayLike

from assessor.errors import EmptyShardError, LabelError
from assessor.formats import decoder_for, formats
from assessor.profile import Profile
from assessor.profiler import Profiler

READ_BYTES = 1 << 20
RECOGNIZED_BYTES = 9
"""First bytes by which a format is recognized; a stream may give fewer at a time."""


def profile_shard(
    source: str | PathLike[str] | BinaryIO,
    *,
    format: str | None = None,
    batch_sizes: Sequence[int],
    labels: ArrayLike | None = None,
    first_row: int = 0,
    feature_axis: str = "element",
    calibration_rows: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Profile:
    """Return the profile of a shard, read as a stream: never more than about 1 MB of it is held.

    Args:
        source: a path, or a binary stream at the shard's first byte.
        format: "npy" or "safetensors"; None recognizes it by its first bytes.
        batch_sizes, first_row, feature_axis, calibration_rows: see `Profiler`.
        labels: shape (rows,), integers, for formats that carry none.
        on_bytes: called with the size of each piece read, for a progress bar.

    Raises:
        AssessorError: the shard is empty, malformed, truncated, non-finite or of another shape.
        OSError: the file cannot be read.
    """
    profiler = Profiler(
        batch_sizes=batch_sizes,
        first_row=first_row,
        feature_axis=feature_axis,
        calibration_rows=calibration_rows,
    )
    if isinstance(source, str | PathLike):
        with Path(source).open("rb") as stream:
            return _read(stream, profiler, format, labels, on_bytes)
    return _read(source, profiler, format, labels, on_bytes)


def _read(
    stream: BinaryIO,
    profiler: Profiler,
    format: str | None,
    labels: ArrayLike | None,
    on_bytes: Callable[[int], None] | None,
) -> Profile:
    labelled = False
    piece = stream.read(READ_BYTES)
    if not piece:
        raise EmptyShardError("expected a shard; it has no bytes: leave it out")
    while len(piece) < RECOGNIZED_BYTES and (more := stream.read(RECOGNIZED_BYTES - len(piece))):
        piece += more
    decoder = formats.get(format or decoder_for(piece[:RECOGNIZED_BYTES]))()
    while piece:
        for part in decoder.feed(piece):
            if part.name == "x":
                profiler.add(part.block, dtype=part.dtype)
            else:
                labelled = True
                profiler.add_labels(part.block)
        if on_bytes is not None:
            on_bytes(len(piece))
        piece = stream.read(READ_BYTES)
    decoder.finish()
    if labels is not None:
        if labelled:
            raise LabelError("expected labels once; the shard has its own y: leave labels out")
        profiler.add_labels(labels)
    return profiler.finish()
