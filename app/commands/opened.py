"""Settings and database as the service's commands need them, with one line for the user where they do not do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.errors import CommandError
from app.secret_files import is_secret
from app.settings import PREFIX, Settings
from app.storage import Store

_OPTIONS = {"database_url": "database"}
"""Options that are not called as their setting."""


def read_settings(**given: Any) -> Settings:
    """Return the settings from the environment, under what was given on the command line (None: not given).

    Raises:
        CommandError: a value is not usable.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        # Without its chain, since pydantic's own text has the value.
        raise CommandError("; ".join(_describe(item, given) for item in error.errors())) from None
    except ValueError as error:  # of a secret's file
        raise CommandError(str(error)) from error


def _describe(item: Any, given: Mapping[str, Any]) -> str:
    name = str(item["loc"][0])
    asked_by = f"--{_OPTIONS.get(name, name)}" if given.get(name) is not None else f"{PREFIX}{name}".upper()
    came = (
        "one that is not shown: it may hold a password"
        if is_secret(Settings.model_fields[name])
        else repr(item["input"])
    )
    expected = item["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
    return f"{asked_by}: {expected}" if "; got " in expected else f"{asked_by}: {expected}; got {came}"


def shown_url(settings: Settings) -> str:
    """Return the database's URL without its password."""
    return make_url(settings.database_url).render_as_string(hide_password=True)


def file_of(settings: Settings) -> Path | None:
    """Return the file of an SQLite database; None for others."""
    url = make_url(settings.database_url)
    return Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else None


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """Give the database while the block runs.

    Raises:
        CommandError: it cannot be opened, or something in the block failed on it.
    """
    shown = shown_url(settings)
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
