"""The text of an API key: `ng_<id>_<secret>`, both hexadecimal.

The id finds the row; the secret, 256 random bits, is kept as its SHA-256. A slow hash (argon2, bcrypt) makes guessing
dear where secrets are few, as with passwords that people choose; of 2^256 secrets none is ever guessed, and a slow
hash would only add its time to every call.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

TOKEN_FORM = "ng_<id>_<secret>"
_PATTERN = re.compile(r"ng_([0-9a-f]{12})_([0-9a-f]{64})")
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Token:
    """An API key in plain text; its repr hides the secret."""

    id: str
    secret: str

    @classmethod
    def make(cls) -> "Token":
        """Return a new one."""
        return cls(secrets.token_hex(6), secrets.token_hex(32))

    @classmethod
    def read(cls, text: str) -> "Token | None":
        """Return the token that a text is; None: it is none."""
        match = _PATTERN.fullmatch(text)
        return None if match is None else cls(*match.groups())

    @property
    def digest(self) -> str:
        """What is kept of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, digest: str | None) -> bool:
        """Return whether a digest that was kept is this secret's, in constant time; None: no such id, so it is not."""
        return hmac.compare_digest(self.digest, digest or _NO_DIGEST) and digest is not None

    def __str__(self) -> str:
        """Return the text to hand out, once."""
        return f"ng_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.id!r})"
