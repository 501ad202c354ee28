"""A folder of pictures: each file a sample, each folder in it a class."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from assessor.errors import EmptyShardError, FormatError
from assessor.formats.decoder import Part
from assessor.formats.gather import gather
from assessor.formats.images import SUFFIXES, PictureReader
from assessor.formats.settings import DEFAULT, DecodeSettings

MAX_FILE_BYTES = 256 << 20


def read_folder(
    folder: Path, settings: DecodeSettings = DEFAULT, on_bytes: Callable[[int], None] = lambda size_bytes: None
) -> Iterator[Part]:
    """Yield the pictures of a folder as samples (channels, height, width).

    Pictures lie in the folder itself, or in one folder for each class; then the label is the class's place among the
    sorted names. Files come in the order of their sorted names, class after class. Hidden files are passed over.

    Args:
        folder: its path.
        settings: the limits.
        on_bytes: called with the size of each file read.

    Raises:
        EmptyShardError: there is no picture. FormatError: another file, or pictures beside folders.
        DtypeError, ShapeError: pictures that are not all of one mode and size.
        OSError: a file cannot be read.
    """
    yield from gather(_samples(list_pictures(folder), PictureReader(settings), on_bytes))


def list_pictures(folder: Path) -> list[tuple[Path, int | None]]:
    """Return the pictures of a folder in their order, each with its class's number or None.

    Raises:
        EmptyShardError, FormatError: see `read_folder`.
    """
    entries = _visible(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    if classes and len(classes) < len(entries):
        other = next(entry for entry in entries if not entry.is_dir())
        raise FormatError(
            f"expected pictures, or a folder for each class, in {folder}; got both folders and {other.name!r:.200}: "
            "move one of them away"
        )
    found: list[tuple[Path, int | None]] = []
    for number, place in enumerate(classes or [folder]):
        files = _visible(place)
        for file in files:
            if file.suffix[1:].lower() not in SUFFIXES or not file.is_file():
                raise FormatError(
                    f"expected pictures ({', '.join(SUFFIXES)}) in {place}; got {file.name!r:.200}: move it away"
                )
        found += [(file, number if classes else None) for file in files]
    if not found:
        raise EmptyShardError(f"expected at least one picture in {folder}; it has none: check the path")
    return found


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _samples(
    pictures: list[tuple[Path, int | None]], reader: PictureReader, on_bytes: Callable[[int], None]
) -> Iterator[tuple[NDArray[Any], int | None]]:
    for path, label in pictures:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise FormatError(
                f"expected pictures of at most {MAX_FILE_BYTES} bytes; {path} has {size_bytes}: resize it"
            )
        yield reader.read(path.read_bytes(), str(path)), label
        on_bytes(size_bytes)
