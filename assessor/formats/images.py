"""Pictures, by Pillow: imported here only, and only when one comes. A picture is a sample (channels, height, width)."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import DtypeError, FeatureLimitError, FormatError, SettingError, ShapeError
from assessor.formats.settings import DecodeSettings

SUFFIXES = ("png", "jpg", "jpeg", "bmp", "webp", "ppm", "pgm", "tif", "tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
"""What Pillow may take a picture for: no format that runs a program or a script."""
BANDS = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3, "I;16": 1, "I": 1, "F": 1}
"""Modes whose values are numbers, and how many a pixel has; a palette's are not."""


def load_opener() -> Callable[..., Any]:
    """Return PIL.Image.open.

    Raises:
        SettingError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise SettingError(
            f"expected Pillow, which reads pictures; it cannot be imported ({error}): pip install 'normgauge[formats]'"
        ) from error
    return Image.open


class PictureReader:
    """Reads pictures that are all of one mode and size.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._open = load_opener()
        self._first: tuple[str, tuple[int, int], str] | None = None

    def read(self, data: bytes, name: str) -> NDArray[Any]:
        """Return a picture's values, shape (channels, height, width).

        Args:
            data: the file's bytes.
            name: for the messages.

        Raises:
            FormatError: it is no picture. DtypeError: a mode without values. ShapeError: another mode or size than the
                pictures before, or too large.
        """
        try:
            picture = self._open(io.BytesIO(data), formats=FORMATS)
            mode, size, moves = picture.mode, picture.size, getattr(picture, "is_animated", False)
        except Exception as error:  # Pillow's decoders raise what they like on bad bytes
            raise _unreadable(name, error) from error
        self._check(name, mode, size)
        if moves:
            raise FormatError(f"expected one picture a file; {name!r:.200} has several: write each to its own file")
        try:
            values = np.asarray(picture)
        except Exception as error:  # Pillow's decoders raise what they like on bad bytes
            raise _unreadable(name, error) from error
        return as_sample(values, mode)

    def _check(self, name: str, mode: str, size: tuple[int, int]) -> None:
        if mode not in BANDS:
            raise DtypeError(
                f"expected a picture of a mode among {', '.join(BANDS)}; {name!r:.200} has {mode!r}: "
                "convert it, such as with image.convert('RGB')"
            )
        width, height = size
        if width * height * BANDS[mode] > self._settings.max_features:
            raise FeatureLimitError(
                f"expected samples of at most {self._settings.max_features} values; {name!r:.200} has {width} x "
                f"{height} pixels of mode {mode}: resize it"
            )
        if self._first is None:
            self._first = (mode, size, name)
        first_mode, first_size, first = self._first
        if (mode, size) != (first_mode, first_size):
            raise ShapeError(
                f"expected pictures of one mode and size, {first_mode} {first_size[0]} x {first_size[1]} as "
                f"{first!r:.200}; {name!r:.200} has {mode} {width} x {height}: resize and convert them alike"
            )


def as_sample(values: NDArray[Any], mode: str) -> NDArray[Any]:
    """Return a picture's array (height, width[, channels]) as a sample (channels, height, width).

    >>> as_sample(np.zeros((4, 5, 3)), "RGB").shape
    (3, 4, 5)
    """
    values = values[..., None] if values.ndim == 2 else values
    return np.ascontiguousarray(values.astype(np.uint8) if mode == "1" else values).transpose(2, 0, 1)


def _unreadable(name: str, error: Exception) -> Exception:
    """Return the error for a bad picture: Pillow names no closed list of what it raises."""
    if isinstance(error, MemoryError):
        return error
    return FormatError(
        f"expected a picture ({', '.join(FORMATS)}); {name!r:.200} cannot be read: "
        f"{type(error).__name__}: {error!s:.200}: write it again"
    )
