"""The CSV format: one sample a line, one feature a column, float64.

UTF-8, commas. A first line of names says which column is what; a first line of numbers is data already. Every field is
a number: an empty one, NaN or infinity is refused by row and column, and so is text.

Source: RFC 4180, without line breaks inside fields, which no number has.
"""

import csv
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from assessor.errors import DtypeError, FormatError, LabelError, NonFiniteError, ShapeError
from assessor.formats.columns import ColumnChoice, choose_columns
from assessor.formats.decoder import Part, formats
from assessor.formats.settings import DEFAULT, DecodeSettings

MAX_LINE_BYTES = 16 << 20
BLOCK_BYTES = 1 << 19
"""Text that is parsed at a time; it may take some 20 times its size meanwhile."""
_INTEGER = re.compile(r"[ \t]*[+-]?[0-9]{1,19}[ \t]*")
_EMPTY = ("", "na", "n/a", "nan", "null", "none")


@formats.register("csv")
class CsvDecoder:
    """Reads CSV as it arrives."""

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self._settings = settings
        self._rest = bytearray()
        self._searched = 0
        self._names: list[str] | None = None
        self._choice = ColumnChoice((), None)
        self._rows = 0
        self._blank = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows that these bytes complete."""
        self._rest += data
        end = self._rest.rfind(b"\n", self._searched) + 1
        if end:
            text = bytes(self._rest[:end])
            del self._rest[:end]
            yield from self._parse(text)
        self._searched = len(self._rest)
        if len(self._rest) > MAX_LINE_BYTES:
            raise FormatError(
                f"expected lines of at most {MAX_LINE_BYTES} bytes; got {len(self._rest)} without a line break: "
                "write one sample a line, or use npy"
            )

    def finish(self) -> Iterator[Part]:
        """Yield the last row, where no line break follows it."""
        text, self._rest = bytes(self._rest), bytearray()
        yield from self._parse(text)
        if self._names is None:
            raise FormatError("expected CSV with a line of names or of numbers; got none: leave it out")

    def _parse(self, data: bytes) -> Iterator[Part]:
        start = 0
        while start < len(data):
            end = data.rfind(b"\n", start, start + BLOCK_BYTES) + 1 or data.find(b"\n", start) + 1 or len(data)
            lines = self._lines(data[start:end])
            start = end
            if self._names is None and lines:
                lines = self._open(lines)
            lines = self._without_blanks(lines)
            if lines:
                yield from self._block(lines)
                self._rows += len(lines)

    def _lines(self, data: bytes) -> list[str]:
        try:
            text = data.decode("utf-8-sig" if self._names is None else "utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"expected CSV in UTF-8; got byte {data[error.start]:#04x} after row {self._rows}: save it as UTF-8"
            ) from error
        if "\0" in text:
            raise FormatError(f"expected CSV in UTF-8; got a zero byte after row {self._rows}: save it as UTF-8 text")
        return text.removesuffix("\n").replace("\r\n", "\n").removesuffix("\r").split("\n")

    def _without_blanks(self, lines: list[str]) -> list[str]:
        """Return the lines without blank ones at the end, the only place where they may be."""
        kept = [line for line in lines if line.strip()]
        if kept and (self._blank or any(not line.strip() for line in lines[: len(kept)])):
            raise NonFiniteError(
                f"expected a number in every field; a line after row {self._rows} is empty: "
                "remove it, or impute the values"
            )
        self._blank = self._blank or len(kept) < len(lines)
        return kept

    def _open(self, lines: list[str]) -> list[str]:
        """Take the first line; return the lines of data."""
        fields = _split(lines[0], 0)
        numbers = [_number(field) for field in fields]
        if any(number is None for number in numbers):
            self._names = [field.strip() for field in fields]
            self._choice = choose_columns(self._names, self._settings)
            return lines[1:]
        if len(numbers) > 1 and numbers == list(range(len(numbers))):
            raise FormatError(
                f"expected names or a sample in the first line; it counts from 0 to {len(numbers) - 1}, which may be "
                "either: name the columns, or begin with another sample"
            )
        self._names = [f"column {k}" for k in range(len(fields))]
        self._choice = choose_columns(self._names, self._settings)
        return lines

    def _block(self, lines: list[str]) -> Iterator[Part]:
        x, y = self._fast(lines) or self._slow(lines)
        yield Part("x", x, "float64")
        if y is not None:
            yield Part("y", y, "int64")

    def _fast(self, lines: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64] | None] | None:
        """Return the block as NumPy's parser reads it; None where it does not, for whatever reason."""
        assert self._names is not None
        features, label = self._choice
        n = len(self._names)
        if any('"' in line or line.count(",") != n - 1 for line in lines):
            return None
        try:
            x = np.loadtxt(lines, np.float64, comments=None, delimiter=",", usecols=features, ndmin=2)
        except (ValueError, OverflowError):
            return None
        if x.shape != (len(lines), len(features)) or not np.isfinite(x).all():
            return None
        if label is None:
            return x, None
        texts = [line.split(",", label + 1)[label] for line in lines]
        if not all(_INTEGER.fullmatch(text) for text in texts):
            return None
        try:
            return x, np.array([int(text) for text in texts], np.int64)
        except OverflowError:
            return None

    def _slow(self, lines: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Return the block read field by field, which names what is wrong."""
        assert self._names is not None
        features, label = self._choice
        x = np.empty((len(lines), len(features)))
        y = np.empty(len(lines), np.int64)
        for i, line in enumerate(lines):
            row = self._rows + i
            fields = _split(line, row)
            if len(fields) != len(self._names):
                raise ShapeError(
                    f"expected {len(self._names)} columns; got {len(fields)} in row {row}: check the commas"
                )
            for j, k in enumerate(features):
                x[i, j] = _feature(fields[k], row, self._names[k], missing=self._settings.missing)
            if label is not None:
                y[i] = _class(fields[label], row, self._names[label])
        return x, None if label is None else y


def _split(line: str, row: int) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except (csv.Error, StopIteration) as error:
        raise FormatError(f"expected comma-separated fields; row {row} is none: {error}") from error


def _number(text: str) -> float | None:
    if "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _feature(text: str, row: int, name: str, *, missing: bool) -> float:
    value = _number(text)
    if missing and text.strip().lower() in _EMPTY:
        return float("nan")
    if not missing and (text.strip().lower() in _EMPTY or (value is not None and not np.isfinite(value))):
        raise NonFiniteError(
            f"expected finite numbers; row {row}, column {name!r:.80} is {text.strip()!r:.80}: "
            "remove or impute such values first"
        )
    if value is None:
        raise DtypeError(
            f"expected numbers; row {row}, column {name!r:.80} is {text!r:.80}: "
            "leave the column out, or name the columns to read"
        )
    return value


def _class(text: str, row: int, name: str) -> int:
    if not _INTEGER.fullmatch(text) or abs(value := int(text)) >= 2**63:
        raise LabelError(
            f"expected integer labels below 2^63; row {row}, column {name!r:.80} is {text!r:.80}: number the classes"
        )
    return value
