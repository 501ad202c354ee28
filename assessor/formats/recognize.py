"""Which format a shard is in: by its first bytes, its media type or the end of its name."""

import re
from pathlib import PurePath

from assessor.errors import FormatError
from assessor.formats.decoder import formats

RECOGNIZED_BYTES = 512
"""First bytes by which a format is recognized; fewer do where the shard is shorter."""

MEDIA_TYPES = {
    "application/x-npy": "npy",
    "application/vnd.safetensors": "safetensors",
    "application/x-npz": "npz",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.arrow.file": "arrow_file",
    "application/vnd.apache.parquet": "parquet",
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/json": "json",
    "application/x-tar": "webdataset",
}
"""Format by the media type of a shard body."""

TEXT_SUFFIXES = {".csv": "csv", ".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson"}
"""Formats whose first bytes may be anything: a file's name tells them."""

_MAGIC = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
    b"ARROW1": "arrow_file",
    b"\xff\xff\xff\xff": "arrow",
    b"PAR1": "parquet",
}


def decoder_for(first_bytes: bytes) -> str:
    """Return the format's name, recognized by a shard's first bytes (`RECOGNIZED_BYTES` of them, or all).

    CSV is not: any text may be CSV.

    Raises:
        FormatError: not a known format, or text that may be JSON or NDJSON.

    >>> decoder_for(b"\\x93NUMPY\\x01\\x00v")
    'npy'
    >>> decoder_for(b'{"x": [1, 2], "y": 0}')
    'ndjson'
    """
    head = bytes(first_bytes[:RECOGNIZED_BYTES])
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "webdataset"
    text = re.match(rb"\s*([\[{])\s*([\[{\"\-0-9])", head)
    if text and b"\0" not in head:
        return _json_kind(head, text)
    if len(head) >= 9 and head[8:9] == b"{":
        return "safetensors"
    raise FormatError(
        f"expected a shard in a known format ({', '.join(formats.names())}); "
        f"its first bytes are {head[:9]!r}: save it with numpy.save or safetensors, or name the format; "
        "pictures are read as a folder of them"
    )


def format_of(first_bytes: bytes, path: PurePath | None) -> str:
    """Return the format of a file: text by the end of its name, all else by its first bytes.

    Raises:
        FormatError: as `decoder_for`.
    """
    suffix = "" if path is None else path.suffix.lower()
    return TEXT_SUFFIXES[suffix] if suffix in TEXT_SUFFIXES else decoder_for(first_bytes)


def _json_kind(head: bytes, start: re.Match[bytes]) -> str:
    """Tell one document from one record a line, where that can be told."""
    opens, follows = start.groups()
    if opens == b"[":
        return "json" if follows in b"[{" else "ndjson"
    if re.match(rb'\s*\{\s*"x"\s*:\s*\[\s*\[', head):
        raise FormatError(
            "expected to tell JSON from NDJSON by the first bytes; x is a list of lists, which is all rows of a JSON "
            'document or one row of NDJSON: name the format, "json" or "ndjson"'
        )
    return "ndjson"
