"""The JSON bodies and query parameters of the interface, version 1."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.problems import ProblemError
from app.records import Assessment, Shard
from app.service import find_gaps
from assessor.order import SAMPLER_VERSION

MAX_PAGE = 200
LARGEST_INTEGER = 2**62
"""As the assessor's."""

# Limits that the assessor checks itself, with a better message: for the document only.
_AXES: dict[str, Any] = {"enum": ["element", "channel"]}
Nonfinite = Annotated[
    str,
    Field(
        description="Rows with NaN or infinity: raise (an error), exclude (left out), or normalize (left out, and "
        "their batches are to be normalized).",
        json_schema_extra={"enum": ["raise", "exclude", "normalize"]},
    ),
]

_VERSION = {"const": SAMPLER_VERSION}
_ORDERS: Any = [
    {
        "properties": {"kind": {"const": kind}, **fields},
        "required": ["kind", *fields],
        "additionalProperties": False,
    }
    for kind, fields in (
        ("rows", {}),
        ("shuffled", {"seed": {"type": "integer"}, "version": _VERSION}),
        (
            "explicit",
            {"sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "version": _VERSION},
        ),
    )
]
"""Checked by the assessor too: for the document only."""

CURSOR = r"^n[0-9]{1,18}$"
NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
"""PostgreSQL keeps no zero characters, and the others would only garble a list or a report."""

# To JSON 32.0 is an integer; a text or true is none.
WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""Before a strict integer of a JSON body."""
BatchSize = Annotated[int, WHOLE, Field(strict=True, json_schema_extra={"minimum": 1})]

_STRICT = ConfigDict(extra="forbid", frozen=True)


class Problem(BaseModel):
    """An RFC 9457 problem document; every error has this form."""

    type: str = Field(examples=["/problems/missing-rows"])
    title: str = Field(examples=["Rows are missing"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["expected all rows from 0 to 1796; rows 600 to 1199 have not come: ..."])
    advice: str = Field(examples=["Send the shards that hold the rows named, then ask again."])
    instance: str = Field(examples=["/v1/assessments/5f0c2b9e61a7d384/plan"])
    request_id: str = Field(description="As in the header X-Request-ID, and in the log.", examples=["7c9e6679f0d1"])


class PlanOptions(BaseModel):
    """How to make a plan; what is not given is the method's own default."""

    model_config = _STRICT

    method: str | None = Field(
        default=None,
        description="need, heterogeneity, published or gaussian; or, with a threshold, a measure such as bartlett, "
        "location_share or scale_dispersion. Default: the assessment's, else need.",
        examples=["need"],
    )
    threshold: str | None = Field(
        default=None,
        description='A cutoff ("1.5"), or a threshold method ("quantile(0.9)" or "quantile:0.9", "otsu", '
        '"null(0.01)").',
        examples=["null(0.01)"],
    )
    drop_last: bool = Field(default=False, description="Leave out the last batch where it is short.")
    null: str | None = Field(
        default=None,
        description="heterogeneity and gaussian only: residual (default) or normal.",
        examples=["residual"],
    )
    published_exact: bool | None = Field(
        default=None, description="published only: the released code's own reading of the rule."
    )
    corrected: bool | None = Field(default=None, description="location_share only: epsilon squared.")
    network: Literal["mlp", "convnet", "resnet", "lstm", "unknown"] | None = Field(
        default=None, description="The model family that the plan's advice is for. Default: unknown.", examples=["mlp"]
    )

    def make_plan_options(self) -> dict[str, Any]:
        """Return the keyword arguments of `assessor.make_plan`, without method and batch size."""
        options: dict[str, Any] = {
            "threshold": self.threshold,
            "drop_last": self.drop_last,
        }
        for name in ("null", "published_exact", "corrected", "network"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        return options


class PlanQuery(PlanOptions):
    """The parameters of an assessment's plan."""

    batch_size: int | None = Field(
        default=None,
        description="One of those profiled; may be left out where there is only one.",
        examples=[32],
    )


class ReportQuery(PlanOptions):
    """The parameters of an assessment's report."""

    batch_size: int | None = Field(
        default=None,
        description="One of those profiled; default: all of them.",
        examples=[32],
    )


class AssessQuery(PlanOptions):
    """The parameters of a plan for one shard."""

    batch_size: int = Field(description="Samples in a batch.", examples=[32], json_schema_extra={"minimum": 1})
    feature_axis: str = Field(
        default="element",
        description="element: every element of a sample is a feature; channel: axis 1 is.",
        json_schema_extra=_AXES,
    )
    nonfinite: Nonfinite = "raise"


class NewAssessment(BaseModel):
    """What an assessment is of, given once."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"name": "digits", "batch_sizes": [4, 32], "method": "need"}]},
    )

    name: str = Field(
        min_length=1,
        max_length=200,
        pattern=NO_CONTROLS,
        description="For people; need not be unique; without control characters.",
    )
    batch_sizes: list[BatchSize] = Field(
        description="Every batch size to profile, in one pass.", json_schema_extra={"minItems": 1}
    )
    method: str = Field(default="need", description="The plan's method where the call names none.")
    feature_axis: str = Field(default="element", description="element or channel.", json_schema_extra=_AXES)
    nonfinite: Nonfinite = "raise"
    order: dict[str, Any] = Field(
        default_factory=lambda: {"kind": "rows"},
        description='How dataset rows were laid out: {"kind": "rows"}, {"kind": "shuffled", "seed": 0, "version": 1} '
        'or {"kind": "explicit", "sha256": ..., "version": 1}. Shards hold the rows in that order.',
        json_schema_extra={"oneOf": _ORDERS},
    )


class PageQuery(BaseModel):
    """Which part of a list."""

    model_config = _STRICT

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="Most items to return.")
    cursor: str | None = Field(
        default=None, pattern=CURSOR, description="next_cursor of the page before.", examples=["n17"]
    )


class ShardQuery(BaseModel):
    """Where a shard lies in the dataset."""

    model_config = _STRICT

    first_row: int | None = Field(
        default=None,
        ge=0,
        le=LARGEST_INTEGER,
        description="Row of the dataset at which the shard begins. May be left out for shard 0 "
        "(row 0) and where the shard before it is stored (the row after its last).",
    )


class ShardSummary(BaseModel):
    """A stored shard."""

    index: int = Field(examples=[1])
    first_row: int = Field(examples=[600])
    rows: int = Field(examples=[600])
    digest: str = Field(
        description="XXH3 (128 bits) or BLAKE3 of the shard's bytes, Content-Encoding undone: the shard's identity.",
        examples=["xxh3-128:99aa06d3014798d86001c324468d497f"],
    )
    size_bytes: int = Field(description="Of the shard, Content-Encoding undone.", examples=[153728])
    sample_shape: list[int] = Field(examples=[[8, 8]])
    dtype: str = Field(examples=["float32"])
    labelled: bool = Field(description="Whether labels came with it.", examples=[False])

    @classmethod
    def of(cls, shard: Shard) -> "ShardSummary":
        """Return the JSON form of a stored shard."""
        return cls(
            index=shard.index,
            first_row=shard.first_row,
            rows=shard.n_rows,
            digest=shard.digest,
            size_bytes=shard.size_bytes,
            sample_shape=list(shard.sample_shape),
            dtype=shard.dtype,
            labelled=shard.labelled,
        )


class AssessmentSummary(BaseModel):
    """An assessment as it was created."""

    id: str = Field(examples=["5f0c2b9e61a7d384"])
    name: str = Field(examples=["digits"])
    created_at: str = Field(description="ISO 8601, UTC.", examples=["2026-01-31T12:00:00.000+00:00"])
    expires_at: str | None = Field(
        description="When it is removed unless another shard comes before, ISO 8601, UTC; null: never.",
        examples=["2026-03-02T12:00:00.000+00:00"],
    )
    batch_sizes: list[int] = Field(description="Ascending.", examples=[[4, 32]])
    method: str = Field(examples=["need"])
    feature_axis: str = Field(examples=["element"])
    nonfinite: str = Field(examples=["raise"])
    order: dict[str, Any] = Field(examples=[{"kind": "rows"}])

    @classmethod
    def of(cls, assessment: Assessment) -> "AssessmentSummary":
        """Return the JSON form of an assessment."""
        return cls(**_summary_fields(assessment))


class AssessmentState(AssessmentSummary):
    """An assessment and what has come in."""

    rows: int = Field(description="Rows that have come.")
    gaps: list[tuple[int, int]] = Field(
        description="Ranges [start, stop) of rows that are missing before the last one."
    )
    shards: list[ShardSummary] = Field(description="By first row.")

    @classmethod
    def with_shards(cls, assessment: Assessment, shards: list[Shard]) -> "AssessmentState":
        """Return the JSON form of an assessment with its shards, which are sorted by first row."""
        return cls(
            **_summary_fields(assessment),
            rows=sum(shard.n_rows for shard in shards),
            gaps=find_gaps(shards),
            shards=[ShardSummary.of(shard) for shard in shards],
        )


class AssessmentPage(BaseModel):
    """A part of the list of assessments, newest first."""

    assessments: list[AssessmentSummary]
    next_cursor: str | None = Field(description="Pass it as cursor for the next page; null: last.")


class Health(BaseModel):
    """An answer to a probe."""

    status: str = "ok"


async def check_query(request: Request) -> None:
    """Check that each query parameter is one that the call has, and came once.

    Raises:
        ProblemError: names the known ones ("unknown-parameter").
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if not given:
        return
    path = request.scope["route"].path
    operation = request.app.openapi()["paths"][path][request.method.lower()]
    parameters = operation.get("parameters", [])
    known = [item["name"] for item in parameters if item["in"] == "query"]
    wrong = [name for name in given if name not in known]
    if wrong:
        names = ", ".join(known) or "none"
        raise ProblemError(
            "unknown-parameter",
            f"expected query parameters among: {names}; got {', '.join(map(repr, wrong))}; "
            "correct the name or leave it out",
        )
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ProblemError(
            "unknown-parameter",
            f"expected each query parameter once; got {', '.join(twice)} more than once; ask once for each value",
        )


def _summary_fields(assessment: Assessment) -> dict[str, Any]:
    return {
        "id": assessment.id,
        "name": assessment.name,
        "created_at": assessment.created_at,
        "expires_at": assessment.expires_at,
        "batch_sizes": list(assessment.batch_sizes),
        "method": assessment.method,
        "feature_axis": assessment.feature_axis,
        "nonfinite": assessment.nonfinite,
        "order": assessment.order,
    }
