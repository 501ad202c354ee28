"""The npz format: arrays `x` (rows, *) and optionally `y` (rows,) of integer labels, in a zip file.

Only what NumPy itself writes is read: members stored or deflated. The members are read as streams, so an array that
grows from few bytes costs time up to a bound, and no memory.

Source: numpy.savez; PKWARE APPNOTE 6.3.
"""

import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from assessor.errors import AssessorError, FormatError, GrowthLimitError
from assessor.formats.decoder import Part, formats
from assessor.formats.npy import NpyDecoder
from assessor.formats.spool import FileDecoder

READ_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 1 << 20
"""Longest directory of the zip file; NumPy's takes some 60 bytes a member."""
MEMBERS = {"x.npy": "x", "y.npy": "y"}
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


@formats.register("npz")
class NpzDecoder(FileDecoder):
    """Reads an npz file once it is complete: its directory is at its end."""

    what = "an npz shard"

    def read(self, file: BinaryIO) -> Iterator[Part]:
        """Yield the rows of x and y."""
        try:
            # It reads the whole directory at once: that, and all else, must not be longer than it may be.
            archive = zipfile.ZipFile(cast(BinaryIO, _Bounded(file)))
        except AssessorError:
            raise
        except (*_BAD_ZIP, KeyError, IndexError, OverflowError) as error:
            raise FormatError(
                f"expected an npz file; its directory cannot be read: {error!s:.200}: it was cut off, or is no npz"
            ) from error
        with archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if "x.npy" not in names or not set(names) <= set(MEMBERS) or len(set(names)) < len(names):
                raise FormatError(
                    'expected arrays "x" (rows, *) and optionally "y" (rows,); '
                    f"got members {names[:10]!r:.200}: save with numpy.savez(path, x=samples, y=labels)"
                )
            grown = sum(member.file_size for member in members)
            if grown > self.settings.max_decoded_bytes:
                raise GrowthLimitError(
                    f"expected an npz shard of at most {self.settings.max_decoded_bytes} bytes when decompressed; "
                    f"it says {grown}: split it, or raise max_decoded_bytes"
                )
            for member in members:
                yield from self._member(archive, member)

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[Part]:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise FormatError(
                f"expected members stored or deflated, not encrypted; {member.filename!r} has compression "
                f"{member.compress_type}, flags {member.flag_bits}: save with numpy.savez"
            )
        decoder = NpyDecoder(self.settings, name=MEMBERS[member.filename])
        came = 0
        try:
            with archive.open(member) as stream:
                while piece := stream.read(READ_BYTES):
                    came += len(piece)
                    yield from decoder.feed(piece)
            if came != member.file_size:
                raise FormatError(f"expected {member.file_size} bytes; got {came}: it was cut off")
            decoder.finish()
        except AssessorError as error:
            raise type(error)(f"{error} (in member {member.filename!r})") from error
        except _BAD_ZIP as error:
            raise FormatError(
                f"expected member {member.filename!r} as the npz file's directory describes it; "
                f"it cannot be read: {error!s:.200}: save it again"
            ) from error


class _Bounded:
    """A file that refuses to be read in pieces longer than a zip file's directory may be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.close = lambda: None

    def read(self, size: int = -1) -> bytes:
        here = self._file.tell()
        if size < 0:
            size = self._file.seek(0, 2) - here
            self._file.seek(here)
        if size > max(MAX_DIRECTORY_BYTES, READ_BYTES):
            raise FormatError(
                f"expected an npz file with a directory of at most {MAX_DIRECTORY_BYTES} bytes; got {size}: "
                "save with numpy.savez"
            )
        return self._file.read(size)
