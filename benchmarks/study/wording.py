"""How the evidence is written: numbers with their intervals, aligned tables, names of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from benchmarks.study.intervals import Estimate
from benchmarks.study.records import Setting

UNKNOWN = "-"


@dataclass(frozen=True, eq=False)
class Section:
    """One answer of the document.

    Attributes:
        title: the question.
        answer: a sentence or two for the document's first page; after line breaks more, a point each.
        lines: Markdown.
        plots: by file name, without its ending: the figure, and what it shows in words.
    """

    title: str
    answer: str
    lines: Sequence[str]
    plots: Mapping[str, tuple[Figure, str]] = field(default_factory=dict)


def number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Return a number with so many digits after the point; "-" where there is none.

    >>> number(-0.001), number(1.234, signed=True), number(float("nan"))
    ('0.00', '+1.23', '-')
    """
    if np.isnan(value):
        return UNKNOWN
    # No "-0.00".
    value = round(value, digits) + 0.0
    return f"{value:{'+' if signed and value else ''}.{digits}f}"


def interval(estimate: Estimate, digits: int = 2, *, signed: bool = False) -> str:
    """Return a value with its interval.

    >>> interval(Estimate(1.5, 0.25, 2.75), 1, signed=True)
    '+1.5 (+0.2 to +2.8)'
    """
    value = number(estimate.value, digits, signed=signed)
    if np.isnan(estimate.low) or np.isnan(estimate.high):
        return value
    low, high = (number(x, digits, signed=signed) for x in (estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def points(estimate: Estimate) -> str:
    """Return a difference of accuracies, in points.

    >>> points(Estimate(1.5, 0.3, 2.7))
    '+1.5 points (+0.3 to +2.7)'
    """
    value = number(estimate.value, 1, signed=True)
    if np.isnan(estimate.low):
        return f"{value} points"
    low, high = (number(x, 1, signed=True) for x in (estimate.low, estimate.high))
    return f"{value} points ({low} to {high})"


def percent(estimate: Estimate) -> str:
    """Return a share with its interval, in percent.

    >>> percent(Estimate(0.5, 0.25, 0.75))
    '50 % (25 to 75)'
    """
    if np.isnan(estimate.value):
        return UNKNOWN
    value, low, high = (number(100 * x, 0) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} % ({low} to {high})"


def compared(estimate: Estimate, better: str, worse: str, same: str) -> str:
    """Return the words that fit a difference: its interval above 0, below 0, or around it."""
    return better if estimate.above else worse if estimate.below else same


def cell_name(setting: Setting) -> str:
    """Return a cell in one line of a table."""
    return f"{setting.family} {setting.treatment}, {setting.network}, B = {setting.batch_size}, {setting.optimizer}"


def nats(value: float) -> str:
    """Return a cutoff, as short as it can be; infinite ones decide alike for all batches.

    >>> nats(1.0), nats(0.05), nats(-float("inf")), nats(float("inf"))
    ('1', '0.05', 'always', 'never')
    """
    if np.isinf(value):
        return "never" if value > 0 else "always"
    return f"{value:g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return an aligned Markdown table and an empty line; the first `left` columns stand to the left.

    >>> table(["arm", "accuracy"], [["none", "90.1"]])
    ['| arm  | accuracy |', '|------|---------:|', '| none |     90.1 |', '']
    """
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return [line(header), rule, *(line(row) for row in rows), ""]


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
