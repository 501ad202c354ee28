"""The OpenAPI document as it is served: what FastAPI derives, completed by what holds for many calls.

Each call gets every problem that it can end in, by status, with the problem's `type` as an enumeration and an example
of each; path parameters get examples; what a call answers is linked to the calls that take it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.auth import TOKEN_FORM
from app.auth.access import is_open
from app.jobs.schemas import INGEST_LIST
from app.observability.requests import PROBES
from app.openapi import PROBLEMS_KEY
from app.problems import KINDS, MEDIA_TYPE
from app.schemas import Problem
from app.settings import Settings
from assessor import methods
from assessor.formats import formats

ANY_CALL = ("malformed-http", "headers-timeout", "headers-too-large", "too-many-connections", "internal-error")
"""What any call can be refused for, before it is known which it is, and what it can fail of."""

NO_PROBE = ("too-many-requests-at-once",)
NEEDS_KEY = ("unauthenticated", "rate-limited", "database-unavailable")
HAS_BODY = (
    "bad-request",
    "bad-content-digest",
    "content-digest-mismatch",
    "client-disconnected",
    "body-timeout",
    "slow-upload",
    "unsupported-media-type",
    "unsupported-encoding",
    "shutting-down",
)
HAS_JSON_BODY = (*HAS_BODY, "invalid-request", "json-too-large")

PARAMETER_EXAMPLES = {
    "assessment_id": "5f0c2b9e61a7d384",
    "index": 0,
    "job_id": "0d9c1a2b3e4f5061",
    "code": "missing-rows",
}

_JSON = "application/json"
_LIMITS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})


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
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        components["securitySchemes"] = {"key": _KEY}
        for path, operation in _operations(document):
            _describe_problems(path, operation)
            _describe_parameters(operation)
            if not is_open(path):
                operation["security"] = [{"key": []}, {}]
        _describe_choices(document, app.state.service.settings)
        components["examples"] = {code: _example(code) for code in KINDS}
        _link(document)
        _write_integers(document)
        app.openapi_schema = document
    return app.openapi_schema


def document_bytes(app: FastAPI) -> bytes:
    """Return the document as JSON, encoded once."""
    if not hasattr(app.state, "document"):
        app.state.document = json.dumps(describe(app), ensure_ascii=False, separators=(",", ":")).encode()
    document = app.state.document
    assert isinstance(document, bytes)
    return document


_KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": TOKEN_FORM,
    "description": "An API key. Needed once the operator has made one; before, the service takes calls from its own "
    "machine only.",
}


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def _describe_problems(path: str, operation: dict[str, Any]) -> None:
    """Say of a call how it can be refused, and how it can fail."""
    responses = operation["responses"]
    codes = list(ANY_CALL)
    for response in responses.values():
        codes += response.pop(PROBLEMS_KEY, ())
    if path not in PROBES:
        codes += NO_PROBE
    if not is_open(path):
        codes += NEEDS_KEY
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        codes += HAS_JSON_BODY if set(content) == {_JSON} else HAS_BODY
    by_status: dict[int, list[str]] = {}
    for code in KINDS:  # in the table's order, each once
        if code in codes:
            by_status.setdefault(KINDS[code].status, []).append(code)
    for status, kinds in by_status.items():
        responses[str(status)] = _problem_response(status, kinds)
    operation["responses"] = dict(sorted(responses.items()))


def _problem_response(status: int, codes: list[str]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"{KINDS[code].title} (/problems/{code})" for code in codes),
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [{"$ref": "#/components/schemas/Problem"}],
                    "properties": {
                        "type": {"enum": [f"/problems/{code}" for code in codes]},
                        "status": {"const": status},
                    },
                },
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }


def _example(code: str) -> dict[str, Any]:
    kind = KINDS[code]
    value = {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "expected ...; got ...; what to do",
        "advice": kind.advice,
        "instance": "/v1/assessments/5f0c2b9e61a7d384",
        "request_id": "2f1c6a0e5b7d4c3f9e8d7c6b5a493827",
    }
    return {"summary": kind.title, "value": value}


def _describe_parameters(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        # One that may be left out is None in our code, but nothing in a request's head is null.
        kinds = [kind for kind in parameter["schema"].pop("anyOf", ()) if kind != {"type": "null"}]
        parameter["schema"] |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        if parameter["in"] == "path" and parameter["name"] in PARAMETER_EXAMPLES:
            parameter["example"] = PARAMETER_EXAMPLES[parameter["name"]]


def _describe_choices(document: dict[str, Any], settings: Settings) -> None:
    """Say which batch sizes, methods and formats this service takes."""
    schemas = {name: schema.get("properties", {}) for name, schema in document["components"]["schemas"].items()}
    schemas["NewAssessment"]["method"]["enum"] = list(methods.names())
    for name in ("IngestShard", "NewIngest"):
        text = next(kind for kind in schemas[name]["format"]["anyOf"] if kind["type"] == "string")
        text["enum"] = list(formats.names())
    ingest = document["paths"]["/v1/assessments/{assessment_id}/shards:ingest"]["post"]["requestBody"]["content"][_JSON]
    ingest["schema"] = {"anyOf": [ingest["schema"], INGEST_LIST]}
    sizes = schemas["NewAssessment"]["batch_sizes"]
    sizes["maxItems"] = settings.max_batch_sizes
    one = next(p for p in document["paths"]["/v1/assess"]["post"]["parameters"] if p["name"] == "batch_size")
    for schema in (sizes["items"], one["schema"]):
        schema["maximum"] = settings.max_batch_size


def _link(document: dict[str, Any]) -> None:
    """Link what makes an assessment or a job to the calls that take its id."""
    for _, operation in _operations(document):
        for status, name in (("201", "assessment_id"), ("202", "job_id")):
            response = operation["responses"].get(status)
            if response is None:
                continue
            given = _path_parameters(operation)
            expression = f"$request.path.{name}" if name in given else "$response.body#/id"
            links = {
                other["operationId"]: {"operationId": other["operationId"], "parameters": {name: expression}}
                for _, other in _operations(document)
                if name in _path_parameters(other)
            }
            response["links"] = links


def _write_integers(node: Any) -> None:
    """Write limits of integers as integers: FastAPI holds them as floating-point numbers, which have fewer digits."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _LIMITS and isinstance(value, float) and value.is_integer():
                node[key] = int(value)
            else:
                _write_integers(value)
    elif isinstance(node, list):
        for value in node:
            _write_integers(value)


def _path_parameters(operation: Mapping[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
