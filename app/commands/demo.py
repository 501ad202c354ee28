"""`normgauge demo`: see `app.demo`."""

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; return the exit status."""
    # Imported by name, since it reaches clients and norms, which nothing else here may.
    status = import_module("app.demo").run(arguments)
    return int(status or 0)
