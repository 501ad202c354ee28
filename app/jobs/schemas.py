"""The JSON bodies of jobs and of what asks for them."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.jobs.records import Job, Kind, State
from app.schemas import LARGEST_INTEGER, WHOLE, Problem
from assessor import SourceUriError
from assessor.sources import SourceUri, is_pattern
from assessor.sources.uris import LONGEST_URI

LARGEST_INDEX = 2**31 - 1

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Index = Annotated[int, Field(strict=True, ge=0, le=LARGEST_INDEX), WHOLE]
_Row = Annotated[int, Field(strict=True, ge=0, le=LARGEST_INTEGER), WHOLE]
_Format = Annotated[
    str | None,
    Field(default=None, max_length=40, description="Default: by the end of the name, and by the first bytes."),
]


ADDRESS_FORM, PATTERN_FORM = "object-uri", "object-pattern"
"""Formats of texts, for the document: of an object's URI, and of a pattern for several."""
_ADDRESS: Any = {"format": ADDRESS_FORM}


class IngestShard(BaseModel):
    """One object that is to become a shard."""

    model_config = _STRICT

    uri: str = Field(max_length=LONGEST_URI, examples=["s3://data/digits/part-0.npy"], json_schema_extra=_ADDRESS)
    index: _Index | None = Field(default=None, description="Default: after the one before it in the list, or 0.")
    first_row: _Row | None = Field(default=None, description="Default: after the shard of the index before it.")
    format: _Format = None


class NewIngest(BaseModel):
    """The objects that are to become shards: a list, or a pattern; or the list alone, of objects or of their URIs."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"pattern": "s3://data/digits/part-*.npy"},
                {"shards": [{"uri": "s3://data/digits/a.npy"}, {"uri": "s3://data/digits/b.npy"}]},
            ],
            "oneOf": [
                {"required": ["shards"], "properties": {"shards": {"type": "array"}, "pattern": {"type": "null"}}},
                {"required": ["pattern"], "properties": {"pattern": {"type": "string"}, "shards": {"type": "null"}}},
            ],
        },
    )

    shards: list[IngestShard] | None = Field(default=None, min_length=1, description="Each object, in this order.")
    pattern: str | None = Field(
        default=None,
        max_length=LONGEST_URI,
        description="All objects that match, sorted by the characters of their keys: * and ? within a part of the "
        "path, [abc], and ** for any parts.",
        examples=["s3://data/digits/part-*.npy"],
        json_schema_extra={"format": PATTERN_FORM},
    )
    first_index: _Index = Field(default=0, description="With a pattern: index of the first shard.")
    first_row: _Row | None = Field(default=None, description="With a pattern: row at which the first shard begins.")
    format: _Format = None

    @model_validator(mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return {"shards": [{"uri": item} if isinstance(item, str) else item for item in value]}

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.shards is None) == (self.pattern is None):
            raise ValueError("expected either shards or pattern; got both or neither: give one of them")
        return self

    def make_spec(self) -> dict[str, Any]:
        """Return what a job keeps of it.

        Raises:
            SourceUriError: a URI that is none, or a pattern that is one object's.
        """
        if self.shards is None:
            pattern = SourceUri.parse(self.pattern or "")
            if not is_pattern(pattern.key):
                raise SourceUriError(
                    f"expected a pattern with *, ? or [ in it; got {str(pattern)!r:.200}: name one object in shards"
                )
            return {
                "pattern": str(pattern),
                "first_index": self.first_index,
                "first_row": self.first_row,
                "format": self.format,
            }
        shards = []
        index = -1
        for item in self.shards:
            index = index + 1 if item.index is None else item.index
            uri = str(SourceUri.parse(item.uri))
            format_name = item.format or self.format
            shards.append({"uri": uri, "index": index, "first_row": item.first_row, "format": format_name})
        return {"shards": shards}


INGEST_LIST: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string", "maxLength": LONGEST_URI, **_ADDRESS},
            {"$ref": "#/components/schemas/IngestShard"},
        ]
    },
    "examples": [["s3://data/digits/a.npy", "s3://data/digits/b.npy"]],
}
"""What `NewIngest` takes beside an object, for the document."""


class Progress(BaseModel):
    """How far a job is; totals that are not known are null."""

    shards_done: int = Field(examples=[3])
    shards_total: int | None = Field(examples=[8])
    rows: int = Field(description="Rows of the shards done.", examples=[1800])
    bytes: int = Field(description="Bytes read, those of the current shard among them.", examples=[461_184])
    bytes_total: int | None = Field(examples=[1_229_824])


class JobState(BaseModel):
    """A job."""

    id: str = Field(examples=["9c0f2a7be4d81536"])
    kind: Kind = Field(examples=["ingest"])
    state: State = Field(examples=["running"])
    created_at: str = Field(description="ISO 8601, UTC.", examples=["2026-01-31T12:00:00.000+00:00"])
    ended_at: str | None = Field(examples=[None])
    attempts: int = Field(description="How often it was begun.", examples=[1])
    progress: Progress
    problem: Problem | None = Field(description="Why it failed.", examples=[None])
    result: str | None = Field(description="Where what it made is, once it has succeeded.", examples=[None])

    @classmethod
    def of(cls, job: Job) -> "JobState":
        """Return the JSON form of a job."""
        has_result = job.kind == "plan" and job.state == "succeeded"
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            created_at=job.created_at,
            ended_at=job.ended_at,
            attempts=job.attempts,
            progress=Progress(
                shards_done=job.shards_done,
                shards_total=job.shards_total,
                rows=job.rows_done,
                bytes=job.bytes_done + job.bytes_coming,
                bytes_total=job.bytes_total,
            ),
            problem=None if job.problem is None else Problem(**job.problem),
            result=f"/v1/jobs/{job.id}/result" if has_result else None,
        )
