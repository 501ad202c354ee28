"""The reports that commands write; what they need is imported only where one is asked for."""

import argparse
from collections.abc import Sequence
from importlib import import_module

from app.files import Write, write_file, write_plainly
from assessor import Plan, Profile


def import_report(arguments: argparse.Namespace) -> None:
    """Import what a report needs, before data is read.

    Raises:
        ModuleNotFoundError: the extra `report` is not installed.
    """
    if arguments.report or arguments.png:
        import_module("app.report")


def write_reports(
    arguments: argparse.Namespace,
    plans: Sequence[Plan],
    profile: Profile | None,
    *,
    title: str,
    write: Write = write_plainly,
) -> None:
    """Write the report and the picture that are asked for."""
    if not (arguments.report or arguments.png):
        return
    from app.report import draw_report, render_report

    if arguments.report:
        page = render_report(plans, profile=profile, title=title).encode()
        write(arguments.report, lambda name: write_file(name, page))
    if arguments.png:
        picture = draw_report(plans, profile=profile, title=title)
        write(arguments.png, lambda name: write_file(name, picture))
