"""Digests of bodies: what a shard is called by, and what a client says of the bytes it sends.

A shard's identity is over its bytes with Content-Encoding undone, so the same shard is the same whether it came
compressed or not. It tells a shard that is sent again from another one, as rsync tells files: XXH3 of 128 bits, which
no accident makes equal for two shards, in a sixth of BLAKE3's time. Somebody may make two shards on purpose that XXH3
takes for one; where whoever makes the data is not trusted by whoever sends it, NORMGAUGE_SHARD_DIGEST=blake3.

Content-Digest (RFC 9530) is over the bytes as they come, encoded; a client may send it to have them checked on arrival.
Repr-Digest is not looked at: the service keeps no representation that it could be compared with.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import Any

from blake3 import blake3
from xxhash import xxh3_128

from app.problems import ProblemError

_SIZES = {"sha-256": 32, "sha-512": 64}
_MEMBER = re.compile(r'[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[a-z*][a-z0-9_.*-]*(?:=[^,;"]*)?)*[ \t]*')
"""A member of a structured dictionary whose value is bytes. Source: RFC 9651 3.2, RFC 9530 2."""


IDENTITIES: dict[str, Callable[[], Any]] = {"xxh3-128": xxh3_128, "blake3": blake3}
"""By the name that stands before the colon of a shard's digest."""


class ContentIdentity:
    """The identity of the bytes given so far; its text is the kind, a colon and hexadecimal digits.

    Args:
        kind: of `IDENTITIES`, or of a digest that this one is to be compared with.

    >>> identity = ContentIdentity("blake3")
    >>> identity.update(b"abc")
    >>> str(identity)
    'blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85'
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind.partition(":")[0]
        self._digest = IDENTITIES[self._kind]()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; other threads run meanwhile."""
        self._digest.update(data)

    def __str__(self) -> str:
        return f"{self._kind}:{self._digest.hexdigest()}"


class ContentDigests:
    """The digests that a client announced of the bytes it sends; none where it sent no Content-Digest.

    Args:
        fields: the request's Content-Digest fields.

    Raises:
        ProblemError: a field that is none, or a digest of another length ("bad-content-digest").
    """

    def __init__(self, fields: Iterable[str]) -> None:
        self._expected = _parse(fields)
        self._digests = {name: hashlib.new(name.replace("-", "")) for name in self._expected}

    def __bool__(self) -> bool:
        return bool(self._expected)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; other threads run meanwhile."""
        for digest in self._digests.values():
            digest.update(data)

    def check(self) -> None:
        """Check that what came is what was announced.

        Raises:
            ProblemError: it is not ("content-digest-mismatch").
        """
        for name, expected in self._expected.items():
            came = self._digests[name].digest()
            if not hmac.compare_digest(came, expected):
                raise ProblemError(
                    "content-digest-mismatch",
                    f"expected a body whose {name} is {_encoded(expected)}, as Content-Digest says; got one with "
                    f"{_encoded(came)}; it was damaged on the way, or the digest is not of the bytes as sent: send "
                    "it again",
                )


def _parse(fields: Iterable[str]) -> dict[str, bytes]:
    """Return the digests of the algorithms that are checked; others are for other recipients (RFC 9530 2)."""
    expected: dict[str, bytes] = {}
    for member in (part for field in fields for part in field.split(",")):
        parsed = _MEMBER.fullmatch(member)
        if parsed is None:
            raise _bad(f"expected Content-Digest as in sha-256=:<base64>:; got {member.strip()!r:.120}")
        name, text = parsed.groups()
        if name not in _SIZES:
            continue
        try:
            value = base64.b64decode(text, validate=True)
        except binascii.Error:
            value = b""
        if len(value) != _SIZES[name]:
            raise _bad(f"expected {_SIZES[name]} bytes in base64 for {name}; got {text!r:.120}")
        expected[name] = value
    return expected


def _bad(text: str) -> ProblemError:
    return ProblemError("bad-content-digest", f"{text}; see RFC 9530, or leave the header out")


def _encoded(value: bytes) -> str:
    return f":{base64.b64encode(value).decode()}:"
