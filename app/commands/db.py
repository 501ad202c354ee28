"""`normgauge db`: bring the database's tables up to date, or say where they stand."""

import argparse

from app.commands.opened import opened_store, read_settings
from app.outcome import DONE, FAILED


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; return the exit status: 1 where `current` finds a database that must be upgraded."""
    with opened_store(read_settings(database_url=arguments.database)) as store:
        state = store.migrate() if arguments.action == "upgrade" else store.schema_state()
    print(state)
    return DONE if state.usable else FAILED
