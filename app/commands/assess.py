"""`normgauge assess PATH...`: the service's numerics on files and objects, without the service."""

import argparse
import sys
from itertools import product
from pathlib import Path

from app.commands.outputs import import_report, write_reports
from app.engines import local_paths, read_sources, uses_engine
from app.errors import CommandError
from app.files import check_outputs, write_file
from app.labels import read_labels, with_labels
from app.making import check_method_arguments, check_names, make_plans, save_plans
from app.outcome import status_of
from app.reading import is_profile, load_profile, read_profile
from app.tables import make_console, print_plans
from assessor import Profile, formats
from assessor.execution import is_remote
from assessor.formats import DecodeSettings


def run(arguments: argparse.Namespace) -> int:
    """Print or save the plans of the files; return the exit status."""
    paths = local_paths(arguments.paths)
    _check(arguments, paths)
    labels = read_labels(Path(arguments.labels)) if arguments.labels else None
    settings = decode_settings(arguments)
    reference = load_profile(Path(arguments.reference)) if arguments.reference else None
    show_progress = not arguments.quiet and sys.stderr.isatty()
    assessed = None
    if uses_engine(arguments):
        assessed = read_sources(arguments, settings=settings, reference=reference, show_progress=show_progress)
        profile = assessed.profile
    else:
        profile = read_profile(
            paths,
            batch_sizes=arguments.batch_size,
            feature_axis=arguments.feature_axis,
            format=arguments.format,
            settings=settings,
            nonfinite=arguments.nonfinite,
            reference=reference,
            show_progress=show_progress,
        )
    if labels is not None:
        profile = with_labels(profile, labels, source=Path(arguments.labels))
    batch_sizes = arguments.batch_size or profile.batch_sizes
    check_names(arguments.save, list(product(batch_sizes, arguments.method, [arguments.threshold])))
    plans = make_plans(profile, batch_sizes=batch_sizes, thresholds=[arguments.threshold], arguments=arguments)
    if assessed is not None:
        plans = [assessed.note(plan) for plan in plans]
    if arguments.profile:
        write_file(arguments.profile, profile.to_bytes())
    if arguments.save:
        save_plans(plans, arguments.save)
    write_reports(arguments, plans, profile, title=_title(arguments.paths))
    if arguments.json:
        for plan in plans:
            print(plan.to_json())
    elif not arguments.quiet:
        n_files = len(paths) if assessed is None else len(assessed.sources)
        print_plans(make_console(), plans, title=f"{describe(profile)} in {n_files} file(s)")
    return status_of(plans, arguments.fail_on)


def describe(profile: Profile) -> str:
    """Return a profile's size in words."""
    labelled = ", labelled" if profile.labelled else ""
    return f"{profile.n_rows} rows of {profile.n_features} features ({profile.dtype}{labelled})"


def decode_settings(arguments: argparse.Namespace) -> DecodeSettings | None:
    """Return which columns of tables are what; None where nothing is said of them."""
    if arguments.columns is None and arguments.label_column is None:
        return None
    return DecodeSettings(columns=arguments.columns and tuple(arguments.columns), label=arguments.label_column)


def _check(arguments: argparse.Namespace, paths: list[Path]) -> None:
    """Check what can be checked before a file is read."""
    check_method_arguments(arguments, [arguments.threshold])
    if arguments.format is not None:
        formats.get(arguments.format)
    if arguments.batch_size:
        check_names(arguments.save, list(product(arguments.batch_size, arguments.method, [arguments.threshold])))
    read = [*paths, *([Path(arguments.labels)] if arguments.labels else [])]
    saved = None if arguments.save is None or is_remote(arguments.save) else arguments.save
    check_outputs([saved, arguments.report, arguments.png, arguments.profile], read)
    if arguments.profile and all(path.exists() and is_profile(path) for path in paths) and len(paths) == 1:
        raise CommandError(f"expected shards with --profile; got {paths[0]}, a saved profile already: leave it out")
    import_report(arguments)


def _title(places: list[str]) -> str:
    first = Path(places[0]).name
    return first if len(places) == 1 else f"{first} and {len(places) - 1} more"
