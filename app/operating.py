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
