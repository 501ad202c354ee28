"""The address of an object or a folder: `s3://bucket/key` or `file:///folder/file`."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from assessor.errors import SourceUriError

SCHEMES = ("s3", "file")
LONGEST_URI = 2048
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"[\d.]+|.*\.\..*")
_ENCODED = re.compile(r"%(?:25)*(?:2e|2f|5c|00)", re.IGNORECASE)
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and what Python makes of bytes in a file's name that are no UTF-8."""
_SAFE_IN_FILE = "/*?[]!-._~$&'()+,;=:@"
_ADVICE = "write s3://bucket/key or file:///folder/file, without . or .. or encoded slashes"


@dataclass(frozen=True, order=True)
class SourceUri:
    """Where an object lies. Equal addresses are equal values, and `str` gives the one way to write it.

    Attributes:
        scheme: one of `SCHEMES`.
        container: the bucket; "" for files.
        key: the path in it, without a leading slash; "" for all of it. Taken as it stands for s3; of a file's URI,
            what it percent-encodes is decoded.

    >>> str(SourceUri.parse("s3://data/digits/part-0.npy"))
    's3://data/digits/part-0.npy'
    >>> SourceUri.parse("file:///data/a%20b.npy").key
    'data/a b.npy'
    """

    scheme: str
    container: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "SourceUri":
        """Return the address that a URI names; a slash at its end is dropped.

        Raises:
            SourceUriError: not a URI of a known scheme, or one that could mean another place than it shows: empty
                segments, `.` and `..`, encoded dots, slashes and zeros, control characters.
        """
        if len(text) > LONGEST_URI:
            raise SourceUriError(f"expected a URI of at most {LONGEST_URI} characters; got {len(text)}: {_ADVICE}")
        scheme, found, rest = text.partition("://")
        if not found or scheme not in SCHEMES:
            raise SourceUriError(f"expected a URI that begins with s3:// or file://; got {text!r:.100}: {_ADVICE}")
        if _ENCODED.search(text):
            raise SourceUriError(
                f"expected a URI that shows its path; got encoded dots, slashes or zeros in {text!r:.100}: {_ADVICE}"
            )
        container, slash, key = rest.partition("/")
        if scheme == "s3" and (not _BUCKET.fullmatch(container) or _ADDRESS.fullmatch(container)):
            raise SourceUriError(
                f"expected the name of a bucket after s3://; got {container!r:.80} in {text!r:.100}: {_ADVICE}"
            )
        if scheme == "file" and (container or not slash):
            raise SourceUriError(f"expected file:/// and a path; got the host {container!r:.80}: {_ADVICE}")
        if scheme == "file":
            key = unquote(key)
        key = key.removesuffix("/")
        _check_key(key, text)
        return cls(scheme, container, key)

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the key between its slashes."""
        return tuple(self.key.split("/")) if self.key else ()

    @property
    def name(self) -> str:
        """The key's last part."""
        return self.key.rpartition("/")[2]

    def is_under(self, prefix: "SourceUri") -> bool:
        """Return whether this is the prefix or lies below it, by whole segments.

        >>> SourceUri.parse("s3://data/a/b").is_under(SourceUri.parse("s3://data/a/"))
        True
        >>> SourceUri.parse("s3://data/ab").is_under(SourceUri.parse("s3://data/a/"))
        False
        """
        same = (self.scheme, self.container) == (prefix.scheme, prefix.container)
        return same and self.segments[: len(prefix.segments)] == prefix.segments

    def __str__(self) -> str:
        """Return the URI."""
        key = self.key
        if self.scheme == "file":
            key = quote(key, safe=_SAFE_IN_FILE, errors="surrogateescape")
        return f"{self.scheme}://{self.container}/{key}"


def check_path(uri: SourceUri) -> None:
    """Check that a path of this machine can be handed to a store. It may be one that no URI is written with.

    Raises:
        SourceUriError: it is not UTF-8, or has control characters.
    """
    if _UNREADABLE.search(uri.key):
        raise SourceUriError(f"expected a path in UTF-8 without control characters; got {uri}: rename it")


def _check_key(key: str, text: str) -> None:
    if any(segment in ("", ".", "..") for segment in key.split("/")) and key:
        raise SourceUriError(f"expected a path without empty parts, . and ..; got {text!r:.100}: {_ADVICE}")
    if not key.isprintable() or "\\" in key:
        raise SourceUriError(f"expected a path of printable characters, without \\; got {text!r:.100}: {_ADVICE}")
