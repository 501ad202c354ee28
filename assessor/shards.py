"""A shard file or stream, read in bounded pieces and reduced to a profile."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from numpy.typing import ArrayLike

from assessor.cuts import best_cuts, piece_bytes
from assessor.errors import EmptyShardError, LabelError, SettingError
from assessor.folders import read_folder
from assessor.formats.decoder import Decoder, Part, formats
from assessor.formats.recognize import RECOGNIZED_BYTES, format_of
from assessor.formats.settings import DEFAULT, DecodeSettings, check_columns, refuse_columns
from assessor.formats.spool import FileDecoder
from assessor.profile import Profile
from assessor.profiler import Profiler

READ_BYTES = 1 << 20


def profile_shard(
    stream_or_path: str | PathLike[str] | BinaryIO,
    *,
    format: str | None = None,
    batch_sizes: Sequence[int],
    labels: ArrayLike | None = None,
    first_row: int = 0,
    feature_axis: str = "element",
    calibration_rows: int | None = None,
    reference: Profile | None = None,
    nonfinite: str = "raise",
    settings: DecodeSettings = DEFAULT,
    on_bytes: Callable[[int], None] | None = None,
) -> Profile:
    """Return the profile of a shard, read as a stream where its format allows it (docs/formats.md).

    Args:
        stream_or_path: a path, or a binary stream at the shard's first byte; a folder's path stands for its pictures.
        format: a name in `formats`; None recognizes it: CSV and JSON by the end of the path, others by the first bytes.
        batch_sizes, first_row, feature_axis, calibration_rows, reference, nonfinite: see `Profiler`.
        labels: shape (rows,), integers, for formats that carry none.
        settings: limits, and which columns are what.
        on_bytes: called with the size of each piece read, for a progress bar.

    Raises:
        AssessorError: the shard is empty, malformed, truncated, non-finite or of another shape; or what its format
            needs is not installed.
        SettingError: a setting out of its range, or columns named for a format that has none.
        OSError: the file cannot be read.
    """
    profiler = Profiler(
        batch_sizes=batch_sizes,
        first_row=first_row,
        feature_axis=feature_axis,
        calibration_rows=calibration_rows,
        reference=reference,
        nonfinite=nonfinite,
    )
    report = on_bytes or _ignore
    settings = replace(settings, missing=nonfinite != "raise")
    if not isinstance(stream_or_path, str | PathLike):
        return _profile(_parts(stream_or_path, None, format, settings, report, profiler), profiler, labels)
    path = Path(stream_or_path)
    if path.is_dir():
        refuse_columns("folder of pictures", settings)
        if format is not None:
            raise SettingError(f"expected no format for a folder, which holds pictures; got {format!r:.80}: leave it")
        return _profile(read_folder(path, settings, report), profiler, labels)
    with path.open("rb") as stream:
        return _profile(_parts(stream, path, format, settings, report, profiler), profiler, labels)


def _profile(parts: Iterable[Part], profiler: Profiler, labels: ArrayLike | None) -> Profile:
    labelled = False
    for part in parts:
        if part.name == "x":
            profiler.add(part.block, dtype=part.dtype)
        else:
            labelled = True
            profiler.add_labels(part.block)
    if labels is not None:
        if labelled:
            raise LabelError("expected labels once; the shard has its own y: leave labels out")
        profiler.add_labels(labels)
    return profiler.finish()


def _parts(
    stream: BinaryIO,
    path: Path | None,
    format: str | None,
    settings: DecodeSettings,
    on_bytes: Callable[[int], None],
    profiler: Profiler,
) -> Iterator[Part]:
    """Yield the rows of a stream; of a file in place, where its path is known and only a whole file can be read.

    What is yielded must have been given to the profiler before the next is asked for.
    """
    piece = stream.read(READ_BYTES)
    if not piece:
        raise EmptyShardError("expected a shard; it has no bytes: leave it out")
    while len(piece) < RECOGNIZED_BYTES and (more := stream.read(RECOGNIZED_BYTES - len(piece))):
        piece += more
    name = format or format_of(piece, path)
    check_columns(name, settings)
    decoder: Decoder = formats.get(name)(settings)
    if isinstance(decoder, FileDecoder) and path is not None:
        yield from decoder.read(stream)
        on_bytes(stream.seek(0, 2))
        return
    while piece:
        yield from decoder.feed(piece)
        on_bytes(len(piece))
        piece = stream.read(piece_bytes(best_cuts(decoder, profiler), READ_BYTES))
    yield from decoder.finish()


def _ignore(size_bytes: int) -> None:
    """Take a progress report that nobody asked for."""
