"""The tables as the newest migration leaves them, and how SQLite and PostgreSQL are opened.

Both are set so that a commit is durable when it returns. The tables are made and changed by `app.migrations` alone.
"""

import sqlite3
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import Settings

METADATA = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)

API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("expires_at", sa.String(32)),
    sa.Column("revoked_at", sa.String(32)),
    sa.Column("last_used_at", sa.String(32)),
)

ASSESSMENTS = sa.Table(
    "assessments",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("batch_sizes", sa.JSON, nullable=False),
    sa.Column("method", sa.String(100), nullable=False),
    sa.Column("feature_axis", sa.String(20), nullable=False),
    sa.Column("nonfinite", sa.String(20), nullable=False, server_default="raise"),
    sa.Column("sample_order", sa.JSON, nullable=False),
    # Whose it is; null: made without a key, while none was configured.
    sa.Column("key_id", sa.String(16), sa.ForeignKey("api_keys.id", name="fk_assessments_key_id")),
    # When a shard last came in: retention counts from here.
    sa.Column("changed_at", sa.String(32), nullable=False, server_default=""),
    sa.Column("n_shards", sa.Integer, nullable=False, server_default="0"),
    sa.Index(None, "key_id", "number"),
    sa.Index(None, "changed_at"),
    sqlite_autoincrement=True,  # a number is never given twice, so a cursor stays valid
)

SHARDS = sa.Table(
    "shards",
    METADATA,
    sa.Column(
        "assessment",
        sa.Integer,
        sa.ForeignKey("assessments.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("shard_index", sa.Integer, primary_key=True),
    sa.Column("first_row", sa.BigInteger, nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sample_shape", sa.JSON, nullable=False),
    sa.Column("dtype", sa.String(20), nullable=False),
    sa.Column("labelled", sa.Boolean, nullable=False),
    # Last, so that SQLite reads the other columns without it.
    sa.Column("profile", sa.LargeBinary, nullable=False),
    sa.Index(None, "assessment", "first_row"),
)

SHARD_COLUMNS = [column for column in SHARDS.c if column.name not in ("assessment", "profile")]


_SQLITE_CACHE_KIB = 256
_SQLITE_WRITING_CACHE_KIB = 4096
"""While a transaction writes: a page that finds no room is written to the log before its end, and then once more."""
_SQLITE_PAGE_BYTES = 1 << 14
"""Most of what is stored are profiles of 0.1 to 2 MB, which pages of the usual 4 KiB cut into several hundred."""


def make_engine(settings: Settings) -> Engine:
    """Return the engine of the settings' database; nothing is opened yet.

    On SQLite, `engine.execution_options(immediate=True)` takes the write lock when a transaction begins; PostgreSQL
    locks rows, so there the option does nothing.
    """
    url = sa.make_url(settings.database_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = sa.create_engine(
        url if is_sqlite else url.set(drivername="postgresql+psycopg"),
        connect_args={"timeout": settings.busy_timeout_s} if is_sqlite else _postgresql_arguments(settings),
        pool_size=settings.worker_threads,
        max_overflow=settings.worker_threads + 8,  # for what runs beside the worker threads: keys, sweeping, reports
        hide_parameters=True,  # no name and no digest of a secret in a log
        pool_pre_ping=not is_sqlite,  # a server that was restarted costs no request
    )
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "checkin", _shrink_sqlite)
    else:
        event.listen(engine, "connect", _set_up_postgresql(settings))
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # BEGIN is ours, below
    connection.execute(f"PRAGMA page_size = {_SQLITE_PAGE_BYTES}")  # of a new file; others keep theirs
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Each connection keeps its own; profiles, which are read once, would fill the 2 MB of each that are usual.
    connection.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KIB}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    if immediate:
        connection.exec_driver_sql(f"PRAGMA cache_size = -{_SQLITE_WRITING_CACHE_KIB}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _shrink_sqlite(connection: DBAPIConnection | None, _entry: ConnectionPoolEntry) -> None:
    if connection is not None:  # else it was found to be broken
        assert isinstance(connection, sqlite3.Connection)
        connection.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KIB}")


def _postgresql_arguments(settings: Settings) -> dict[str, object]:
    """Return libpq's arguments, without those that the URL gives itself."""
    arguments: dict[str, object] = {
        "application_name": "normgauge",
        "connect_timeout": max(2, round(settings.busy_timeout_s)),
    }
    given = sa.make_url(settings.database_url).query
    return {name: value for name, value in arguments.items() if name not in given}


def _set_up_postgresql(settings: Settings) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    # A role or server set to synchronous_commit=off would lose acknowledged shards; stricter values stay.
    query = (
        f"SELECT set_config('lock_timeout', '{round(settings.busy_timeout_s * 1000)}', false), "
        "set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false)"
    )

    def set_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(query)
        cursor.close()
        connection.commit()

    return set_up
