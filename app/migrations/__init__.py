"""How the database's tables are made and changed: Alembic migrations, shipped with the package.

`upgrade` runs those that are missing; `SchemaState` says where a database stands. A database that was made before there
were migrations (tables, but no version) is taken over as the first of them. Several processes may start at once: one
runs the migrations under a lock (the write lock on SQLite, an advisory lock on PostgreSQL), the others wait and find
nothing left to do. All migrations of one run are one transaction.

A new migration: `python -m alembic revision --autogenerate -m "what it does"` in a checkout, against a database that is
up to date. It must add to what is there, so that the version before can go on serving while replicas are replaced.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

_FIRST = "0001"
_LOCK = 0x6E6F726D  # any number, the same in every process: "norm" in ASCII
_DDL_WAIT_S = 60
_VERSION_TABLE = sa.table("alembic_version", sa.column("version_num", sa.String))


@dataclass(frozen=True)
class SchemaState:
    """Where a database stands.

    Attributes:
        revision: of the database; None where it was never migrated.
        head: the newest revision that this version of the package knows.
        known: whether `revision` is one that it knows; if not, a newer version migrated the database.
    """

    revision: str | None
    head: str
    known: bool

    @property
    def usable(self) -> bool:
        """Whether the service can work: nothing is missing. A newer schema only adds, so it is usable."""
        return self.revision == self.head or not self.known

    def __str__(self) -> str:
        """Return what to do about it, in a line."""
        if self.revision == self.head:
            return f"database schema {self.revision}, up to date"
        if not self.known:
            return f"database schema {self.revision}, newer than this version's {self.head}: update normgauge"
        come = "was never migrated" if self.revision is None else f"is at {self.revision}"
        return f"expected database schema {self.head}; the database {come}: run normgauge db upgrade"


def read_state(connection: Connection) -> SchemaState:
    """Return where the database stands; two short queries."""
    revision = None
    if sa.inspect(connection).has_table(_VERSION_TABLE.name):
        revision = connection.execute(sa.select(_VERSION_TABLE.c.version_num)).scalar_one_or_none()
    head, known = _revisions()
    return SchemaState(revision, head, revision is None or revision in known)


def upgrade(engine: Engine) -> SchemaState:
    """Run the migrations that are missing, in one transaction, and return the state after them.

    A database that a newer version migrated is left as it is.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer or does not allow it; nothing was changed.
    """
    with _locked(engine) as connection:
        state = read_state(connection)
        if state.usable:
            return state
        config = make_config()
        config.attributes["connection"] = connection
        if state.revision is None and sa.inspect(connection).has_table("assessments"):
            command.stamp(config, _FIRST)
        command.upgrade(config, "head")
        if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            raise sa.exc.IntegrityError("PRAGMA foreign_key_check", {}, Exception("a migration lost rows"))
        return read_state(connection)


def make_config() -> Config:
    """Return Alembic's configuration, with this folder as its scripts."""
    config = Config()
    config.set_main_option("script_location", "app:migrations")
    return config


@cache
def _revisions() -> tuple[str, frozenset[str]]:
    scripts = ScriptDirectory.from_config(make_config())
    head = scripts.get_current_head()
    assert head is not None
    return head, frozenset(script.revision for script in scripts.walk_revisions())


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction that holds the lock on the schema."""
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect().execution_options(immediate=True) as connection:
        if is_sqlite:
            # Outside the transaction, where alone it has effect: a table that is made anew must not empty others.
            _driver(connection).execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                if not is_sqlite:
                    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_DDL_WAIT_S}s'")
                yield connection
        finally:
            if is_sqlite:
                _driver(connection).execute("PRAGMA foreign_keys = ON")


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
