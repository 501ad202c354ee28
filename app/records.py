"""What is stored of assessments and shards, and which shards fit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.problems import ProblemError
from assessor import LabelError, OverlapError, Profile, ShapeError


@dataclass(frozen=True)
class Assessment:
    """An assessment; `number` orders them in time, `expires_at` moves with each shard (None: never)."""

    number: int
    id: str
    name: str
    created_at: str
    batch_sizes: tuple[int, ...]
    method: str
    feature_axis: str
    order: dict[str, Any]
    nonfinite: str = "raise"
    expires_at: str | None = None
    n_shards: int = 0


@dataclass(frozen=True)
class Shard:
    """A stored shard without its profile; its rows are [first_row, first_row + n_rows)."""

    index: int
    first_row: int
    n_rows: int
    digest: str
    size_bytes: int
    sample_shape: tuple[int, ...]
    dtype: str
    labelled: bool

    @property
    def end_row(self) -> int:
        """Return the row after its last."""
        return self.first_row + self.n_rows

    @classmethod
    def of(cls, profile: Profile, *, index: int, digest: str, size_bytes: int) -> "Shard":
        """Return the description of a shard that was profiled in one piece."""
        ((first_row, end_row),) = profile.spans
        return cls(
            index=index,
            first_row=first_row,
            n_rows=end_row - first_row,
            digest=digest,
            size_bytes=size_bytes,
            sample_shape=tuple(profile.sample_shape),
            dtype=profile.dtype,
            labelled=profile.labelled,
        )

    def check_like(self, shape: Sequence[int]) -> None:
        """Check that samples of `shape` can join this shard's.

        Raises:
            ShapeError: they have another shape.
        """
        if tuple(shape) != self.sample_shape:
            raise ShapeError(
                f"expected samples of shape {list(self.sample_shape)}, as in shard {self.index} of "
                f"this assessment; got {list(shape)}; send shards of one shape, or create "
                "another assessment for these"
            )


def check_same(stored: Shard, *, digest: str, first_row: int | None) -> None:
    """Check that what came under a stored shard's index is that shard.

    Raises:
        ProblemError: other bytes, or another first row ("shard-conflict").
    """
    advice = "take another index, or delete the assessment and begin again"
    if stored.digest != digest:
        raise ProblemError(
            "shard-conflict",
            f"expected the bytes stored as shard {stored.index} ({stored.digest}); got others ({digest}); {advice}",
        )
    if first_row is not None and stored.first_row != first_row:
        raise ProblemError(
            "shard-conflict",
            f"expected shard {stored.index} at first_row {stored.first_row}, where it is stored; "
            f"got first_row {first_row}; {advice}",
        )


def check_fits(shard: Shard, stored: Sequence[Shard]) -> None:
    """Check that a new shard can join those stored.

    Raises:
        OverlapError: another shard has one of its rows.
        ShapeError, LabelError: it is unlike them.
    """
    for other in stored:
        if shard.first_row < other.end_row and other.first_row < shard.end_row:
            first = max(shard.first_row, other.first_row)
            last = min(shard.end_row, other.end_row) - 1
            raise OverlapError(
                f"expected rows that no shard has; got rows {shard.first_row} to "
                f"{shard.end_row - 1} in shard {shard.index}, of which {first} to {last} came in "
                f"shard {other.index}; pass the right first_row, or leave this shard out"
            )
    if stored:
        stored[0].check_like(shard.sample_shape)
        if stored[0].labelled != shard.labelled:
            with_labels, without = sorted((stored[0], shard), key=lambda s: not s.labelled)
            raise LabelError(
                "expected labels in every shard or in none; got them in shard "
                f"{with_labels.index} and none in shard {without.index}; send all alike"
            )


def find_first_row(index: int, first_row: int | None, shards: Sequence[Shard]) -> int:
    """Return the row at which a shard begins: the one given, 0 for the first, or after the shard before it.

    Args:
        index: of the shard.
        first_row: as given; None: not.
        shards: those stored; the one before it, at least.

    Raises:
        ProblemError: it cannot be told ("first-row-needed").
    """
    if first_row is not None:
        return first_row
    if index == 0:
        return 0
    for shard in shards:
        if shard.index == index - 1:
            return shard.end_row
    raise ProblemError(
        "first-row-needed",
        f"expected first_row, the row of the dataset at which shard {index} begins, since shard "
        f"{index - 1} has not come; got none; pass ?first_row= or send shard {index - 1} first",
    )
