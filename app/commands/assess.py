"""`normgauge assess PATH...`: the service's numerics on files and objects, without the service."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path

from app.commands.outputs import import_report, write_reports
from app.engines import local_paths, read_sources, uses_engine
from app.errors import CommandError
from app.files import check_outputs, keeping, write_file
from app.labels import read_labels, with_labels
from app.making import check_method_arguments, make_plans, name_plans, save_plans
from app.outcome import status_of
from app.reading import DEFAULT_BATCH_SIZE, is_profile, load_profile, read_profile
from app.tables import make_console, print_plans
from app.targets import check_found, check_places, check_stores, is_uri
from assessor import AssessorError, Profile, formats
from assessor.execution import Listed
from assessor.execution.checkpoint import EXTENTS
from assessor.folders import list_pictures
from assessor.formats import DecodeSettings
from assessor.formats.arrow_library import load_pyarrow


def run(arguments: argparse.Namespace) -> int:
    """Print or save the plans of the files; return the exit status."""
    paths = local_paths(arguments.paths)
    batch_sizes = _known_batch_sizes(arguments, paths)
    _check(arguments, paths)
    written = [] if batch_sizes is None else _check_written(arguments, paths, batch_sizes)
    labels = read_labels(Path(arguments.labels)) if arguments.labels else None
    settings = decode_settings(arguments)
    reference = load_profile(Path(arguments.reference)) if arguments.reference else None
    assessed = None
    if uses_engine(arguments):
        assessed = read_sources(
            arguments, settings=settings, reference=reference, on_found=partial(_check_found, written)
        )
        profile = assessed.profile
    else:
        check_found(written, _pictures(paths))
        profile = read_profile(
            paths,
            batch_sizes=arguments.batch_size,
            feature_axis=arguments.feature_axis,
            format=arguments.format,
            settings=settings,
            nonfinite=arguments.nonfinite,
            reference=reference,
            show_progress=not arguments.quiet,
        )
    if labels is not None:
        profile = with_labels(profile, labels, source=Path(arguments.labels))
    if batch_sizes is None:
        batch_sizes = profile.batch_sizes
        _check_written(arguments, paths, batch_sizes)
    plans = make_plans(profile, batch_sizes=batch_sizes, thresholds=[arguments.threshold], arguments=arguments)
    if assessed is not None:
        plans = [assessed.note(plan) for plan in plans]
    with keeping() as write:
        if arguments.profile:
            write(arguments.profile, lambda name: write_file(name, profile.to_bytes()))
        if arguments.save:
            save_plans(plans, arguments.save, write)
        write_reports(arguments, plans, profile, title=_title(arguments.paths), write=write)
        if arguments.json:
            for plan in plans:
                print(plan.to_json())
        elif not arguments.quiet:
            n_files = len(paths) if assessed is None else len(assessed.sources)
            print_plans(make_console(), plans, title=f"{describe(profile)} in {n_files} file(s)")
    return status_of(plans, arguments.fail_on)


def _check_found(written: Sequence[str], listed: Sequence[Listed]) -> None:
    check_found(written, (str(item.source.uri) for item in listed))


def _pictures(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the pictures of those paths that are folders: links lead to some."""
    for path in paths:
        if path.is_dir():
            with suppress(AssessorError):  # which reading it tells of
                yield from (str(picture) for picture, _ in list_pictures(path))


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
    if arguments.profile and all(path.exists() and is_profile(path) for path in paths) and len(paths) == 1:
        raise CommandError(f"expected shards with --profile; got {paths[0]}, a saved profile already: leave it out")
    import_report(arguments)


def _known_batch_sizes(arguments: argparse.Namespace, paths: list[Path]) -> Sequence[int] | None:
    """Return the batch sizes of the plans; None where only a saved profile tells."""
    if arguments.batch_size or uses_engine(arguments) or not any(map(is_profile, paths)):
        return arguments.batch_size or [DEFAULT_BATCH_SIZE]
    return None


def _check_written(arguments: argparse.Namespace, paths: list[Path], batch_sizes: Sequence[int]) -> list[str]:
    """Check what is to be written, and return the names of it."""
    saved = name_plans(arguments.save, list(product(batch_sizes, arguments.method, [arguments.threshold])))
    others = [name for name in (arguments.report, arguments.png, arguments.profile) if name is not None]
    kept = [] if arguments.resume is None else [str(Path(arguments.resume, EXTENTS))]
    read = [*paths, *(name for name in (arguments.labels, arguments.reference) if name is not None)]
    check_outputs([*(name for name in saved if not is_uri(name)), *others], read)
    check_places([*saved, *others, *kept], arguments.paths)
    if any(name.endswith(".arrow") for name in saved):
        load_pyarrow()
    check_stores(saved)
    return [*saved, *others]


def _title(places: list[str]) -> str:
    first = Path(places[0]).name
    return first if len(places) == 1 else f"{first} and {len(places) - 1} more"
