"""WebDataset: a tar file in which members of one key are a sample; pictures or npy arrays are x, .cls is y.

The key is the name up to the first dot of its last part. The first picture or npy member of a sample is x; other
members (.json, .txt) are passed over, but pickled ones are refused by name.

Source: webdataset, "The WebDataset Format"; docs/formats.md.
"""

import re
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from assessor.errors import AssessorError, EmptyShardError, FormatError, LabelError
from assessor.formats.decoder import Part, formats
from assessor.formats.gather import gather
from assessor.formats.images import SUFFIXES, PictureReader
from assessor.formats.npy import NpyDecoder
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.formats.tar import Member, TarReader

PICKLED = ("pkl", "pickle", "pyd", "pth", "pt", "ten", "tb")
"""Members that their usual readers unpickle, or that have no public format."""
MAX_SAMPLE_BYTES = 64 << 20
MAX_LABEL_BYTES = 32
Sample = tuple[NDArray[Any], int | None]


@formats.register("webdataset")
class WebDatasetDecoder:
    """Reads a WebDataset shard as it arrives."""

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self._tar = TarReader(limit_for)
        self._settings = settings
        self._pictures: PictureReader | None = None
        self._key: str | None = None
        self._x: NDArray[Any] | None = None
        self._y: int | None = None
        self._labelled: bool | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the samples that these bytes complete."""
        yield from gather(self._samples(self._tar.feed(data)))

    def finish(self) -> Iterator[Part]:
        """Yield the last sample."""
        self._tar.finish()
        yield from gather(self._close())

    def _samples(self, members: Iterator[Member]) -> Iterator[Sample]:
        for member in members:
            key, kind = _parts(member.name)
            if not key or key.rpartition("/")[2].startswith("."):
                continue
            if key != self._key:
                yield from self._close()
                self._key = key
            self._take(member, kind.rpartition(".")[2])

    def _take(self, member: Member, kind: str) -> None:
        if kind == "cls":
            text = member.data.decode("latin1").strip()
            if not re.fullmatch(r"-?[0-9]{1,18}", text) or self._y is not None:
                raise LabelError(
                    f"expected one integer label below 10^18 a sample; member {member.name!r:.200} has {text!r:.80}: "
                    "number the classes"
                )
            self._y = int(text)
        elif self._x is None and kind == "npy":
            self._x = _array(member, self._settings)
        elif self._x is None and kind in SUFFIXES:
            self._pictures = self._pictures or PictureReader(self._settings)
            self._x = self._pictures.read(member.data, member.name)

    def _close(self) -> Iterator[Sample]:
        """Yield the sample that is complete, if there is one."""
        if self._key is None:
            return
        if self._x is None:
            raise FormatError(
                f"expected a picture or npy member in each sample; sample {self._key!r:.200} has none of "
                f"{', '.join(('npy', *SUFFIXES))}: add one, or leave the sample out"
            )
        if self._labelled is None:
            self._labelled = self._y is not None
        if self._labelled != (self._y is not None):
            raise LabelError(
                f"expected a .cls member in every sample or in none; sample {self._key!r:.200} differs from those "
                "before: add or remove it"
            )
        sample = self._x, self._y
        self._key = self._x = self._y = None
        yield sample


def limit_for(name: str) -> int | None:
    """Return the most bytes of a member; refuse a pickled one by its name."""
    kind = _parts(name)[1].rpartition(".")[2]
    if kind in PICKLED:
        raise FormatError(
            f"expected pictures or npy arrays in a WebDataset; member {name!r:.200} may hold a pickle, which is "
            "never loaded: write arrays as .npy"
        )
    if kind == "npy" or kind in SUFFIXES:
        return MAX_SAMPLE_BYTES
    return MAX_LABEL_BYTES if kind == "cls" else None


def _parts(name: str) -> tuple[str, str]:
    """Return a member's key and the kind of it, in small letters.

    >>> _parts("train/0001.left.PNG")
    ('train/0001', 'left.png')
    """
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return folder + slash + (stem or "." * bool(last)), kind.lower()


def _array(member: Member, settings: DecodeSettings) -> NDArray[Any]:
    """Return the array of an npy member: one sample, of any rank."""
    decoder = NpyDecoder(settings, name="sample")
    try:
        blocks = [part.block for part in decoder.feed(member.data)]
        decoder.finish()
    except AssessorError as error:
        raise type(error)(f"{error} (in member {member.name!r:.200})") from error
    if not blocks:
        raise EmptyShardError(f"expected at least one value in member {member.name!r:.200}; got an empty array")
    return blocks[0] if blocks[0].ndim else blocks[0][None]
