"""Settings and database as the service's commands need them, with one line for the user where they do not do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.errors import CommandError
from app.secret_files import is_secret
from app.settings import Settings
from app.storage import Store


def read_settings(**given: Any) -> Settings:
    """Return the settings from the environment, under what was given on the command line (None: not given).

    Raises:
        CommandError: a value is not usable.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        # Without its chain, since pydantic's own text has the value.
        raise CommandError("; ".join(map(_describe, error.errors()))) from None
    except ValueError as error:  # of a secret's file
        raise CommandError(str(error)) from error


def _describe(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    field = Settings.model_fields.get(name)
    came = "a secret, not shown" if field is not None and is_secret(field) else repr(item["input"])
    return f"{name}: {item['msg']}; got {came}"


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """Give the database while the block runs.

    Raises:
        CommandError: it cannot be opened, or something in the block failed on it.
    """
    shown = make_url(settings.database_url).render_as_string(hide_password=True)
    try:
        store = Store(settings)
        try:
            yield store
        finally:
            store.close()
    except ImportError as error:
        raise CommandError(
            f"cannot open the database {shown}: {error}; run: pip install 'normgauge[app]', or pass --database"
        ) from error
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise CommandError(
            f"cannot open the database {shown}: {reason}; check that it can be reached "
            "(SQLite: that its folder exists and is writable), or pass --database"
        ) from error
