"""What Alembic runs around the migrations: in the caller's transaction, or in one of its own for a developer."""

from alembic import context
from sqlalchemy.engine import Connection

import app.jobs.tables  # noqa: F401 - its tables join METADATA
from app.database import METADATA, make_engine
from app.settings import Settings


def run(connection: Connection) -> None:
    """Run what was asked for on this connection."""
    # SQLite has transactional DDL; Alembic's default assumes a driver that commits behind our back, and ours does not.
    context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with make_engine(Settings()).execution_options(immediate=True).begin() as own:
        run(own)
