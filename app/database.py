"""The tables, and how a SQLite file is opened so that a commit is durable and writers take turns."""

import sqlite3

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import Settings

METADATA = sa.MetaData()

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
    sa.Column("sample_order", sa.JSON, nullable=False),
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
)

SHARD_COLUMNS = [column for column in SHARDS.c if column.name not in ("assessment", "profile")]


def make_engine(settings: Settings) -> Engine:
    """Return the engine of the settings' database; nothing is opened yet.

    On SQLite, `engine.execution_options(immediate=True)` takes the write lock when a transaction begins.
    """
    url = sa.make_url(settings.database_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = sa.create_engine(
        url,
        connect_args={"timeout": settings.busy_timeout_s} if is_sqlite else {},
        pool_size=settings.worker_threads,
        max_overflow=settings.worker_threads,
    )
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # BEGIN is ours, below
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
