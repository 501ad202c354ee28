"""JSON, for small shards: `json` is one document, `ndjson` one record a line.

A document is a list of rows or {"x": [rows], "y": [labels]}; a record is a row or {"x": row, "y": label}, or an object
of a number for each feature. A row is a list of numbers, nested for samples of more axes. Numbers become float64.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from assessor.errors import DtypeError, FormatError, LabelError, NonFiniteError, ShapeError
from assessor.formats.columns import choose_columns
from assessor.formats.decoder import Part, formats
from assessor.formats.gather import gather
from assessor.formats.settings import DEFAULT, DecodeSettings

MAX_JSON_BYTES = 4 << 20
"""Longest document or line: parsed, it takes some 10 times its size."""
MAX_MARKS = 1 << 18
"""Most brackets and quotation marks in one: each is an object of some 60 bytes."""


@formats.register("ndjson")
class NdjsonDecoder:
    """Reads one record a line as it arrives."""

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self._settings = settings
        self._rest = bytearray()
        self._names: list[str] | None = None
        self._rows = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows that these bytes complete."""
        start = len(self._rest)
        self._rest += data
        end = self._rest.rfind(b"\n", start) + 1
        if end:
            lines = bytes(self._rest[:end]).split(b"\n")
            del self._rest[:end]
            yield from self._block(lines)
        _check_length(self._rest, "NDJSON line")

    def finish(self) -> Iterator[Part]:
        """Yield the last row, where no line break follows it."""
        line, self._rest = bytes(self._rest), bytearray()
        yield from self._block([line])

    def _block(self, lines: list[bytes]) -> Iterator[Part]:
        records = (self._record(_parse(line, f"record {self._rows}")) for line in lines if line.strip())
        yield from gather(records)

    def _record(self, record: Any) -> tuple[NDArray[np.float64], int | None]:
        """Return the sample and the label of one record."""
        x, y = self._fields(record) if isinstance(record, dict) else (record, None)
        where = f"row {self._rows}"
        row = _numbers(_filled(x, self._settings), where, self._names)
        label = None if y is None else int(_labels([y], where)[0])
        self._rows += 1
        return row, label

    def _fields(self, record: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return x and y of a record."""
        if "x" in record and isinstance(record["x"], list):
            others = sorted(set(record) - {"x", "y"})
            if others:
                raise FormatError(f'expected "x" and "y" in row {self._rows}; got {others[:5]!r:.200}: leave them out')
            if "y" in record and isinstance(record["y"], list):
                raise LabelError(
                    f'expected one integer as "y" in row {self._rows}; got a list: '
                    'if this is one document with all rows, its format is "json"'
                )
            if "y" in record and record["y"] is None:
                raise NonFiniteError(f"expected a label; row {self._rows}, column 'y' is null: remove the row")
            return record["x"], record.get("y")
        features, label = choose_columns(list(record), self._settings)
        names = [list(record)[k] for k in features]
        if self._names is None:
            self._names = names
        if set(names) != set(self._names):
            raise ShapeError(
                f"expected the fields {self._names!r:.200} as before; row {self._rows} has {names!r:.200}: "
                "give every record all fields"
            )
        if label is None:
            return [record[name] for name in self._names], None
        y = list(record.values())[label]
        if y is None:
            raise NonFiniteError(
                f"expected a label; row {self._rows}, column {list(record)[label]!r:.80} is null: remove the row"
            )
        return [record[name] for name in self._names], y


@formats.register("json")
class JsonDecoder:
    """Reads one document, whole: it is small."""

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self._settings = settings
        self._text = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Keep these bytes; no row is complete before the last of them."""
        self._text += data
        _check_length(self._text, "JSON document")
        return iter(())

    def finish(self) -> Iterator[Part]:
        """Yield all rows."""
        document = _parse(bytes(self._text), "the document")
        if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
            records = NdjsonDecoder(self._settings)
            yield from gather(records._record(record) for record in document)
            return
        x, y = (document, None) if isinstance(document, list) else _document(document)
        block = _numbers(_filled(x, self._settings), "x", None)
        if block.ndim < 2 and len(block):
            raise ShapeError(
                f"expected x of shape (rows, features) or more axes; got {block.shape}: write a list of lists"
            )
        if len(block):
            yield Part("x", block, "float64")
        if y is not None:
            yield Part("y", _labels(y, "y"), "int64")


def _document(document: Any) -> tuple[Any, Any]:
    if not isinstance(document, dict) or "x" not in document or not set(document) <= {"x", "y"}:
        came = sorted(document)[:5] if isinstance(document, dict) else type(document).__name__
        raise FormatError(f'expected a list of rows, or an object of "x" and optionally "y"; got {came!r:.200}')
    return document["x"], document.get("y")


def _check_length(text: bytearray, what: str) -> None:
    if len(text) > MAX_JSON_BYTES:
        raise FormatError(
            f"expected a {what} of at most {MAX_JSON_BYTES} bytes; at least {len(text)} came: "
            "write one record a line, or use npy"
        )


def _parse(text: bytes, where: str) -> Any:
    if len(text) > MAX_JSON_BYTES:
        _check_length(bytearray(text), "JSON text")
    marks = sum(text.count(mark) for mark in (b"[", b"{", b'"'))
    if marks > MAX_MARKS:
        raise FormatError(
            f"expected at most {MAX_MARKS} brackets and quotation marks in {where}; got {marks}: use npy or CSV"
        )
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse, object_pairs_hook=_unique)
    except NonFiniteError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"expected {where} in JSON: {error!s:.200}: write it with json.dumps") from error


def _refuse(token: str) -> NoReturn:
    raise NonFiniteError(f"expected finite numbers, as JSON has them; got {token}: remove or impute such values first")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r:.80} comes twice")
    return record


def _filled(values: Any, settings: DecodeSettings) -> Any:
    """Return nested lists with NaN for null, where that is asked for."""
    if not settings.missing or not isinstance(values, list):
        return values
    return [float("nan") if value is None else _filled(value, settings) for value in values]


def _numbers(values: Any, where: str, names: list[str] | None) -> NDArray[np.float64]:
    """Return nested lists as one array."""
    if not isinstance(values, list):
        raise DtypeError(f"expected a list of numbers in {where}; got {values!r:.80}")
    try:
        array = np.asarray(values) if values else np.zeros(0)
    except (ValueError, OverflowError) as error:
        raise ShapeError(f"expected lists of one length in {where}; got ragged ones: {error!s:.200}") from error
    if array.dtype.kind not in "biuf":
        _name_bad(values, (), where, names)
    try:
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DtypeError(f"expected numbers that fit float64 in {where}; got {error!s:.200}") from error


def _name_bad(values: Any, at: tuple[int, ...], where: str, names: list[str] | None) -> None:
    """Raise for the first value that is no number, with its place."""
    for k, value in enumerate(values):
        place = (*at, k)
        if isinstance(value, list):
            _name_bad(value, place, where, names)
        elif not isinstance(value, int | float):
            column = repr(names[k]) if names and not at else ", ".join(map(str, place))
            if value is None:
                raise NonFiniteError(
                    f"expected finite numbers; {where}, column {column} is null: remove or impute such values first"
                )
            raise DtypeError(f"expected numbers; {where}, column {column} is {value!r:.80}: convert or leave it out")


def _labels(values: Any, where: str) -> NDArray[np.int64]:
    ok = isinstance(values, list) and all(isinstance(v, int) and -(2**63) <= v < 2**63 for v in values)
    if not ok:
        raise LabelError(f"expected integer labels below 2^63 in {where}; got {values!r:.80}: number the classes")
    return np.array(values, np.int64)
