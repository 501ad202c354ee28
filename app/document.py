"""The OpenAPI document as it is served: what FastAPI derives, completed by what holds for many calls.

Each call gets every problem that it can end in, by status, with the problem's `type` as an enumeration and an example
of each; path parameters get examples; what a call answers is linked to the calls that take it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.auth import TOKEN_FORM
from app.auth.access import is_open
from app.observability.requests import PROBES
from app.openapi import PROBLEMS_KEY
from app.problems import KINDS, MEDIA_TYPE
from app.schemas import Problem

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

PARAMETER_EXAMPLES = {"assessment_id": "5f0c2b9e61a7d384", "index": 0, "code": "missing-rows"}

_JSON = "application/json"


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
        components["examples"] = {code: _example(code) for code in KINDS}
        _link(document)
        app.openapi_schema = document
    return app.openapi_schema


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
        if parameter["in"] == "path":
            parameter["example"] = PARAMETER_EXAMPLES[parameter["name"]]


def _link(document: dict[str, Any]) -> None:
    """Link what makes an assessment, and a page of a list, to the calls that take an assessment's id."""
    made = document["paths"]["/v1/assessments"]["post"]["responses"]["201"]
    stored = document["paths"]["/v1/assessments/{assessment_id}/shards/{index}"]["put"]["responses"]["201"]
    made["headers"] = {"Location": {"description": "The assessment's path.", "schema": {"type": "string"}}}
    for _, operation in _operations(document):
        names = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
        if "assessment_id" not in names:
            continue
        name = operation["operationId"]
        made.setdefault("links", {})[name] = _link_to(operation, "$response.body#/id")
        if names == {"assessment_id"}:
            stored.setdefault("links", {})[name] = _link_to(operation, "$request.path.assessment_id")


def _link_to(operation: Mapping[str, Any], expression: str) -> dict[str, Any]:
    return {"operationId": operation["operationId"], "parameters": {"assessment_id": expression}}
