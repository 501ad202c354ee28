"""What the service keeps: assessments, and of each shard its place, its digest and its profile.

SQLite in WAL mode by default; `synchronous=FULL` writes a commit to the disk before it returns, so a shard that was
acknowledged survives a crash. All checks of a new shard against those stored run in the transaction that inserts it,
and writers take turns (BEGIN IMMEDIATE; on other databases, a lock on the assessment's row), so of two shards that
overlap only one gets in.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from app.database import ASSESSMENTS, SHARD_COLUMNS, SHARDS, make_engine
from app.migrations import SchemaState, read_state, upgrade
from app.problems import ProblemError
from app.records import Assessment, Shard, check_fits, check_same
from app.settings import Settings


class Store:
    """The database; every method blocks, so the service calls it in a worker thread."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the connection pool; nothing is opened yet."""
        self._engine = make_engine(settings)

    def migrate(self) -> SchemaState:
        """Bring the tables up to date and return where they stand; safe in several processes at once."""
        return upgrade(self._engine)

    def schema_state(self) -> SchemaState:
        """Return where the tables stand.

        Raises:
            sqlalchemy.exc.OperationalError: the database is out of reach.
        """
        with self._engine.connect() as connection:
            return read_state(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def check(self) -> None:
        """Read something, so that a database out of reach shows.

        Raises:
            sqlalchemy.exc.OperationalError: it does.
        """
        with self._engine.connect() as connection:
            connection.execute(sa.select(ASSESSMENTS.c.number).limit(1)).all()

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
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        values = {
            "id": secrets.token_hex(8),
            "name": name,
            "created_at": now,
            "changed_at": now,
            "batch_sizes": list(batch_sizes),
            "method": method,
            "feature_axis": feature_axis,
            "sample_order": order,
        }
        with self._writing() as connection:
            insert = ASSESSMENTS.insert().values(values).returning(ASSESSMENTS)
            return _to_assessment(connection.execute(insert).mappings().one())

    def list_assessments(self, *, limit: int, before: int | None) -> list[Assessment]:
        """Return at most `limit` assessments, newest first, those numbered below `before`."""
        query = sa.select(ASSESSMENTS).order_by(ASSESSMENTS.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(ASSESSMENTS.c.number < before)
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
            delete = ASSESSMENTS.delete().where(ASSESSMENTS.c.id == assessment_id)
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
                    check_same(other, digest=shard.digest, first_row=shard.first_row)
                    return False
            check_fits(shard, stored)
            if len(stored) >= max_shards:
                raise ProblemError(
                    "too-large",
                    f"expected at most {max_shards} shards in an assessment; got one more; "
                    "send larger shards or raise NORMGAUGE_MAX_SHARDS",
                )
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
                    profile=profile,
                )
            )
            return True

    def load_profiles(self, assessment: Assessment, shards: Sequence[Shard]) -> Iterator[bytes]:
        """Yield the profiles of these shards, and of none that came since, one at a time.

        Raises:
            ProblemError: the assessment was deleted meanwhile ("assessment-not-found").
        """
        profile = sa.select(SHARDS.c.profile).where(SHARDS.c.assessment == assessment.number)
        with self._engine.connect() as connection:
            for shard in shards:
                query = profile.where(SHARDS.c.shard_index == shard.index)
                blob = connection.execute(query).scalar_one_or_none()
                if blob is None:
                    raise _not_found(assessment.id)
                yield blob


def _find_assessment(connection: Connection, assessment_id: str, *, lock: bool = False) -> Assessment:
    query = sa.select(ASSESSMENTS).where(ASSESSMENTS.c.id == assessment_id)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _not_found(assessment_id)
    return _to_assessment(row)


def _find_shards(connection: Connection, number: int) -> list[Shard]:
    query = sa.select(*SHARD_COLUMNS).where(SHARDS.c.assessment == number)
    rows = connection.execute(query.order_by(SHARDS.c.first_row)).mappings()
    return [
        Shard(
            index=row["shard_index"],
            sample_shape=tuple(row["sample_shape"]),
            **{name: row[name] for name in ("first_row", "n_rows", "digest", "size_bytes", "dtype", "labelled")},
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
