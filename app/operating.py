"""The parsers of the commands that look after a service: its database and its keys."""

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_db(commands: Commands) -> None:
    """Add `normgauge db`."""
    parser = _add(
        commands,
        "db",
        "bring the service's database up to date",
        "The service does this at start, unless NORMGAUGE_MIGRATE_AT_START is false.\n"
        "Exit status 1: current found a database that must be upgraded.",
        "Examples:\n  normgauge db upgrade --database postgresql://normgauge@db/normgauge\n  normgauge db current",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, summary in (("upgrade", "run the migrations that are missing"), ("current", "say where it stands")):
        _add_database(actions.add_parser(name, help=summary, description=summary, allow_abbrev=False))


def add_keys(commands: Commands) -> None:
    """Add `normgauge keys`."""
    parser = _add(
        commands,
        "keys",
        "make, list and revoke the service's API keys",
        "Once a key was made, every call needs one, and a key sees its own assessments only.",
        "Examples:\n"
        "  normgauge keys create training --expires 90d\n"
        "  normgauge keys list\n"
        "  normgauge keys revoke 1f0c2b9e61a7",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create",
        help="make a key and print it, once",
        description="Makes a key and prints it, once.",
        allow_abbrev=False,
    )
    create.add_argument("name", metavar="NAME", help="who it is for")
    create.add_argument("--expires", metavar="WHEN", help="days from now (90d) or a date (2027-01-31); default never")
    create.add_argument(
        "--adopt", action="store_true", help="give it the assessments that were made while there was no key"
    )
    _add_database(create)
    listing = actions.add_parser("list", help="list all keys", description="Lists all keys.", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_database(listing)
    revoke = actions.add_parser(
        "revoke", help="refuse a key from now on", description="Refuses a key from now on.", allow_abbrev=False
    )
    revoke.add_argument("id", metavar="ID", help="the key's id, as list shows it")
    _add_database(revoke)


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", metavar="URL", help="SQLAlchemy URL (default NORMGAUGE_DATABASE_URL)")


def _add(commands: Commands, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
