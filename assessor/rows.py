"""What is kept of each row, and which rows there are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assessor.errors import GapError, LabelError, OverlapError
from assessor.moments import Floats

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class RowTable:
    """Per row its mean and label, for the rows of `spans` in ascending order.

    Attributes:
        spans: disjoint [start, stop) ranges of global row numbers, ascending, never adjacent.
        means: shape (rows,), float64: mean of all elements of the sample; NaN for a row that was left out.
        border_means: the same without the last row and the last column of an image; None below rank 2.
        labels: shape (rows,), int64, or None.
    """

    spans: Spans
    means: Floats
    border_means: Floats | None
    labels: NDArray[np.int64] | None

    @property
    def n_rows(self) -> int:
        """Rows in all spans."""
        return len(self.means)

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Global numbers of the rows that were left out, ascending."""
        places = np.flatnonzero(np.isnan(self.means))
        if not len(places):
            return places
        starts = np.array([start for start, _ in self.spans], np.int64)
        lengths = np.array([stop - start for start, stop in self.spans], np.int64)
        first = np.cumsum(lengths) - lengths
        span = np.searchsorted(first, places, side="right") - 1
        return np.asarray(starts[span] + (places - first[span]))


def join_rows(tables: Sequence[RowTable]) -> RowTable:
    """Return the rows of all tables together.

    Raises:
        OverlapError: a row is in two tables.
        LabelError: some tables have labels and some have not.
    """
    pieces: list[tuple[int, int, RowTable, int]] = []
    for table in tables:
        at = 0
        for start, stop in table.spans:
            pieces.append((start, stop, table, at))
            at += stop - start
    pieces.sort(key=lambda piece: piece[:2])
    spans: list[tuple[int, int]] = []
    for start, stop, _, _ in pieces:
        if spans and start < spans[-1][1]:
            raise OverlapError(
                f"expected each row once; rows {start} to {min(stop, spans[-1][1]) - 1} came twice: "
                "give each shard its own first_row"
            )
        if spans and start == spans[-1][1]:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    labelled = {table.labels is not None for table in tables if table.n_rows}
    if len(labelled) > 1:
        raise LabelError(
            "expected labels in every shard or in none; some have them and some do not: "
            "send the others again with their labels"
        )

    def gather(name: str) -> NDArray[np.generic] | None:
        parts = [
            getattr(table, name)[at : at + stop - start]
            for start, stop, table, at in pieces
            if getattr(table, name) is not None
        ]
        return np.concatenate(parts) if parts else None

    means = gather("means")
    return RowTable(
        tuple(spans),
        np.zeros(0) if means is None else means.astype(np.float64, copy=False),
        gather("border_means"),  # type: ignore[arg-type]  # float64 throughout
        gather("labels"),  # type: ignore[arg-type]  # int64 throughout
    )


def missing_rows(spans: Spans) -> Spans:
    """Return the gaps before the last row.

    >>> missing_rows(((2, 4), (6, 9)))
    ((0, 2), (4, 6))
    """
    gaps, at = [], 0
    for start, stop in spans:
        if start > at:
            gaps.append((at, start))
        at = stop
    return tuple(gaps)


def require_all_rows(spans: Spans) -> int:
    """Return the number of rows N when the spans are exactly [0, N).

    Raises:
        GapError: names the missing rows.
    """
    if not spans:
        raise GapError("expected at least one shard; none has come: send the shards first")
    gaps = missing_rows(spans)
    if gaps:
        named = ", ".join(f"{start} to {stop - 1}" for start, stop in gaps[:5])
        more = f" and {len(gaps) - 5} more gaps" if len(gaps) > 5 else ""
        raise GapError(
            f"expected every row from 0 to {spans[-1][1] - 1}; missing rows {named}{more}: "
            "send the shards that hold them"
        )
    return spans[-1][1]
