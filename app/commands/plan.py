"""`normgauge plan show | diff | what-if`: plans and profiles that were saved."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console

from app.commands.assess import describe
from app.commands.outputs import import_report, write_reports
from app.comparing import compare_plans
from app.errors import CommandError, UsageError
from app.files import check_outputs
from app.making import check_method_arguments, make_plans, name_plans, options_of, save_plans, split_thresholds
from app.outcome import DIFFERENT, DONE, status_of
from app.reading import is_profile, load_profile
from app.rescoring import apply_threshold
from app.tables import make_console, plan_table, print_comparison, print_decision, print_layout, print_plans
from assessor import AssessorError, Plan, PlanFormatError, advise
from assessor.recommendation import with_advice


def run(arguments: argparse.Namespace) -> int:
    """Run one of the actions; return the exit status."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {"show": _show, "diff": _diff, "what-if": _what_if}
    return actions[arguments.action](arguments)


def _show(arguments: argparse.Namespace) -> int:
    check_outputs([arguments.report, arguments.png], arguments.plans)
    import_report(arguments)
    plans = [_with_network(_load(path), arguments.network) for path in arguments.plans]
    chosen = [_choose(plan, arguments.batches) for plan in plans]
    write_reports(arguments, plans, None, title=", ".join(Path(path).name for path in arguments.plans[:3]))
    if arguments.json:
        for plan, indices in zip(plans, chosen, strict=True):
            for i in indices:
                print(json.dumps(_jsonable(asdict(plan[i]))))
        return status_of(plans, arguments.fail_on)
    console = make_console()
    if arguments.batches is None:
        print_plans(console, plans)
        for path, plan in zip(arguments.plans, plans, strict=True):
            print_layout(console, path, plan)
    for plan, indices in zip(plans, chosen, strict=True):
        for i in indices:
            print_decision(console, plan[i])
    return status_of(plans, arguments.fail_on)


def _diff(arguments: argparse.Namespace) -> int:
    a, b = _load(arguments.a), _load(arguments.b)
    comparison = compare_plans(a, b)
    if arguments.json:
        print(json.dumps(_jsonable(comparison.to_dict())))
    else:
        print_comparison(
            make_console(), comparison, names=(arguments.a, arguments.b), most=None if arguments.all else 20
        )
    return DONE if comparison.same else DIFFERENT


def _what_if(arguments: argparse.Namespace) -> int:
    source = Path(arguments.source)
    thresholds = split_thresholds(arguments.threshold)
    arguments_of_profile = arguments.method is not None or arguments.batch_size is not None
    check_outputs([arguments.save, arguments.report, arguments.png], [source])
    import_report(arguments)
    console = make_console()
    if source.exists() and is_profile(source):
        arguments.method = arguments.method or ["need"]
        check_method_arguments(arguments, thresholds)
        profile = load_profile(source)
        sizes = arguments.batch_size or profile.batch_sizes
        names = name_plans(arguments.save, list(product(sizes, arguments.method, thresholds)))
        check_outputs([*names, arguments.report, arguments.png], [source])
        plans = make_plans(profile, batch_sizes=sizes, thresholds=thresholds, arguments=arguments)
        _finish(arguments, plans, console)
        write_reports(arguments, plans, profile, title=source.name)
        if not arguments.json:
            console.print(plan_table(plans, title=describe(profile)))
        return status_of(plans, arguments.fail_on)
    given = arguments_of_profile or arguments.drop_last or arguments.network or bool(options_of(None, arguments))
    before = _load(arguments.source)
    if given:
        raise UsageError(
            "expected --threshold alone for a plan, which holds scores only; got options of a profile: pass a profile "
            "saved with assess --profile"
        )
    if arguments.threshold is None:
        raise UsageError(
            "expected --threshold for a plan; got none: give one, as in --threshold 0.5, or pass a profile saved with "
            "assess --profile"
        )
    names = name_plans(arguments.save, [(before.batch_size, before.method, threshold) for threshold in thresholds])
    check_outputs([*names, arguments.report, arguments.png], [source])
    plans = [apply_threshold(before, threshold or "") for threshold in thresholds]
    _finish(arguments, plans, console)
    write_reports(arguments, plans, None, title=source.name)
    if not arguments.json:
        console.print(plan_table([before, *plans], title=f"{source}: as it is, then with other cutoffs"))
        for plan in plans:
            changed = np.flatnonzero(before.normalize != plan.normalize)
            console.print(f"  {plan.threshold}: {len(changed)} of {len(plan)} decisions change", markup=False)
    return status_of(plans, arguments.fail_on)


def _finish(arguments: argparse.Namespace, plans: Sequence[Plan], console: Console) -> None:
    if arguments.save:
        save_plans(plans, arguments.save)
    if arguments.json:
        for plan in plans:
            print(plan.to_json())


def _with_network(plan: Plan, network: str | None) -> Plan:
    """Return the plan with the advice for a model family; None leaves the plan as it is."""
    if network is None:
        return plan
    advice = advise(plan, network=network)
    return replace(plan, advice=advice, recommendation=with_advice(plan.recommendation, advice))


def _load(path: str) -> Plan:
    try:
        return Plan.load(path)
    except FileNotFoundError as error:
        raise CommandError(f"expected the file of a plan; got {path}, which is none: check the path") from error
    except PlanFormatError as error:
        if is_profile(Path(path)):
            raise CommandError(
                f"expected the file of a plan; got the profile {path}: normgauge plan what-if makes plans of it"
            ) from error
        raise PlanFormatError(f"{path}: {error}") from error
    except AssessorError as error:
        raise type(error)(f"{path}: {error}") from error


def _choose(plan: Plan, which: str | None) -> Iterator[int] | Sequence[int]:
    """Return the numbers of the batches asked for."""
    if which is None:
        return ()
    if which == "all":
        return range(len(plan))
    if which == "flagged":
        return map(int, np.flatnonzero(plan.normalize))
    try:
        ranges = [[int(edge) for edge in part.split("-")] for part in which.split(",")]
        chosen = [range(edges[0], edges[-1] + 1) for edges in ranges if len(edges) <= 2]
    except ValueError:
        chosen = []
    if len(chosen) != which.count(",") + 1 or any(not part or part[-1] >= len(plan) for part in chosen):
        raise CommandError(
            f"expected --batches all, flagged or numbers from 0 to {len(plan) - 1}, as in 0,7,20-29; got {which!r}"
        )
    return [i for part in chosen for i in part]


def _jsonable(value: object) -> object:
    """Return a value for JSON: NaN is null, infinities are "inf" and "-inf", as in plan files."""
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value
