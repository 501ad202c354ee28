"""`assess` on datasets in many objects: the options, and what comes of them."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from app.errors import CommandError, UsageError
from app.files import write_file
from app.progress import Meter
from app.reading import DEFAULT_BATCH_SIZE
from assessor import Plan, Profile
from assessor.execution import MANIFEST_MARK, Assessed, EngineError, Listed, engines, is_remote, profile_sources
from assessor.execution.assessing import ON_ERROR
from assessor.formats import DecodeSettings
from assessor.sources import StoreSettings, is_pattern
from assessor.sources.writing import parse_target, write_object

DEFAULT_ENGINE = "processes"


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options of datasets in many objects."""
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help=f"where the work is done: {', '.join(engines.names())} or ray=ADDRESS; default {DEFAULT_ENGINE} for URIs, "
        "patterns and manifests, this process for files",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="workers of the engine; default all processors")
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        help="a source that cannot be read: end the run (stop, the default), or leave it out and name it (skip)",
    )
    parser.add_argument(
        "--resume", metavar="FOLDER", help="keep what is finished there; the same command goes on from it"
    )


def uses_engine(arguments: argparse.Namespace) -> bool:
    """Return whether an engine is asked for, or needed for where the data lies."""
    asked = (arguments.engine, arguments.workers, arguments.on_error, arguments.resume)
    return any(option is not None for option in asked) or any(map(_is_place, arguments.paths))


def local_paths(places: Sequence[str]) -> list[Path]:
    """Return the places that are paths of single files or folders."""
    return [Path(place) for place in places if not _is_place(place)]


def read_sources(
    arguments: argparse.Namespace,
    *,
    settings: DecodeSettings | None,
    reference: Profile | None,
    on_found: Callable[[Sequence[Listed]], None],
) -> Assessed:
    """Return the profile of a dataset in many objects.

    Args:
        arguments: of `assess`.
        settings: which columns of tables are what.
        reference: earlier data.
        on_found: called with the objects before one is read.

    Raises:
        AssessorError: a source cannot be read, or a setting is out of its range.
        CommandError: the engine fails. UsageError: an option does not go with it.
    """
    if arguments.labels:
        raise UsageError("expected labels in the sources (y) with an engine; got --labels: leave one of both out")
    given = {
        "feature_axis": arguments.feature_axis,
        "nonfinite": arguments.nonfinite,
        "decode": settings,
        "format": arguments.format,
        "reference": reference,
    }
    try:
        with closing(Meter(show=not arguments.quiet)) as meter:
            return profile_sources(
                arguments.paths,
                batch_sizes=arguments.batch_size or (DEFAULT_BATCH_SIZE,),
                engine=arguments.engine or DEFAULT_ENGINE,
                workers=arguments.workers,
                on_error=arguments.on_error or "stop",
                checkpoint=arguments.resume,
                progress=meter,
                on_found=on_found,
                **{name: value for name, value in given.items() if value is not None},
            )
    except EngineError as error:
        raise CommandError(str(error)) from error


def save_plan(plan: Plan, name: str) -> None:
    """Write a plan to a file or a bucket: in columns where the name ends with ".arrow", else as JSON.

    Raises:
        SourceError, OSError: it cannot be written.
    """
    if not is_remote(name):
        if name.endswith(".arrow"):
            plan.save(name)
        else:
            write_file(name, plan.to_json().encode())
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "plan").with_suffix(".arrow" if name.endswith(".arrow") else ".json")
        plan.save(file)
        write_object(parse_target(name), file, StoreSettings())


def _is_place(text: str) -> bool:
    """Return whether a PATH is more than a path: a URI, a manifest, or a pattern that the shell left as it is."""
    return "://" in text or text.startswith(MANIFEST_MARK) or (is_pattern(text) and not Path(text).exists())
