"""`normgauge keys`: make, list and revoke API keys."""

import argparse
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from app.auth import Keys, UnknownKeyError
from app.commands.opened import file_of, opened_store, read_settings, shown_url
from app.errors import CommandError, UsageError
from app.outcome import DONE
from app.times import as_text

_DAYS = re.compile(r"([0-9]{1,5})d")
_LONGEST_NAME = 200


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; return the exit status."""
    settings = read_settings(database_url=arguments.database)
    file = file_of(settings)
    shown = file or shown_url(settings)
    if arguments.action != "create" and file and not file.exists():  # opening it would make it
        raise CommandError(
            f"expected a database with keys; there is none at {shown}: pass the service's to --database, or set "
            "NORMGAUGE_DATABASE_URL as for the service"
        )
    with opened_store(settings) as store:
        state = store.migrate() if settings.migrate_at_start else store.schema_state()
        if not state.usable:
            raise CommandError(str(state))
        keys = Keys(store.engine)
        action = {"create": _create, "list": _list, "revoke": _revoke}[arguments.action]
        action(keys, arguments)
    if arguments.action == "create":
        print(f"normgauge: it is good for services whose database is {shown}", file=sys.stderr)
    return DONE


def _create(keys: Keys, arguments: argparse.Namespace) -> None:
    name = arguments.name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UsageError(f"expected a name of 1 to {_LONGEST_NAME} printable characters; got {arguments.name!r:.80}")
    key, token = keys.create(name, expires_at=_read_expiry(arguments.expires), adopt=arguments.adopt)
    print(token)
    until = "until it is revoked" if key.expires_at is None else f"until {key.expires_at}"
    print(f"normgauge: key {key.id} ({name}), {until}; above is all of it, shown this once", file=sys.stderr)


def _list(keys: Keys, arguments: argparse.Namespace) -> None:
    found = keys.list()
    if arguments.json:
        for key in found:
            print(json.dumps({**asdict(key), "state": key.state}))
        return
    table = Table("id", "name", "state", "made", "expires", "last used", box=None)
    for key in found:
        table.add_row(key.id, key.name, key.state, *map(_shown, (key.created_at, key.expires_at, key.last_used_at)))
    Console().print(table)


def _revoke(keys: Keys, arguments: argparse.Namespace) -> None:
    try:
        key = keys.revoke(arguments.id)
    except UnknownKeyError:
        raise CommandError(
            f"expected the id of a key; got {arguments.id!r:.80}, which none has; normgauge keys list shows them"
        ) from None
    print(f"normgauge: key {key.id} ({key.name}) is revoked since {key.revoked_at}", file=sys.stderr)


def _read_expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    now = datetime.now(UTC)
    days = _DAYS.fullmatch(text)
    try:
        moment = now + timedelta(days=int(days[1])) if days else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"expected --expires as a number of days (90d) or a date (2027-01-31); got {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment <= now:
        raise UsageError(f"expected a moment to come in --expires; got {as_text(moment)}")
    return moment


def _shown(moment: str | None) -> str:
    return "-" if moment is None else moment[:16].replace("T", " ")
