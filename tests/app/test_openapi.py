"""The OpenAPI document: complete, consistent in itself, and true of the answers."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.testclient import TestClient

from app.document import document_bytes
from app.main import create_app
from app.problems import KINDS, MEDIA_TYPE
from app.schemas import NewAssessment
from app.settings import Settings
from assessor import MEDIA_TYPES as SHARD_MEDIA_TYPES
from tests.app.support import check_problem


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    """The document as it is served."""
    response = client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return dict(response.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(node: object) -> Iterator[str]:
    """Yield every $ref below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_is_encoded_once(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/openapi.json").content == app.state.document == document_bytes(app)
        assert document_bytes(app) is app.state.document
        assert json.loads(app.state.document) == app.openapi()


def test_is_an_openapi_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPI.model_validate(document)


def test_has_every_call_of_the_interface(document: dict[str, Any]) -> None:
    found = {(method.upper(), path) for path, method, _ in operations(document)}
    assert found == {
        ("POST", "/v1/assess"),
        ("POST", "/v1/assessments"),
        ("GET", "/v1/assessments"),
        ("GET", "/v1/assessments/{assessment_id}"),
        ("DELETE", "/v1/assessments/{assessment_id}"),
        ("PUT", "/v1/assessments/{assessment_id}/shards/{index}"),
        ("POST", "/v1/assessments/{assessment_id}/shards:ingest"),
        ("GET", "/v1/jobs/{job_id}"),
        ("DELETE", "/v1/jobs/{job_id}"),
        ("GET", "/v1/jobs/{job_id}/events"),
        ("GET", "/v1/jobs/{job_id}/result"),
        ("GET", "/v1/assessments/{assessment_id}/plan"),
        ("GET", "/v1/assessments/{assessment_id}/report"),
        ("GET", "/problems/{code}"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/"),
    }


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert "#/components/schemas/Problem" in found
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_operations_are_described_and_named_once(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for path, _, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                assert parameter["description"], (path, parameter["name"])


def test_errors_are_problems(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert list(response["content"]) == [MEDIA_TYPE], (path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_problem_schema_is_that_of_the_answers(client: httpx.Client, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["Problem"]
    problem = client.get("/nowhere").json()
    assert set(schema["required"]) == set(problem)
    codes = {operation["examples"][0].rpartition("/")[2] for operation in [schema["properties"]["type"]]}
    assert codes <= set(KINDS)


def test_examples_are_accepted(client: httpx.Client, document: dict[str, Any]) -> None:
    for example in document["components"]["schemas"]["NewAssessment"]["examples"]:
        NewAssessment.model_validate(example)
        assert client.post("/v1/assessments", json=example).status_code == 201


def test_choices_are_those_that_are_taken(client: httpx.Client, document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["NewAssessment"]["properties"]
    sizes, settings = fields["batch_sizes"], Settings()
    assert (sizes["maxItems"], sizes["items"]["maximum"]) == (settings.max_batch_sizes, settings.max_batch_size)
    values = {"seed": 7, "version": 1, "sha256": "0" * 64}
    for order in fields["order"]["oneOf"]:
        kind = order["properties"]["kind"]["const"]
        given = {"kind": kind} | {name: values[name] for name in order["required"] if name != "kind"}
        body = {"name": "x", "batch_sizes": [sizes["items"]["maximum"]], "method": fields["method"]["enum"][-1]}
        response = client.post("/v1/assessments", json=body | {"order": given})
        assert response.status_code == 201, response.text
        if "version" in given:
            check_problem(
                client.post("/v1/assessments", json=body | {"order": given | {"version": True}}), 422, "malformed-plan"
            )


def test_shard_bodies_are_described(document: dict[str, Any]) -> None:
    for path in ("/v1/assess", "/v1/assessments/{assessment_id}/shards/{index}"):
        (operation,) = document["paths"][path].values()
        assert set(operation["requestBody"]["content"]) == {*SHARD_MEDIA_TYPES, "application/octet-stream"}
