"""What a shard is called by: a digest of its bytes, Content-Encoding undone.

So the same shard is the same whether it came compressed or not. BLAKE3 rather than SHA-256: it is as good a name for
content (256 bits, collision resistant) and some five times as fast, so that it costs an upload little.
"""

from blake3 import blake3


class ContentIdentity:
    """The identity of the bytes given so far; its text is "blake3:" and 64 hexadecimal digits.

    >>> identity = ContentIdentity()
    >>> identity.update(b"abc")
    >>> str(identity)
    'blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85'
    """

    def __init__(self) -> None:
        self._digest = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; other threads run meanwhile."""
        self._digest.update(data)

    def __str__(self) -> str:
        return f"blake3:{self._digest.hexdigest()}"
