"""The report of a conversion."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """What was done to one norm.

    Attributes:
        path: where it is in the model; empty for the model itself.
        before: its class.
        after: the class that is there now.
        changed: whether it was replaced.
        reason: what was lost or why it was left.
    """

    path: str
    before: str
    after: str
    changed: bool
    reason: str


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text.

    >>> print(table([Row("0", "BatchNorm1d", "BatchNorm1d", False, "is batch already")]))
    path  from         to           changed  reason
    0     BatchNorm1d  BatchNorm1d  no       is batch already
    """
    head = ("path", "from", "to", "changed", "reason")
    cells = [head] + [(r.path or "(root)", r.before, r.after, "yes" if r.changed else "no", r.reason) for r in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
