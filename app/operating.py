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
    url = "--database postgresql://normgauge@db/normgauge"
    upgrade = _add(
        actions,
        "upgrade",
        "run the migrations that are missing",
        "Runs the migrations that are missing.",
        f"Example:\n  normgauge db upgrade {url}",
    )
    current = _add(
        actions,
        "current",
        "say where it stands",
        "Says where it stands; exit status 1 where it must be upgraded.",
        f"Example:\n  normgauge db current {url}",
    )
    _add_database(upgrade)
    _add_database(current)


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
    create = _add(
        actions,
        "create",
        "make a key and print it, once",
        "Makes a key and prints it, once, on standard output; all else goes to standard error.",
        "Example:\n  normgauge keys create training --expires 90d > key.txt",
    )
    create.add_argument("name", metavar="NAME", help="who it is for")
    create.add_argument("--expires", metavar="WHEN", help="days from now (90d) or a date (2027-01-31); default never")
    create.add_argument(
        "--adopt", action="store_true", help="give it the assessments that were made while there was no key"
    )
    _add_database(create)
    listing = _add(
        actions, "list", "list all keys", "Lists all keys, revoked ones too.", "Example:\n  normgauge keys list --json"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_database(listing)
    revoke = _add(
        actions,
        "revoke",
        "refuse a key from now on",
        "Refuses a key from now on.",
        "Example:\n  normgauge keys revoke 1f0c2b9e61a7",
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
