"""API keys in the database: made, listed, revoked, looked up with every call.

Nothing of a key is kept in memory between calls, so that one revoked is refused at once by every replica. When it was
last used is gathered in memory and written now and then, since a write for every call would cost more than the call.
"""

from dataclasses import dataclass
from datetime import datetime
from threading import Lock

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from app.auth.tokens import Token
from app.database import API_KEYS, ASSESSMENTS
from app.problems import ProblemError
from app.times import as_text, now_text

CHALLENGE = 'Bearer realm="normgauge"'
_REFUSED = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}


class UnknownKeyError(Exception):
    """No key has this id."""


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret; moments as in `app.times`, None: never, or not yet."""

    id: str
    name: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now_text() else "active"


_COLUMNS = [column for column in API_KEYS.c if column.name != "secret_sha256"]


class Keys:
    """The table of keys; every method blocks."""

    def __init__(self, engine: Engine) -> None:
        self._reading = engine
        self._writing = engine.execution_options(immediate=True)
        self._used: dict[str, str] = {}
        self._lock = Lock()

    def create(self, name: str, *, expires_at: datetime | None = None, adopt: bool = False) -> tuple[ApiKey, Token]:
        """Return a new key and its token, which is not kept.

        Args:
            name: for people; need not be unique.
            expires_at: from when on it is refused; None: never.
            adopt: give it the assessments that were made without a key.
        """
        token = Token.make()
        values = {
            "id": token.id,
            "name": name,
            "secret_sha256": token.digest,
            "created_at": now_text(),
            "expires_at": None if expires_at is None else as_text(expires_at),
        }
        with self._writing.begin() as connection:
            row = connection.execute(API_KEYS.insert().values(values).returning(*_COLUMNS)).mappings().one()
            if adopt:
                orphans = ASSESSMENTS.update().where(ASSESSMENTS.c.key_id.is_(None))
                connection.execute(orphans.values(key_id=token.id))
        return ApiKey(**row), token

    def list(self) -> list[ApiKey]:
        """Return all keys, the oldest first; revoked ones too, since assessments are theirs."""
        with self._reading.connect() as connection:
            rows = connection.execute(sa.select(*_COLUMNS).order_by(API_KEYS.c.created_at, API_KEYS.c.id)).mappings()
            return [ApiKey(**row) for row in rows]

    def revoke(self, key_id: str) -> ApiKey:
        """Refuse a key from now on, in all replicas; return it. One that is revoked stays as it is.

        Raises:
            UnknownKeyError: there is none of this id.
        """
        with self._writing.begin() as connection:
            here = API_KEYS.c.id == key_id
            update = API_KEYS.update().where(here, API_KEYS.c.revoked_at.is_(None))
            connection.execute(update.values(revoked_at=now_text()))
            row = connection.execute(sa.select(*_COLUMNS).where(here)).mappings().one_or_none()
        if row is None:
            raise UnknownKeyError(key_id)
        return ApiKey(**row)

    def exist(self) -> bool:
        """Return whether a key was ever made: from then on, also when all are revoked, every call needs one."""
        with self._reading.connect() as connection:
            return connection.execute(sa.select(API_KEYS.c.id).limit(1)).first() is not None

    def check(self, text: str) -> ApiKey:
        """Return the key of a token's text.

        Raises:
            ProblemError: it is no token, or of no key, or the key is expired or revoked ("unauthenticated"); the last
                two are told only to who has the secret.
        """
        token = Token.read(text)
        if token is None:
            raise ProblemError(
                "unauthenticated",
                "expected an API key of the form ng_<id>_<secret>; got another text; send the key as it was printed "
                "when it was made",
                headers=_REFUSED,
            )
        with self._reading.connect() as connection:
            row = connection.execute(sa.select(API_KEYS).where(API_KEYS.c.id == token.id)).mappings().one_or_none()
        # Also where there is no such id, so that an answer takes as long with and without.
        matches = token.matches(None if row is None else row["secret_sha256"])
        if row is None or not matches:
            raise ProblemError(
                "unauthenticated",
                "expected an API key of this service; got one that it does not know; ask the operator for a key",
                headers=_REFUSED,
            )
        key = ApiKey(**{column.name: row[column.name] for column in _COLUMNS})
        if key.state != "active":
            since = key.revoked_at or key.expires_at
            raise ProblemError(
                "unauthenticated",
                f"expected a key that may be used; this one is {key.state} since {since}; ask the operator for another",
                headers=_REFUSED,
            )
        with self._lock:
            self._used[key.id] = now_text()
        return key

    def write_uses(self) -> None:
        """Write when the keys were last used."""
        with self._lock:
            used, self._used = self._used, {}
        if not used:
            return
        last = API_KEYS.c.last_used_at
        with self._writing.begin() as connection:
            for key_id, moment in sorted(used.items()):
                update = API_KEYS.update().where(API_KEYS.c.id == key_id, last.is_(None) | (last < moment))
                connection.execute(update.values(last_used_at=moment))
