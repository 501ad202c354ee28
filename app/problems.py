"""Every error of the service, as RFC 9457 problem documents: one table, one set of handlers.

A problem has a stable `type` ("/problems/<code>", where a short text about it is served), `title`, `status`, `detail`
(what was expected, what came, what to do here), `advice` (what to do about this type) and `instance` (the path that
was asked for) and `request_id` (under which the log has its lines). Nothing of the inside of the
server leaves it: what no handler knows is logged and answered as "internal-error".
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from assessor import AssessorError

MEDIA_TYPE = "application/problem+json"
REQUEST_ID_KEY = "normgauge.request_id"
"""Where the ASGI scope holds the request's id."""

PROBLEM_KEY = "normgauge.problem"
"""Where the ASGI scope holds the code of the problem that was answered."""

_SHOWN_OF_JSON = 20
_LONGEST_VALUE = 80
_MISSING = frozenset(("42P01", "42703"))
"""PostgreSQL's codes for a table, or a column, that is not there yet; see /readyz."""
_LOGGER = logging.getLogger("normgauge")


class Kind(NamedTuple):
    """One kind of problem: its HTTP status, its title, and what to do about it."""

    status: int
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    # The assessor's errors, by `AssessorError.code`.
    "assessor-error": Kind(422, "Not assessable", "Follow the detail."),
    "bad-shard": Kind(422, "Shard not usable", "Follow the detail and send the shard again."),
    "empty-shard": Kind(422, "Shard without rows", "Leave out shards that have no rows or no features."),
    "malformed-shard": Kind(
        422,
        "Shard not in its format",
        "Send a complete file of the format that Content-Type names. Object arrays and pickles are never read.",
    ),
    "unsupported-dtype": Kind(
        422, "Unsupported dtype", "Convert to uint8, int8..int64, float16, bfloat16, float32/64."
    ),
    "shape-mismatch": Kind(422, "Other sample shape", "All shards of an assessment hold samples of one shape."),
    "non-finite": Kind(422, "NaN or infinity", "Remove or impute the rows that the detail names, then send again."),
    "bad-labels": Kind(422, "Labels do not fit", "Send one integer label a row, in every shard or in none."),
    "bad-setting": Kind(422, "Setting out of range", "Follow the detail."),
    "unknown-name": Kind(422, "Unknown name", "Take one of the names that the detail lists."),
    "bad-coverage": Kind(409, "Rows do not fit together", "Follow the detail."),
    "overlapping-rows": Kind(409, "Rows came twice", "Pass the first_row at which this shard begins in the dataset."),
    "missing-rows": Kind(409, "Rows are missing", "Send the shards that hold the rows named, then ask again."),
    "bad-plan": Kind(422, "Plan not usable", "Follow the detail."),
    "malformed-plan": Kind(422, "Not a plan or sample order", "Follow the detail."),
    "fingerprint-mismatch": Kind(409, "Plan for other batches", "Make a plan for these batches."),
    "bad-source": Kind(422, "Object not readable", "Follow the detail."),
    "bad-source-uri": Kind(422, "Not an object's URI", "Write s3://bucket/key or file:///folder/file, as it is."),
    "source-not-found": Kind(422, "No such object", "Check bucket and key, and that the upload has ended."),
    "source-denied": Kind(422, "Object store refuses", "Give the service credentials that may read it."),
    "source-escape": Kind(422, "Path leaves its folder", "Put the file itself there, not a link to another place."),
    "source-redirect": Kind(422, "Object store redirects", "Give the service the endpoint at which the objects lie."),
    "source-changed": Kind(409, "Object was written meanwhile", "Start again when it is complete."),
    "source-unavailable": Kind(424, "Object store does not answer", "Try again later; the service tried already."),
    # The service's own.
    "invalid-request": Kind(422, "Invalid request", "Compare with the description in /openapi.json."),
    "unknown-parameter": Kind(422, "Unknown query parameter", "Take the names that the detail lists, each once."),
    "first-row-needed": Kind(422, "first_row needed", "Pass ?first_row= or send the shard before this one first."),
    "shard-conflict": Kind(
        409,
        "Another shard has this index",
        "Take another index, or delete the assessment and begin again.",
    ),
    "assessment-not-found": Kind(404, "No such assessment", "GET /v1/assessments lists those that exist."),
    "job-not-found": Kind(404, "No such job", "Jobs go with their assessment."),
    "no-result": Kind(409, "No plan", "Wait until the job has succeeded."),
    "job-abandoned": Kind(500, "Job given up", "Ask for it again when the cause is mended."),
    "too-many-jobs": Kind(429, "Too many jobs", "Wait until one of the assessment's jobs has ended."),
    "too-many-event-streams": Kind(
        429, "Too many event streams", "Close one, or look at the jobs themselves, at /v1/jobs/{id}."
    ),
    "ingest-off": Kind(403, "URIs are not read", "Let the operator name prefixes in NORMGAUGE_INGEST_PREFIXES."),
    "source-not-allowed": Kind(403, "URI is not allowed", "Take one under a prefix that the operator allowed."),
    "source-address": Kind(403, "Private address", "Let the operator name it in NORMGAUGE_INGEST_ENDPOINT."),
    "not-found": Kind(404, "No such resource", "See /openapi.json for what exists."),
    "method-not-allowed": Kind(405, "Method not allowed", "See the Allow header."),
    "too-large": Kind(413, "Too large", "Send smaller shards, or raise the limit named."),
    "body-too-large": Kind(413, "Body too large", "Send smaller shards, or raise the limit named."),
    "json-too-large": Kind(413, "JSON too large", "Send less, or raise the limit named."),
    "decoded-too-large": Kind(413, "Body grows too large", "Send smaller shards, or raise the limit named."),
    "spool-too-large": Kind(
        413, "Too large to keep meanwhile", "Send smaller shards, or a format that is read as a stream (safetensors)."
    ),
    "too-many-rows": Kind(413, "Too many rows", "Send fewer rows, or raise the limit named."),
    "too-many-features": Kind(413, "Too many values in a sample", "Reduce the samples, or raise the limit named."),
    "too-many-classes": Kind(413, "Too many classes", "Send class numbers as labels, or raise the limit named."),
    "too-many-assessments": Kind(409, "Too many assessments", "Delete some, or raise the limit named."),
    "too-many-shards": Kind(409, "Too many shards in the assessment", "Send larger shards, or raise the limit named."),
    "too-many-shards-of-key": Kind(409, "Too many shards of one key", "Delete assessments, or raise the limit named."),
    "too-many-batch-sizes": Kind(422, "Too many batch sizes", "Leave some out, or raise the limit named."),
    "batch-size-too-large": Kind(422, "Batch size too large", "Take a smaller one, or raise the limit named."),
    "unauthenticated": Kind(401, "Who is calling?", "Send an API key: Authorization: Bearer ng_..."),
    "rate-limited": Kind(429, "Too many calls in a short time", "Wait as long as Retry-After says, then go on."),
    "headers-too-large": Kind(431, "Headers too large", "Send fewer or shorter headers, or raise the limit named."),
    "unsupported-media-type": Kind(
        415,
        "Unsupported media type",
        "Send shards as one of the media types that the detail lists; all else as application/json.",
    ),
    "unsupported-encoding": Kind(
        415, "Unsupported Content-Encoding", "Send shards as they are, or compressed once by zstd or gzip."
    ),
    "malformed-encoding": Kind(400, "Not in its Content-Encoding", "Compress the body again and send it again."),
    "bad-content-digest": Kind(400, "Content-Digest not readable", "Write it as RFC 9530 says, or leave it out."),
    "content-digest-mismatch": Kind(400, "Body is not what Content-Digest says", "Nothing was stored; send again."),
    "body-timeout": Kind(408, "Body stopped coming", "Send again on a faster connection."),
    "slow-upload": Kind(408, "Body comes too slowly", "Send again on a faster connection, or compressed."),
    "headers-timeout": Kind(408, "Headers stopped coming", "Send again on a faster connection."),
    "malformed-http": Kind(400, "No HTTP", "Check the client, and what stands between it and the service."),
    "too-many-uploads": Kind(503, "Too many uploads at once", "Send again in a moment (Retry-After)."),
    "too-many-requests-at-once": Kind(503, "Too many requests at once", "Send again in a moment (Retry-After)."),
    "too-many-connections": Kind(503, "Too many connections", "Try again in a moment (Retry-After)."),
    "no-room": Kind(507, "No room for the upload", "Send a format that is read as a stream, or make room."),
    "client-disconnected": Kind(400, "Connection cut", "Nothing was stored; send again."),
    "bad-request": Kind(400, "Bad request", "See /openapi.json."),
    "report-not-available": Kind(
        501, "Reports are not installed", "Install the extra on the server: pip install 'normgauge[report]'."
    ),
    "shutting-down": Kind(503, "Going down", "Send it again, to another instance or in a few seconds."),
    "schema-outdated": Kind(503, "Database not up to date", "Run normgauge db upgrade on the server."),
    "database-unavailable": Kind(503, "Database not available", "Try again in a few seconds."),
    "internal-error": Kind(500, "Internal error", "The server's log has the cause; nothing half-written was kept."),
}

_CODE_OF_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
}


class ProblemError(HTTPException):
    """A problem of the service's own, by its code in `KINDS`.

    It derives from HTTPException so that FastAPI lets it pass where it reads a body.
    """

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(KINDS[code].status, detail, headers)
        self.code = code
        self.detail = detail


def problem_response(
    request: Request,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """Return the problem document of `code` for this request; `extra` become members of it."""
    request_id = request.scope.get(REQUEST_ID_KEY, "")
    content = problem_document(code, detail, instance=request.url.path, request_id=request_id) | extra
    request.scope[PROBLEM_KEY] = code
    return JSONResponse(content, KINDS[code].status, headers, media_type=MEDIA_TYPE)


def problem_document(code: str, detail: str, *, instance: str = "", request_id: str = "") -> dict[str, Any]:
    """Return the members that every problem document has; no path where no request was understood."""
    kind = KINDS[code]
    return {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "advice": kind.advice,
        "instance": instance,
        "request_id": request_id,
    }


def install(app: FastAPI) -> None:
    """Give `app` the handlers, so that every error it answers is a problem document.

    What none of them knows goes through, to `respond` in the outermost middleware.
    """
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


def respond(request: Request, error: Exception) -> Response:
    """Return the problem document of any exception; one that is not known is logged with its traceback."""
    handler = next((_HANDLERS[cls] for cls in type(error).__mro__ if cls in _HANDLERS), _on_any_error)
    return handler(request, error)


def _on_assessor_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AssessorError)
    code = error.code if error.code in KINDS else AssessorError.code
    return problem_response(request, code, str(error))


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(item["loc"] == ("body",) and isinstance(item.get("input"), bytes) for item in error.errors()):
        came = request.headers.get("content-type", "none")
        detail = f"expected JSON with Content-Type application/json; got Content-Type {came!r}; set the header"
        return problem_response(request, "unsupported-media-type", detail)
    errors = [
        _unparsable(item, error.body)
        if item["type"] == "json_invalid"
        else {"where": _place(item["loc"]), "detail": f"{item['msg']}; got {_shown(item)}"}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['where']}: {item['detail']}" for item in errors)
    detail += ". See /openapi.json for what this call takes"
    return problem_response(request, "invalid-request", detail, errors=errors)


def _unparsable(item: Mapping[str, Any], body: Any) -> dict[str, str]:
    """Return what is wrong with a body that is no JSON, and where: line and column count from 1, as editors do."""
    why = str(item.get("ctx", {}).get("error", item["msg"]))
    if not isinstance(body, str):
        return {"where": "body", "detail": f"expected JSON; {why}"}
    at = int(item["loc"][1])
    line, column = body.count("\n", 0, at) + 1, at - body.rfind("\n", 0, at)
    came = repr(body[at : at + _SHOWN_OF_JSON]) if at < len(body) else "the end of the body"
    return {"where": "body", "detail": f"expected JSON; line {line}, column {column}: {why}; got {came}"}


def _place(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location)


def _shown(item: Mapping[str, Any]) -> str:
    if item["type"] == "missing":
        return "nothing"
    text = repr(item.get("input"))
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, ProblemError):
        return problem_response(request, error.code, error.detail, headers=error.headers)
    code = _CODE_OF_STATUS.get(error.status_code)
    if code is None:
        code = "bad-request" if error.status_code < 500 else "internal-error"
    detail = f"{request.method} {request.url.path}: {_unreadable(error) or error.detail}. {KINDS[code].advice}"
    headers = _allow(request) if error.status_code == 405 else error.headers
    return problem_response(request, code, detail, headers=headers)


def _unreadable(error: HTTPException) -> str:
    """Return why the framework could not even read a JSON body, which its own words leave out; "" for other errors."""
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError):
        came = cause.object[cause.start]
        return f"expected JSON in UTF-8; got byte 0x{came:02x} at position {cause.start}: encode the body as UTF-8"
    return "expected JSON; it is nested too deeply: send less" if isinstance(cause, RecursionError) else ""


def _allow(request: Request) -> dict[str, str]:
    """Return the header that names all methods of a path; the framework's own names those of one of its routes."""
    path = getattr(request.scope.get("route"), "path", "")
    methods = request.app.openapi()["paths"].get(path, {"get": None})
    return {"Allow": ", ".join(sorted(method.upper() for method in methods))}


def _on_disconnect(request: Request, error: Exception) -> Response:
    # No one is left to read this; it keeps the log free of a traceback that tells nothing.
    detail = "expected the whole body; the connection was cut before its end; send it again"
    return problem_response(request, "client-disconnected", detail)


def _on_database_error(request: Request, error: Exception) -> Response:
    _LOGGER.error("database error on %s %s", request.method, request.url.path, exc_info=error)
    detail = "the database did not answer in time, has no room or lacks tables; nothing was stored; try again"
    return problem_response(request, "database-unavailable", detail, headers={"Retry-After": "5"})


def _on_statement_error(request: Request, error: Exception) -> Response:
    # Any other statement that the database does not understand is a mistake of ours.
    lacks = getattr(getattr(error, "orig", None), "sqlstate", None) in _MISSING
    return (_on_database_error if lacks else _on_any_error)(request, error)


def _on_any_error(request: Request, error: Exception) -> Response:
    _LOGGER.error("internal error on %s %s", request.method, request.url.path, exc_info=error)
    detail = "the server failed on this request; its log has the cause; nothing half-written stays"
    return problem_response(request, "internal-error", detail)


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    AssessorError: _on_assessor_error,
    RequestValidationError: _on_validation_error,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
    OperationalError: _on_database_error,
    InterfaceError: _on_database_error,
    ProgrammingError: _on_statement_error,
    PoolTimeoutError: _on_database_error,
}
