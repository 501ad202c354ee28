"""What endpoints say of themselves in the OpenAPI document: streamed bodies, plans, problems."""

from typing import Any

from app.ingest import SNIFFED_MEDIA_TYPE
from app.plan_answers import ARROW, ARROW_STREAM, JSON
from app.problems import KINDS
from assessor.advice.choices import KINDS as CHOICES
from assessor.formats import MEDIA_TYPES
from assessor.recommendation import ACTIONS

PROBLEMS_KEY = "x-problems"
"""Where a response holds the codes of its problems until the document is made."""

ADVICE_SCHEMA: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "What to do and which norm to take, from what a study measured on data like this; docs/advice.md.",
    "required": ["action", "choices", "text", "evidence", "network"],
    "properties": {
        "action": {"enum": list(ACTIONS), "description": "Of the first choice; unknown: not enough evidence."},
        "text": {"type": "string", "description": "The first choice, or why there is none."},
        "evidence": {"type": "string", "description": 'Which study; "" where none is installed.'},
        "network": {"type": ["string", "null"], "description": "The model family asked for; null: not known."},
        "choices": {
            "type": "array",
            "description": "The best first.",
            "items": {
                "type": "object",
                "required": ["name", "kind", "effect", "low", "high", "cells", "reason"],
                "properties": {
                    "name": {"type": "string"},
                    "kind": {"enum": list(CHOICES)},
                    "effect": {"type": "number", "description": "Expected test accuracy less that of doing nothing."},
                    "low": {"type": "number"},
                    "high": {"type": "number"},
                    "cells": {"type": "integer", "description": "Near cells of the study that tried it."},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}

PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A plan, schema normgauge.plan/1: one decision a batch, with score and cutoff. NaN is null.",
    "required": ["schema", "method", "batch_size", "n_rows", "n_batches", "scores", "cutoffs", "normalize"],
    "properties": {
        "schema": {"const": "normgauge.plan/1"},
        "method": {"type": "string"},
        "batch_size": {"type": "integer"},
        "n_rows": {"type": "integer"},
        "n_batches": {"type": "integer"},
        "flagged_fraction": {"type": "number"},
        "action": {"enum": list(ACTIONS), "description": "What the data as a whole need."},
        "recommendation": {"type": "string", "description": "The same in words; with the advice's first choice."},
        "advice": ADVICE_SCHEMA,
        "scores": {"type": "array", "description": "One a batch."},
        "cutoffs": {"type": "array", "description": "One a batch, or one for all."},
        "normalize": {"type": "array", "items": {"enum": [0, 1]}, "description": "One a batch."},
    },
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}

PLAN_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The plan: as JSON, or, where Accept names it and likes JSON no better, an Arrow file or "
        "stream: a row a batch, all else of the JSON in the schema's metadata normgauge",
        "content": {JSON: {"schema": PLAN_SCHEMA}, **dict.fromkeys((ARROW, ARROW_STREAM), _BINARY)},
    }
}

REPORT_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The report", "content": {"text/html": {"schema": {"type": "string"}}}}
}

PAGE_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}
}

METRICS_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def shard_body() -> dict[str, Any]:
    """Return the part of an operation that describes a streamed shard as its body."""
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    description = (
        "One shard, rows first. npy: one array (rows, *). safetensors, npz: x (rows, *) and optionally y (rows,) with "
        "integer labels. Arrow, Parquet, CSV, JSON: columns of numbers or of lists, and optionally y or label. tar: "
        f"WebDataset. {SNIFFED_MEDIA_TYPE}: recognized by its first bytes. Never held whole in memory."
    )
    content: dict[str, Any] = dict.fromkeys([*MEDIA_TYPES, SNIFFED_MEDIA_TYPE], binary)
    content["application/json"] = {"schema": {"type": ["array", "object"]}, "examples": _JSON_SHARDS}
    return {"requestBody": {"required": True, "description": description, "content": content}}


_JSON_SHARDS = {
    "rows": {"summary": "Rows of numbers", "value": [[1.0, 2.5], [3.0, 4.5]]},
    "columns": {"summary": "Rows and labels by name", "value": {"x": [[1.0, 2.5], [3.0, 4.5]], "y": [0, 1]}},
}


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the responses of an operation that can end in these problems; `app.document` writes them out."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, {"description": "", PROBLEMS_KEY: []})[PROBLEMS_KEY].append(code)
    return by_status


SHARD_PROBLEMS = (
    "body-too-large",
    "decoded-too-large",
    "spool-too-large",
    "too-many-rows",
    "too-many-features",
    "too-many-classes",
    "batch-size-too-large",
    "malformed-encoding",
    "bad-setting",
    "malformed-shard",
    "bad-shard",
    "empty-shard",
    "unsupported-dtype",
    "shape-mismatch",
    "non-finite",
    "bad-labels",
    "too-many-uploads",
    "no-room",
)
"""What a shard's body can be refused for."""

REQUEST_PROBLEMS = ("invalid-request", "unknown-parameter")
"""What any call with parameters can be refused for."""
