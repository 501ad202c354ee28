"""What the service keeps: assessments, and of each shard its place, its digest and its profile.

SQLite in WAL mode by default; `synchronous=FULL` writes a commit to the disk before it returns, so a shard that was
acknowledged survives a crash. All checks of a new shard against those stored run in the transaction that inserts it,
and writers take turns (BEGIN IMMEDIATE; on other databases, a lock on the assessment's row), so of two shards that
overlap only one gets in.
"""

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from app.problems import ProblemError
from app.settings import Settings
from assessor import OverlapError, Profile, ShapeError
from assessor.errors import LabelError

_METADATA = sa.MetaData()

_ASSESSMENTS = sa.Table(
    "assessments",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("batch_sizes", sa.JSON, nullable=False),
    sa.Column("method", sa.String(100), nullable=False),
    sa.Column("feature_axis", sa.String(20), nullable=False),
    sa.Column("sample_order", sa.JSON, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice, so a cursor stays valid
)

_SHARDS = sa.Table(
    "shards",
    _METADATA,
    sa.Column(
        "assessment",
        sa.Integer,
        sa.ForeignKey("assessments.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("shard_index", sa.Integer, primary_key=True),
    sa.Column("first_row", sa.BigInteger, nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sample_shape", sa.JSON, nullable=False),
    sa.Column("dtype", sa.String(20), nullable=False),
    sa.Column("labelled", sa.Boolean, nullable=False),
    # Last, so that SQLite reads the other columns without it.
    sa.Column("profile", sa.LargeBinary, nullable=False),
)

_SHARD_COLUMNS = [column for column in _SHARDS.c if column.name not in ("assessment", "profile")]


@dataclass(frozen=True)
class Assessment:
    """An assessment as it was created; `number` orders them in time."""

    number: int
    id: str
    name: str
    created_at: str
    batch_sizes: tuple[int, ...]
    method: str
    feature_axis: str
    order: dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """A stored shard without its profile; its rows are [first_row, first_row + n_rows)."""

    index: int
    first_row: int
    n_rows: int
    sha256: str
    size_bytes: int
    sample_shape: tuple[int, ...]
    dtype: str
    labelled: bool

    @property
    def end_row(self) -> int:
        """Return the row after its last."""
        return self.first_row + self.n_rows

    @classmethod
    def of(cls, profile: Profile, *, index: int, sha256: str, size_bytes: int) -> "Shard":
        """Return the description of a shard that was profiled in one piece."""
        ((first_row, end_row),) = profile.spans
        return cls(
            index=index,
            first_row=first_row,
            n_rows=end_row - first_row,
            sha256=sha256,
            size_bytes=size_bytes,
            sample_shape=tuple(profile.sample_shape),
            dtype=profile.dtype,
            labelled=profile.labelled,
        )

    def check_like(self, shape: Sequence[int]) -> None:
        """Check that samples of `shape` can join this shard's.

        Raises:
            ShapeError: they have another shape.
        """
        if tuple(shape) != self.sample_shape:
            raise ShapeError(
                f"expected samples of shape {list(self.sample_shape)}, as in shard {self.index} of "
                f"this assessment; got {list(shape)}; send shards of one shape, or create "
                "another assessment for these"
            )


class Store:
    """The database; every method blocks, so the service calls it in a worker thread."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the connection pool; nothing is opened before `create_tables`."""
        url = sa.make_url(settings.database_url)
        is_sqlite = url.get_backend_name() == "sqlite"
        arguments = {"timeout": settings.busy_timeout_s} if is_sqlite else {}
        self._engine = sa.create_engine(
            url,
            connect_args=arguments,
            pool_size=settings.worker_threads,
            max_overflow=settings.worker_threads,
        )
        if is_sqlite:
            event.listen(self._engine, "connect", _set_up_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    def create_tables(self) -> None:
        """Create what does not exist yet."""
        with self._writing() as connection:
            _METADATA.create_all(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def check(self) -> None:
        """Read something, so that a database out of reach shows.

        Raises:
            sqlalchemy.exc.OperationalError: it does.
        """
        with self._engine.connect() as connection:
            connection.execute(sa.select(_ASSESSMENTS.c.number).limit(1)).all()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.execution_options(immediate=True).begin() as connection:
            yield connection

    def create_assessment(
        self,
        *,
        name: str,
        batch_sizes: Sequence[int],
        method: str,
        feature_axis: str,
        order: dict[str, Any],
    ) -> Assessment:
        """Return a new assessment, stored."""
        values = {
            "id": secrets.token_hex(8),
            "name": name,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "batch_sizes": list(batch_sizes),
            "method": method,
            "feature_axis": feature_axis,
            "sample_order": order,
        }
        with self._writing() as connection:
            insert = _ASSESSMENTS.insert().values(values).returning(_ASSESSMENTS)
            return _to_assessment(connection.execute(insert).mappings().one())

    def list_assessments(self, *, limit: int, before: int | None) -> list[Assessment]:
        """Return at most `limit` assessments, newest first, those numbered below `before`."""
        query = sa.select(_ASSESSMENTS).order_by(_ASSESSMENTS.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(_ASSESSMENTS.c.number < before)
        with self._engine.connect() as connection:
            return [_to_assessment(row) for row in connection.execute(query).mappings()]

    def get_assessment(self, assessment_id: str) -> tuple[Assessment, list[Shard]]:
        """Return an assessment and its shards by first row.

        Raises:
            ProblemError: there is none of this id ("assessment-not-found").
        """
        with self._engine.connect() as connection:
            assessment = _find_assessment(connection, assessment_id)
            return assessment, _find_shards(connection, assessment.number)

    def delete_assessment(self, assessment_id: str) -> None:
        """Remove an assessment and all its shards.

        Raises:
            ProblemError: there is none of this id ("assessment-not-found").
        """
        with self._writing() as connection:
            delete = _ASSESSMENTS.delete().where(_ASSESSMENTS.c.id == assessment_id)
            if connection.execute(delete).rowcount == 0:
                raise _not_found(assessment_id)

    def add_shard(self, assessment_id: str, shard: Shard, profile: bytes, *, max_shards: int) -> bool:
        """Store a shard, durably before this returns; return whether it is new.

        The same bytes at the same rows under the same index are accepted again and change nothing.

        Raises:
            ProblemError: no such assessment, other bytes or rows under this index, too many shards.
            OverlapError: another shard has one of its rows.
            ShapeError, LabelError: it is unlike the shards stored.
        """
        with self._writing() as connection:
            assessment = _find_assessment(connection, assessment_id, lock=True)
            stored = _find_shards(connection, assessment.number)
            for other in stored:
                if other.index == shard.index:
                    check_same(other, sha256=shard.sha256, first_row=shard.first_row)
                    return False
            _check_fits(shard, stored)
            if len(stored) >= max_shards:
                raise ProblemError(
                    "too-large",
                    f"expected at most {max_shards} shards in an assessment; got one more; "
                    "send larger shards or raise NORMGAUGE_MAX_SHARDS",
                )
            connection.execute(
                _SHARDS.insert().values(
                    assessment=assessment.number,
                    shard_index=shard.index,
                    first_row=shard.first_row,
                    n_rows=shard.n_rows,
                    sha256=shard.sha256,
                    size_bytes=shard.size_bytes,
                    sample_shape=list(shard.sample_shape),
                    dtype=shard.dtype,
                    labelled=shard.labelled,
                    profile=profile,
                )
            )
            return True

    def load_profiles(self, assessment: Assessment, shards: Sequence[Shard]) -> Iterator[bytes]:
        """Yield the profiles of these shards, and of none that came since, one at a time.

        Raises:
            ProblemError: the assessment was deleted meanwhile ("assessment-not-found").
        """
        profile = sa.select(_SHARDS.c.profile).where(_SHARDS.c.assessment == assessment.number)
        with self._engine.connect() as connection:
            for shard in shards:
                query = profile.where(_SHARDS.c.shard_index == shard.index)
                blob = connection.execute(query).scalar_one_or_none()
                if blob is None:
                    raise _not_found(assessment.id)
                yield blob


def check_same(stored: Shard, *, sha256: str, first_row: int | None) -> None:
    """Check that what came under a stored shard's index is that shard.

    Raises:
        ProblemError: other bytes, or another first row ("shard-conflict").
    """
    advice = "take another index, or delete the assessment and begin again"
    if stored.sha256 != sha256:
        raise ProblemError(
            "shard-conflict",
            f"expected the bytes stored as shard {stored.index} (sha256 {stored.sha256}); "
            f"got others (sha256 {sha256}); {advice}",
        )
    if first_row is not None and stored.first_row != first_row:
        raise ProblemError(
            "shard-conflict",
            f"expected shard {stored.index} at first_row {stored.first_row}, where it is stored; "
            f"got first_row {first_row}; {advice}",
        )


def _check_fits(shard: Shard, stored: Sequence[Shard]) -> None:
    for other in stored:
        if shard.first_row < other.end_row and other.first_row < shard.end_row:
            first = max(shard.first_row, other.first_row)
            last = min(shard.end_row, other.end_row) - 1
            raise OverlapError(
                f"expected rows that no shard has; got rows {shard.first_row} to "
                f"{shard.end_row - 1} in shard {shard.index}, of which {first} to {last} came in "
                f"shard {other.index}; pass the right first_row, or leave this shard out"
            )
    if stored:
        stored[0].check_like(shard.sample_shape)
        if stored[0].labelled != shard.labelled:
            with_labels, without = sorted((stored[0], shard), key=lambda s: not s.labelled)
            raise LabelError(
                "expected labels in every shard or in none; got them in shard "
                f"{with_labels.index} and none in shard {without.index}; send all alike"
            )


def _find_assessment(connection: Connection, assessment_id: str, *, lock: bool = False) -> Assessment:
    query = sa.select(_ASSESSMENTS).where(_ASSESSMENTS.c.id == assessment_id)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _not_found(assessment_id)
    return _to_assessment(row)


def _find_shards(connection: Connection, number: int) -> list[Shard]:
    query = sa.select(*_SHARD_COLUMNS).where(_SHARDS.c.assessment == number)
    rows = connection.execute(query.order_by(_SHARDS.c.first_row)).mappings()
    return [
        Shard(
            index=row["shard_index"],
            sample_shape=tuple(row["sample_shape"]),
            **{name: row[name] for name in ("first_row", "n_rows", "sha256", "size_bytes", "dtype", "labelled")},
        )
        for row in rows
    ]


def _not_found(assessment_id: str) -> ProblemError:
    return ProblemError(
        "assessment-not-found",
        f"expected the id of an assessment; got {assessment_id!r}, which does not exist or was "
        "deleted; GET /v1/assessments lists those that do",
    )


def _to_assessment(row: RowMapping) -> Assessment:
    return Assessment(
        number=row["number"],
        id=row["id"],
        name=row["name"],
        created_at=row["created_at"],
        batch_sizes=tuple(row["batch_sizes"]),
        method=row["method"],
        feature_axis=row["feature_axis"],
        order=row["sample_order"],
    )


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # BEGIN is ours, below
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
