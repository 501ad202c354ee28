"""`normgauge assess PATH...`: the service's numerics on local files, without the service."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from app.errors import CommandError
from app.tables import make_console, print_plans
from assessor import (
    AssessorError,
    Plan,
    Profile,
    SettingError,
    make_plan,
    measures,
    merge,
    methods,
    profile_shard,
)


def run(arguments: argparse.Namespace) -> int:
    """Print or save the plans of the files; return the exit status."""
    batch_sizes: list[int] = arguments.batch_size
    _check(arguments, batch_sizes)
    profile = read_shards(
        [Path(path) for path in arguments.paths],
        batch_sizes=batch_sizes,
        feature_axis=arguments.feature_axis,
        show_progress=not arguments.quiet and sys.stderr.isatty(),
    )
    plans = [
        make_plan(
            profile,
            method=method,
            batch_size=batch_size,
            threshold=arguments.threshold,
            drop_last=arguments.drop_last,
            **_options_of(method, arguments),
        )
        for batch_size in batch_sizes
        for method in arguments.method
    ]
    if arguments.save:
        _save(plans, arguments.save)
    if arguments.json:
        for plan in plans:
            print(plan.to_json())
    else:
        rows = f"{profile.n_rows} rows of {profile.n_features} features ({profile.dtype})"
        print_plans(make_console(), plans, title=f"{rows} in {len(arguments.paths)} file(s)")
    return 0


def read_shards(
    paths: Sequence[Path],
    *,
    batch_sizes: Sequence[int],
    feature_axis: str = "element",
    show_progress: bool = False,
) -> Profile:
    """Return the profile of files that hold a dataset's rows one after another.

    Raises:
        AssessorError: a file is not usable; the message begins with its path.
        CommandError: a path is no file.
    """
    for path in paths:
        if not path.is_file():
            raise CommandError(f"expected a file; got {path}, which is none: check the path")
    profiles: list[Profile] = []
    first_row = 0
    with tqdm(
        total=sum(path.stat().st_size for path in paths),
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc="reading",
        disable=not show_progress,
        file=sys.stderr,
    ) as bar:

        def on_bytes(size_bytes: int) -> None:
            bar.update(size_bytes)

        for path in paths:
            profile = _read_shard(
                path,
                batch_sizes=batch_sizes,
                first_row=first_row,
                feature_axis=feature_axis,
                on_bytes=on_bytes,
            )
            first_row += profile.n_rows
            profiles.append(profile)
    return merge(profiles)


def _read_shard(path: Path, *, on_bytes: Callable[[int], None], **settings: Any) -> Profile:
    try:
        return profile_shard(path, on_bytes=on_bytes, **settings)
    except AssessorError as error:
        raise type(error)(f"{path}: {error}") from error


def _check(arguments: argparse.Namespace, batch_sizes: Sequence[int]) -> None:
    """Check what can be checked before a file is read."""
    for method in arguments.method:
        methods.get(method)
    for name in _options_of(None, arguments):
        takers = [m for m in methods.names() if name in measures.get(methods.get(m).measure).options]
        if not set(takers) & set(arguments.method):
            flag = "--" + name.replace("_", "-")
            raise SettingError(
                f"expected {flag} with --method {' or '.join(takers)}; got "
                f"{', '.join(arguments.method)}: leave {flag} out or change the method"
            )
    for batch_size in batch_sizes:
        if batch_size < 1:
            raise SettingError(
                f"expected --batch-size of at least 1; got {batch_size}: give the number of samples in a batch"
            )
    if arguments.save and len(_names_of(arguments.save, arguments)) < len(batch_sizes) * len(arguments.method):
        raise SettingError(
            f"expected a file name for each plan; got one, {arguments.save}, for "
            f"{len(batch_sizes) * len(arguments.method)} plans: write {{batch_size}} and {{method}} "
            "in the name, as in plan-{batch_size}-{method}.json"
        )


def _options_of(method: str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options given that a method's measure takes; of all methods for None."""
    given: dict[str, Any] = {}
    if arguments.null is not None:
        given["null"] = arguments.null
    if arguments.published_exact:
        given["published_exact"] = True
    if method is None:
        return given
    takes = measures.get(methods.get(method).measure).options
    return {name: value for name, value in given.items() if name in takes}


def _names_of(pattern: str, arguments: argparse.Namespace) -> set[str]:
    return {_fill(pattern, batch_size, method) for batch_size in arguments.batch_size for method in arguments.method}


def _fill(pattern: str, batch_size: int, method: str) -> str:
    return pattern.replace("{batch_size}", str(batch_size)).replace("{method}", method)


def _save(plans: Sequence[Plan], pattern: str) -> None:
    for plan in plans:
        plan.save(_fill(pattern, plan.batch_size, plan.method))
