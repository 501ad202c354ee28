"""Plans as the command line asks for them: batch sizes by methods by thresholds, and where each is saved."""

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

from app.engines import save_plan
from app.files import Write, write_plainly
from assessor import Measure, Plan, Profile, SettingError, make_plan, measures, methods
from assessor.advice import check_network
from assessor.methods import choose
from assessor.thresholds import parse_threshold


def make_plans(
    profile: Profile,
    *,
    batch_sizes: Sequence[int],
    thresholds: Sequence[str | None],
    arguments: argparse.Namespace,
) -> list[Plan]:
    """Return a plan for each batch size, method and threshold, in that order of nesting.

    Args:
        profile: of all rows.
        batch_sizes: among those profiled.
        thresholds: None is the method's own.
        arguments: method, drop_last, network, and the options of `options_of`.

    Raises:
        AssessorError: as `assessor.make_plan`.
    """
    return [
        make_plan(
            profile,
            method=method,
            batch_size=batch_size,
            threshold=threshold,
            drop_last=arguments.drop_last,
            network=arguments.network,
            **options_of(method, arguments),
        )
        for batch_size, method, threshold in product(batch_sizes, arguments.method, thresholds)
    ]


def check_method_arguments(arguments: argparse.Namespace, thresholds: Sequence[str | None]) -> None:
    """Check methods, options, thresholds and batch sizes, before a file is read.

    Raises:
        SettingError, UnknownNameError: names the option.
    """
    check_network(arguments.network)
    for method, threshold in product(arguments.method, thresholds):
        if threshold is None and method in measures.names() and method not in methods.names():
            raise SettingError(
                f"expected --threshold with the measure {method!r}, which is no method with one of its own; got none: "
                "give one, such as --threshold quantile:0.9"
            )
        choose(method, threshold)
        if threshold is not None:
            parse_threshold(threshold)
    for name in options_of(None, arguments):
        takers = [m for m in nameable() if name in _measure_of(m).options]
        if not set(takers) & set(arguments.method):
            flag = "--" + name.replace("_", "-")
            raise SettingError(
                f"expected {flag} with --method {' or '.join(takers)}; got "
                f"{', '.join(arguments.method)}: leave {flag} out or change the method"
            )
    for batch_size in arguments.batch_size or ():
        if batch_size < 1:
            raise SettingError(
                f"expected --batch-size of at least 1; got {batch_size}: give the number of samples in a batch"
            )


def split_thresholds(text: str | None) -> list[str | None]:
    """Return the thresholds in a list separated by commas; those within parentheses do not separate.

    >>> split_thresholds("0.5, max(fixed(0.1), null(0.01)), 2")
    ['0.5', 'max(fixed(0.1), null(0.01))', '2']
    """
    if text is None:
        return [None]
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def options_of(method: str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options given that a method's measure takes; of all methods for None."""
    given: dict[str, Any] = {}
    if arguments.null is not None:
        given["null"] = arguments.null
    for name in ("published_exact", "corrected"):
        if getattr(arguments, name):
            given[name] = True
    if method is None:
        return given
    takes = _measure_of(method).options
    return {name: value for name, value in given.items() if name in takes}


def nameable() -> list[str]:
    """Return what --method may name: the methods, then the measures, which need a threshold.

    >>> nameable()[0], "bartlett" in nameable()
    ('need', True)
    """
    names = methods.names()
    return [*names, *(name for name in measures.names() if name not in names)]


def _measure_of(method: str) -> Measure:
    """Return the measure of a method, or the one of that name."""
    return measures.get(choose(method, "0")[0])


def name_plans(pattern: str | None, plans: Sequence[tuple[int, str, str | None]]) -> list[str]:
    """Return the name under which each plan is to be saved.

    Args:
        pattern: with {batch_size}, {method} and {threshold}; None: nothing is saved.
        plans: batch size, method and threshold of each plan; None is the method's own.

    Raises:
        SettingError: two plans would be written to one file.
    """
    if pattern is None:
        return []
    names = [_fill(pattern, size, method, _told(method, threshold)) for size, method, threshold in plans]
    if len(set(names)) < len(names):
        raise SettingError(
            f"expected a file name for each plan; got too few, {pattern}, for {len(names)} plans: write "
            "{batch_size}, {method} or {threshold} in the name, as in plan-{batch_size}-{method}.json"
        )
    return names


def save_plans(plans: Sequence[Plan], pattern: str, write: Write = write_plainly) -> None:
    """Write each plan under its name, a file or an object in a bucket."""
    for plan in plans:
        write(_fill(pattern, plan.batch_size, plan.method, plan.threshold), partial(save_plan, plan))


def _told(method: str, threshold: str | None) -> str:
    """Return a threshold as the plan tells it."""
    return parse_threshold(choose(method, None)[1] if threshold is None else threshold)[0]


def _fill(pattern: str, batch_size: int, method: str, threshold: str) -> str:
    named = pattern.replace("{batch_size}", str(batch_size)).replace("{method}", method)
    return named.replace("{threshold}", threshold.replace(" ", ""))
