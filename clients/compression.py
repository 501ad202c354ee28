"""Content-Encoding of what is sent: pieces in, compressed pieces out; and the digest of them."""

import base64
import hashlib
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from assessor import SettingError

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

ENCODINGS = ("zstd", "gzip")
AUTO = "auto"

# zstd's first level takes 2 to 4 ns a byte of what shrinks, twice where a digest goes ahead; a gigabit network takes 8
# to send it. So what shrinks to half arrives sooner on networks up to about that fast.
_PAYS_BELOW = 0.5
_TRIED_BYTES = 2 * 2**20

_LEVEL = 1
"""Of both: the fastest, since it is the time until the shard is there that is to be saved."""


@dataclass(frozen=True)
class Sending:
    """How shards are sent.

    Attributes:
        compress: "zstd", "gzip" or None; or "auto": zstd for those whose first 2 MiB shrink to half, as counts, masks
            and padded or sparse samples do. Measured noise in floating point hardly shrinks.
        content_digest: send the SHA-256 of the body ahead of it (Content-Digest, RFC 9530), so that the service refuses
            one that was damaged on the way. It costs one more pass over data that can be read twice; a stream that
            cannot is sent without.

    Raises:
        SettingError: an encoding that the service does not know.
    """

    compress: str | None = None
    content_digest: bool = True

    def __post_init__(self) -> None:
        """Check the encoding."""
        if self.compress is not None and self.compress not in (*ENCODINGS, AUTO):
            known = ", ".join((*ENCODINGS, AUTO))
            raise SettingError(f"expected compress among {known} or None; got {self.compress!r:.80}")


AS_IS = Sending(content_digest=False)
CHECKED = Sending()


def compressed(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the pieces, compressed; the same pieces give the same bytes.

    >>> zstd.decompress(b"".join(compressed([b"ab", b"c"], "zstd")))
    b'abc'
    """
    encoder = zstd.ZstdCompressor(_LEVEL) if encoding == "zstd" else zlib.compressobj(_LEVEL, wbits=16 + zlib.MAX_WBITS)
    for piece in pieces:
        if part := encoder.compress(piece):
            yield part
    yield encoder.flush()


def pays(pieces: Iterable[bytes]) -> bool:
    """Return whether sending is shorter for compressing, as the first 2 MiB of the pieces tell.

    >>> pays([bytes(4096)]), pays([bytes(range(256))])
    (True, False)
    """
    before = after = 0
    encoder = zstd.ZstdCompressor(_LEVEL)
    for piece in pieces:
        before += len(piece)
        after += len(encoder.compress(piece))
        if before >= _TRIED_BYTES:
            break
    return after + len(encoder.flush()) < _PAYS_BELOW * before


def content_digest(pieces: Iterable[bytes]) -> str:
    """Return the value of a Content-Digest field over the pieces, as sent.

    >>> content_digest([b"hello ", b"world"])
    'sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:'
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
