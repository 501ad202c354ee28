"""What the service keeps: assessments, and of each shard its place, its digest and its profile.

A commit is on the disk before it returns, so a shard that was acknowledged survives a crash. All checks of a new shard
against those stored run in the transaction that inserts it, and writers take turns (BEGIN IMMEDIATE on SQLite, a lock
on the assessment's row on PostgreSQL), so of two shards that overlap only one gets in.

A `Store` sees the assessments of one owner: those of one API key, or those made without one.
"""

import copy
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.exc import OperationalError

from app.database import API_KEYS, ASSESSMENTS, SHARD_COLUMNS, SHARDS, make_engine
from app.migrations import SchemaState, read_state, upgrade
from app.problems import ProblemError
from app.records import Assessment, Shard, check_fits, check_same
from app.settings import Settings
from app.times import DAY_S, later_text, now_text
from assessor.profile_file import ProfileFile


class Store:
    """The database as one owner sees it; every method blocks, so the service calls it in a worker thread."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the connection pool; nothing is opened yet. The owner is no one: see `owned_by`."""
        self.engine: Engine = make_engine(settings)
        self.owner: str | None = None
        self._settings = settings

    def owned_by(self, key_id: str | None) -> "Store":
        """Return the same database as the owner of this key sees it; None: what was made without a key."""
        other = copy.copy(self)
        other.owner = key_id
        return other

    def migrate(self) -> SchemaState:
        """Bring the tables up to date and return where they stand; safe in several processes at once."""
        return upgrade(self.engine)

    def schema_state(self) -> SchemaState:
        """Return where the tables stand.

        Raises:
            sqlalchemy.exc.OperationalError: the database is out of reach.
        """
        with self.engine.connect() as connection:
            return read_state(connection)

    def close(self) -> None:
        """Close all connections, for every owner."""
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that may write; it is committed at the block's end."""
        with self.engine.execution_options(immediate=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                # A process that stands still in mid-transaction must not hold its locks for good.
                idle_ms = round(self._settings.busy_timeout_s * 1000)
                connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {idle_ms}")
            yield connection

    def is_mine(self) -> sa.ColumnElement[bool]:
        """Return the condition that an assessment is this owner's: every query on assessments has it."""
        column = ASSESSMENTS.c.key_id
        return column.is_(None) if self.owner is None else column == self.owner

    def create_assessment(
        self,
        *,
        name: str,
        batch_sizes: Sequence[int],
        method: str,
        feature_axis: str,
        order: dict[str, Any],
        nonfinite: str = "raise",
    ) -> Assessment:
        """Return a new assessment, stored.

        Raises:
            ProblemError: the owner has as many as one may have ("too-many-assessments").
        """
        now = now_text()
        values = {
            "id": secrets.token_hex(8),
            "name": name,
            "created_at": now,
            "changed_at": now,
            "key_id": self.owner,
            "batch_sizes": list(batch_sizes),
            "method": method,
            "feature_axis": feature_axis,
            "nonfinite": nonfinite,
            "sample_order": order,
        }
        with self.writing() as connection:
            # Two at once of one key take turns, so that both are counted.
            connection.execute(sa.select(API_KEYS.c.id).where(API_KEYS.c.id == self.owner).with_for_update())
            count = connection.execute(sa.select(sa.func.count()).where(self.is_mine())).scalar_one()
            if count >= self._settings.max_assessments:
                raise ProblemError(
                    "too-many-assessments",
                    f"expected at most {self._settings.max_assessments} assessments of one key; got one more; "
                    "delete some, or raise NORMGAUGE_MAX_ASSESSMENTS",
                )
            insert = ASSESSMENTS.insert().values(values).returning(ASSESSMENTS)
            return self._to_assessment(connection.execute(insert).mappings().one())

    def list_assessments(self, *, limit: int, before: int | None) -> list[Assessment]:
        """Return at most `limit` assessments, newest first, those numbered below `before`."""
        query = sa.select(ASSESSMENTS).where(self.is_mine()).order_by(ASSESSMENTS.c.number.desc()).limit(limit)
        if before is not None:
            # As a long integer: what a client made up may be beyond the column's type.
            query = query.where(ASSESSMENTS.c.number < sa.literal(before, sa.BigInteger))
        with self.engine.connect() as connection:
            return [self._to_assessment(row) for row in connection.execute(query).mappings()]

    def get_assessment(self, assessment_id: str) -> tuple[Assessment, list[Shard]]:
        """Return an assessment and its shards by first row.

        Raises:
            ProblemError: there is none of this id ("assessment-not-found").
        """
        with self.engine.connect() as connection:
            assessment = self.find_assessment(connection, assessment_id)
            return assessment, _find_shards(connection, SHARDS.c.assessment == assessment.number)

    def get_neighbours(self, assessment_id: str, index: int) -> tuple[Assessment, list[Shard]]:
        """Return an assessment and, by first row, its first shard and those stored under `index` and the one before.

        Raises:
            ProblemError: there is none of this id ("assessment-not-found").
        """
        with self.engine.connect() as connection:
            assessment = self.find_assessment(connection, assessment_id)
            of_it = SHARDS.c.assessment == assessment.number
            first = _find_shards(connection, of_it, limit=1)
            near = _find_shards(connection, of_it, SHARDS.c.shard_index.in_((index - 1, index)))
            return assessment, first + [shard for shard in near if shard not in first]

    def delete_assessment(self, assessment_id: str) -> None:
        """Remove an assessment and all that hangs on it: shards, profiles, jobs.

        Raises:
            ProblemError: there is none of this id ("assessment-not-found").
        """
        check_storable(assessment_id, _not_found(assessment_id))
        with self.writing() as connection:
            delete = ASSESSMENTS.delete().where(ASSESSMENTS.c.id == assessment_id, self.is_mine())
            if connection.execute(delete).rowcount == 0:
                raise _not_found(assessment_id)

    def remove_expired(self) -> bool:
        """Remove one assessment, of any owner, that has expired; return whether there was one.

        Another process may do so at the same time: each takes one that the other does not have.
        """
        days = self._settings.retention_days
        if not days:
            return False
        expired = sa.select(ASSESSMENTS.c.number).where(ASSESSMENTS.c.changed_at < now_text(ago_s=days * DAY_S))
        with self.engine.connect() as connection:
            # Most often there is none; looking takes no lock.
            if connection.execute(expired.limit(1)).first() is None:
                return False
        with self.writing() as connection:
            number = connection.execute(expired.limit(1).with_for_update(skip_locked=True)).scalar_one_or_none()
            if number is None:
                return False
            connection.execute(ASSESSMENTS.delete().where(ASSESSMENTS.c.number == number))
            return True

    def find_existing(self, assessment_ids: Collection[str]) -> set[str]:
        """Return which of these assessments, of any owner, are there."""
        if not assessment_ids:
            return set()
        query = sa.select(ASSESSMENTS.c.id).where(ASSESSMENTS.c.id.in_(assessment_ids))
        with self.engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def add_shard(
        self,
        assessment_id: str,
        shard: Shard,
        profile: bytes | ProfileFile,
        *,
        max_shards: int,
        also: Callable[[Connection], None] | None = None,
    ) -> bool:
        """Store a shard, durably before this returns; return whether it is new.

        The same bytes at the same rows under the same index are accepted again and change nothing.

        Args:
            assessment_id: of the assessment.
            shard, profile: what is stored; SQLite takes a profile piece by piece, without a copy of the whole.
            max_shards: most shards in the assessment.
            also: what else is done in the same transaction; where it raises, nothing is stored.

        Raises:
            ProblemError: no such assessment, other bytes or rows under this index, too many shards (the code says
                which).
            OverlapError: another shard has one of its rows.
            ShapeError, LabelError: it is unlike the shards stored.
        """
        with self.writing() as connection:
            assessment = self.find_assessment(connection, assessment_id, lock=True)
            if also is not None:
                also(connection)
            of_it = SHARDS.c.assessment == assessment.number
            same = _find_shards(connection, of_it, SHARDS.c.shard_index == shard.index)
            if same:
                check_same(same[0], digest=shard.digest, first_row=shard.first_row)
                return False
            # Those stored do not overlap, so of all that begin before the end of this one only the last can.
            first = _find_shards(connection, of_it, limit=1)
            last = _find_shards(connection, of_it, SHARDS.c.first_row < shard.end_row, limit=1, backwards=True)
            check_fits(shard, [*first, *last])
            self._check_counts(connection, assessment, max_shards=max_shards)
            _insert(connection, assessment, shard, profile)
            touch = ASSESSMENTS.update().where(ASSESSMENTS.c.number == assessment.number)
            connection.execute(touch.values(changed_at=now_text(), n_shards=ASSESSMENTS.c.n_shards + 1))
            return True

    def load_profiles(self, assessment: Assessment, shards: Sequence[Shard]) -> Iterator[bytes]:
        """Yield the profiles of these shards, and of none that came since, one at a time.

        Raises:
            ProblemError: the assessment was deleted meanwhile ("assessment-not-found").
        """
        profile = sa.select(SHARDS.c.profile).where(SHARDS.c.assessment == assessment.number)
        with self.engine.connect() as connection:
            for shard in shards:
                query = profile.where(SHARDS.c.shard_index == shard.index)
                blob = connection.execute(query).scalar_one_or_none()
                if blob is None:
                    raise _not_found(assessment.id)
                yield blob

    def find_assessment(self, connection: Connection, assessment_id: str, *, lock: bool = False) -> Assessment:
        """Return an assessment within a transaction, its row locked until the end of it where asked for.

        Raises:
            ProblemError: there is none of this id ("assessment-not-found").
        """
        check_storable(assessment_id, _not_found(assessment_id))
        query = sa.select(ASSESSMENTS).where(ASSESSMENTS.c.id == assessment_id, self.is_mine())
        if lock:
            query = query.with_for_update()
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _not_found(assessment_id)
        return self._to_assessment(row)

    def _to_assessment(self, row: RowMapping) -> Assessment:
        days = self._settings.retention_days
        return Assessment(
            number=row["number"],
            id=row["id"],
            name=row["name"],
            created_at=row["created_at"],
            expires_at=later_text(row["changed_at"], days=days) if days else None,
            batch_sizes=tuple(row["batch_sizes"]),
            method=row["method"],
            feature_axis=row["feature_axis"],
            nonfinite=row["nonfinite"],
            order=row["sample_order"],
            n_shards=row["n_shards"],
        )

    def _check_counts(self, connection: Connection, assessment: Assessment, *, max_shards: int) -> None:
        """Check that one more shard may come; on PostgreSQL, as many as come at once may be over a key's limit."""
        if assessment.n_shards >= max_shards:
            raise ProblemError(
                "too-many-shards",
                f"expected at most {max_shards} shards in an assessment; got one more; "
                "send larger shards or raise NORMGAUGE_MAX_SHARDS",
            )
        total = connection.execute(sa.select(sa.func.sum(ASSESSMENTS.c.n_shards)).where(self.is_mine())).scalar_one()
        if total >= self._settings.max_shards_of_key:
            raise ProblemError(
                "too-many-shards-of-key",
                f"expected at most {self._settings.max_shards_of_key} shards of one key in all its assessments; got "
                "one more; delete assessments, send larger shards, or raise NORMGAUGE_MAX_SHARDS_OF_KEY",
            )


def _insert(connection: Connection, assessment: Assessment, shard: Shard, profile: bytes | ProfileFile) -> None:
    pieces = [profile] if isinstance(profile, bytes) else profile
    in_pieces = connection.dialect.name == "sqlite"
    connection.execute(
        SHARDS.insert().values(
            assessment=assessment.number,
            shard_index=shard.index,
            first_row=shard.first_row,
            n_rows=shard.n_rows,
            digest=shard.digest,
            size_bytes=shard.size_bytes,
            sample_shape=list(shard.sample_shape),
            dtype=shard.dtype,
            labelled=shard.labelled,
            profile=sa.func.zeroblob(len(profile)) if in_pieces else b"".join(pieces),
        )
    )
    if in_pieces:
        # The driver would copy the whole, and SQLite once more.
        row = connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one()
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        try:
            with driver.blobopen(SHARDS.name, SHARDS.c.profile.name, row) as blob:
                for piece in pieces:
                    blob.write(piece)
        except sqlite3.Error as error:
            raise OperationalError("writing a profile", None, error) from error  # as SQLAlchemy tells of all others


def _find_shards(
    connection: Connection,
    *conditions: sa.ColumnElement[bool],
    limit: int | None = None,
    backwards: bool = False,
) -> list[Shard]:
    """Return the shards that meet all conditions, by first row."""
    order = SHARDS.c.first_row.desc() if backwards else SHARDS.c.first_row
    rows = connection.execute(sa.select(*SHARD_COLUMNS).where(*conditions).order_by(order).limit(limit)).mappings()
    return [
        Shard(
            index=row["shard_index"],
            sample_shape=tuple(row["sample_shape"]),
            **{name: row[name] for name in ("first_row", "n_rows", "digest", "size_bytes", "dtype", "labelled")},
        )
        for row in rows
    ]


def check_storable(text: str, error: ProblemError) -> None:
    """Raise an error where a text cannot be in the database: PostgreSQL fails on a zero character in a query."""
    if "\0" in text:
        raise error


def _not_found(assessment_id: str) -> ProblemError:
    return ProblemError(
        "assessment-not-found",
        f"expected the id of an assessment; got {assessment_id!r}, which does not exist or was "
        "deleted; GET /v1/assessments lists those that do",
    )
