"""The OpenAPI document, where it says more than FastAPI derives: streamed bodies, plans, problems."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.auth import TOKEN_FORM
from app.auth.access import is_open
from app.ingest import SNIFFED_MEDIA_TYPE
from app.problems import KINDS, MEDIA_TYPE
from app.schemas import Problem
from assessor.formats import MEDIA_TYPES

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
        "recommendation": {"type": "string"},
        "scores": {"type": "array", "description": "One a batch."},
        "cutoffs": {"type": "array", "description": "One a batch, or one for all."},
        "normalize": {"type": "array", "items": {"enum": [0, 1]}, "description": "One a batch."},
    },
}

PLAN_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The plan", "content": {"application/json": {"schema": PLAN_SCHEMA}}}
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
    binary = {"schema": {"type": "string", "format": "binary"}}
    description = (
        "One shard, rows first. npy: one array (rows, *). safetensors, npz: x (rows, *) and optionally y (rows,) with "
        "integer labels. Arrow, Parquet, CSV, JSON: columns of numbers or of lists, and optionally y or label. tar: "
        f"WebDataset. {SNIFFED_MEDIA_TYPE}: recognized by its first bytes. Never held whole in memory."
    )
    content = dict.fromkeys([*MEDIA_TYPES, SNIFFED_MEDIA_TYPE], binary)
    return {"requestBody": {"required": True, "description": description, "content": content}}


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the responses of an operation that can end in the problems of these codes."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        kind = KINDS[code]
        response = by_status.setdefault(kind.status, {"description": "", "content": {MEDIA_TYPE: _PROBLEM_CONTENT}})
        joint = "; " if response["description"] else ""
        response["description"] += f"{joint}{kind.title} (/problems/{code})"
    return by_status


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        _describe_access(document)
        app.openapi_schema = document
    return app.openapi_schema


def _describe_access(document: dict[str, Any]) -> None:
    """Say of every call that needs a key that it does, and how it is refused without."""
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": TOKEN_FORM,
            "description": "An API key. Needed once the operator has made one; before, the service takes calls from "
            "its own machine only.",
        }
    }
    for path, operations in document["paths"].items():
        if not is_open(path):
            for operation in operations.values():
                operation["security"] = [{"key": []}, {}]
                for status, response in problem_responses(*ACCESS_PROBLEMS).items():
                    operation["responses"].setdefault(str(status), response)


_PROBLEM_CONTENT = {"schema": {"$ref": "#/components/schemas/Problem"}}

SHARD_PROBLEMS = (
    "body-timeout",
    "too-large",
    "unsupported-media-type",
    "malformed-shard",
    "empty-shard",
    "unsupported-dtype",
    "shape-mismatch",
    "non-finite",
    "bad-labels",
)
"""What a shard's body can be refused for."""

REQUEST_PROBLEMS = ("invalid-request", "unknown-parameter")
"""What any call with parameters can be refused for."""

ACCESS_PROBLEMS = ("unauthenticated", "rate-limited")
"""What any call that needs a key can be refused for."""
