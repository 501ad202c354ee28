"""What the service returns beside plans, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assessor import SampleOrder


@dataclass(frozen=True)
class ShardInfo:
    """A stored shard.

    Attributes:
        index: its number in the assessment.
        first_row: the row of the dataset at which it begins.
        rows: how many it has.
        digest: its identity: XXH3 or BLAKE3 of its bytes before any compression, and which.
        size_bytes: of the body.
        sample_shape: of one sample.
        dtype: of the values.
        labelled: it holds labels.
    """

    index: int
    first_row: int
    rows: int
    digest: str
    size_bytes: int
    sample_shape: tuple[int, ...]
    dtype: str
    labelled: bool

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ShardInfo":
        """Return the shard that the service's JSON describes."""
        return cls(
            index=int(data["index"]),
            first_row=int(data["first_row"]),
            rows=int(data["rows"]),
            digest=str(data["digest"]),
            size_bytes=int(data["size_bytes"]),
            sample_shape=tuple(int(n) for n in data["sample_shape"]),
            dtype=str(data["dtype"]),
            labelled=bool(data["labelled"]),
        )


@dataclass(frozen=True)
class AssessmentInfo:
    """An assessment.

    Attributes:
        id: names it in every other call.
        name: for people.
        created_at: ISO 8601, UTC.
        batch_sizes: all that are profiled.
        method: the plan's where a call names none.
        feature_axis: "element" or "channel".
        nonfinite: what becomes of rows that hold NaN or infinity: "raise", "exclude" or "normalize".
        order: how the dataset's rows are laid out in the shards.
        shards: what has come in, by first row; None where the call does not tell.
        gaps: ranges [start, stop) of rows that are missing before the last one.
    """

    id: str
    name: str
    created_at: str
    batch_sizes: tuple[int, ...]
    method: str
    feature_axis: str
    nonfinite: str
    order: SampleOrder
    shards: tuple[ShardInfo, ...] | None = None
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def rows(self) -> int:
        """Rows that have come in."""
        return sum(shard.rows for shard in self.shards or ())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AssessmentInfo":
        """Return the assessment that the service's JSON describes."""
        shards = data.get("shards")
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            created_at=str(data["created_at"]),
            batch_sizes=tuple(int(size) for size in data["batch_sizes"]),
            method=str(data["method"]),
            feature_axis=str(data["feature_axis"]),
            nonfinite=str(data["nonfinite"]),
            order=SampleOrder.from_dict(data["order"]),
            shards=None if shards is None else tuple(map(ShardInfo.from_dict, shards)),
            gaps=tuple((int(start), int(stop)) for start, stop in data.get("gaps", ())),
        )
