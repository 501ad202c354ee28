"""Plans in the terminal: one line a plan, then what stands behind it. Used by `assess` and by the demo."""

import sys
from collections.abc import Sequence
from typing import TextIO

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from app.comparing import Comparison
from assessor import Advice, Choice, Decision, Drift, Plan, Profile
from assessor.advice import INTERVALS, RANKING, in_points

_PIPED_WIDTH = 120
_PARTS = ("global", "feature", "drift", "noise")
_MOST_CHOICES = 6


def make_console(file: TextIO | None = None) -> Console:
    """Return a console on `file` (default: standard output); piped output is 120 wide and plain."""
    file = file or sys.stdout
    return Console(file=file, width=None if file.isatty() else _PIPED_WIDTH, highlight=False, soft_wrap=False)


def print_plans(console: Console, plans: Sequence[Plan], *, title: str | None = None) -> None:
    """Print one table with a line a plan, then each plan's decisions and recommendation."""
    console.print(plan_table(plans, title=title))
    for plan in plans:
        print_plan(console, plan)


def plan_table(plans: Sequence[Plan], *, title: str | None = None) -> Table:
    """Return a table with a line a plan: batches, flagged, cutoff and quartiles of the score."""
    table = Table(title=title and Text(title), box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("batch size", justify="right")
    table.add_column("method")
    if several := len({(plan.batch_size, plan.method) for plan in plans}) < len(plans):
        table.add_column("threshold")
    for name in ("batches", "flagged", "share", "cutoff", "q25", "median", "q75"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for plan in plans:
        table.add_row(
            str(plan.batch_size),
            plan.method,
            *([plan.threshold] if several else []),
            str(len(plan)),
            str(int(plan.normalize.sum())),
            f"{plan.flagged_fraction:.1%}",
            f"{np.median(plan.cutoffs):.4g}",
            *(f"{value:.4g}" for value in score_quartiles(plan)),
            plan.unit or "ratio",
        )
    return table


def print_plan(console: Console, plan: Plan) -> None:
    """Print three decisions with their reasons, the decomposition, recommendation and notes."""
    console.print(f"[bold]batch size {plan.batch_size}, method {plan.method}[/]")
    for decision in typical_decisions(plan):
        print_decision(console, decision)
    if plan.decomposition is not None:
        parts = ", ".join(f"{name} {plan.decomposition[name]:.4g}" for name in _PARTS)
        _print_item(console, f"decomposition in nats: {parts}")
    _print_item(console, f"recommendation: {plan.recommendation}")
    if plan.advice is not None:
        if plan.advice.text not in plan.recommendation:  # which ends with it where the evidence is enough
            _print_item(console, f"advice: {plan.advice.text}")
        print_choices(console, plan.advice)
    for note in plan.notes:
        _print_item(console, f"note: {note}")
    console.print()


def print_choices(console: Console, advice: Advice) -> None:
    """Print the first choices with their expected effects, and what they rest on."""
    if not advice.choices:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("choice")
    for name in ("points", "from", "to", "cells"):
        table.add_column(name, justify="right")
    for rank, choice in listed_choices(advice):
        points = (in_points(value) for value in (choice.effect, choice.low, choice.high))
        table.add_row(str(rank), choice.name, *points, str(choice.cells))
    console.print(Padding(table, (0, 0, 0, 2)))
    family = advice.network or "any network"
    _print_item(console, f"points of test accuracy over doing nothing, {family}; {advice.evidence}")
    _print_item(console, f"{RANKING}; {INTERVALS}")


def listed_choices(advice: Advice) -> list[tuple[int, Choice]]:
    """Return the choices to show with their ranks: the first few, and doing nothing wherever it ranks."""
    ranked = list(enumerate(advice.choices, 1))
    return [(rank, choice) for rank, choice in ranked if rank <= _MOST_CHOICES or choice.kind == "nothing"]


def print_decision(console: Console, decision: Decision) -> None:
    """Print one decision with its reason."""
    _print_item(console, f"batch {decision.index}: {_verdict(decision.normalize)}; {decision.reason}")


def print_layout(console: Console, name: str, plan: Plan) -> None:
    """Print which batches a plan file is of."""
    _print_item(console, f"{name}: threshold {plan.threshold}, action {plan.action}")
    last = ", without a short last batch" if plan.drop_last else ""
    _print_item(console, f"{plan.n_rows} rows in batches of {plan.batch_size}{last}, order {plan.order.to_dict()}")
    _print_item(console, f"fingerprint {plan.fingerprint}")
    console.print()


def print_comparison(console: Console, comparison: Comparison, *, names: tuple[str, str], most: int | None) -> None:
    """Print what differs between two plans.

    Args:
        names: of the plans.
        most: batches to list; None lists all that differ.
    """
    a, b = comparison.a, comparison.b
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for letter, name in zip("AB", names, strict=True):
        table.add_column(Text(f"{letter} {name}"), justify="right", overflow="fold")
    for label in ("method", "threshold"):
        table.add_row(label, *(str(getattr(plan, label)) for plan in (a, b)))
    table.add_row("batch size", str(a.batch_size), str(b.batch_size))
    table.add_row("batches", str(len(a)), str(len(b)))
    table.add_row("flagged", *(str(int(plan.normalize.sum())) for plan in (a, b)))
    table.add_row("share", *(f"{plan.flagged_fraction:.1%}" for plan in (a, b)))
    table.add_row("cutoff", *(f"{np.median(plan.cutoffs):.4g}" for plan in (a, b)))
    table.add_row("median score", *(f"{score_quartiles(plan)[1]:.4g}" for plan in (a, b)))
    table.add_row("action", a.action, b.action)
    console.print(table)
    for name, (left, right) in comparison.settings.items():
        _print_item(console, f"{name}: {left} in A, {right} in B")
    if comparison.differing is None:
        _print_item(console, "the plans are for other batches: decisions cannot be compared one by one")
        return
    if comparison.largest_score_change is not None:
        _print_item(console, f"largest change of a score: {comparison.largest_score_change:.4g}")
    _print_item(console, f"{len(comparison.differing)} of {len(a)} batches are decided differently")
    listed = comparison.differing[:most]
    for i in map(int, listed):
        sides = (f"{_verdict(d.normalize)} ({d.score:.4g} against {d.cutoff:.4g})" for d in (a[i], b[i]))
        _print_item(console, f"batch {i}: {' in A, '.join(sides)} in B")
    if len(listed) < len(comparison.differing):
        _print_item(console, f"and {len(comparison.differing) - len(listed)} more; --all lists them")


def print_drift(console: Console, drift: Drift, new: Profile, earlier: Profile, *, most: int) -> None:
    """Print how far new data has moved, and the features that moved furthest."""
    console.print(
        f"mean drift {drift.total:.4g} nats over {drift.n_compared} features; "
        f"about {drift.noise:.2g} would be noise, for normal data that has not moved"
    )
    if drift.n_unlike:
        _print_item(
            console, f"{drift.n_unlike} features are constant in one of both only, or at another value: no number"
        )
    if not most:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("feature", "nats", "mean", "std", "earlier mean", "earlier std"):
        table.add_column(name, justify="right")
    for i in np.argsort(-drift.features, kind="stable")[:most].tolist():
        numbers = (side for m in (new.moments, earlier.moments) for side in (m.mean[i], np.sqrt(m.variance[i])))
        table.add_row(str(i), f"{drift.features[i]:.4g}", *(f"{number:.4g}" for number in numbers))
    console.print(table)


def _verdict(normalize: bool) -> str:
    return "normalize" if normalize else "skip"


def typical_decisions(plan: Plan) -> list[Decision]:
    """Return up to three decisions: those of the lowest, the middle and the highest score.

    Batches without a score count only where no batch has one.

    >>> import numpy as np
    >>> from assessor import assess
    >>> plan = assess(np.arange(36.0).reshape(18, 2) ** 2, batch_size=6)
    >>> [decision.index for decision in typical_decisions(plan)]
    [0, 1, 2]
    """
    ranked = np.argsort(plan.scores, kind="stable")  # NaN last
    count = int((~np.isnan(plan.scores)).sum()) or len(plan)
    places = sorted({0, count // 2, count - 1})
    return [plan[int(ranked[place])] for place in places]


def score_quartiles(plan: Plan) -> tuple[float, float, float]:
    """Return the quartiles of the scores that are defined; NaN where none is."""
    defined = plan.scores[~np.isnan(plan.scores)]
    if not len(defined):
        return (float("nan"),) * 3
    # "nearest" takes scores that occur, so infinite ones (published, T_c = 0) are not interpolated.
    low, middle, high = np.quantile(defined, [0.25, 0.5, 0.75], method="nearest")
    return float(low), float(middle), float(high)


def _print_item(console: Console, text: str) -> None:
    if console.is_terminal:
        console.print(Padding(Text(text), (0, 0, 0, 2)))
    else:
        console.print(Text(f"  {text}"), soft_wrap=True)  # one line each, for grep
