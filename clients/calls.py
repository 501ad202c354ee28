"""The service's calls as pure values: what is asked, and what the answer means.

A `Call` holds a request and the function that reads its response. `exchange` says, as a generator,
what a client has to do for a call: send, wait, send again. It does no input or output itself, so
one core serves the synchronous and the asynchronous client.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from assessor import Plan, SampleOrder, SettingError, ShapeError
from clients.bodies import Body, shard_body
from clients.compression import CHECKED, Sending
from clients.errors import ServiceError, ServiceUnavailableError, service_error
from clients.resources import AssessmentInfo, ShardInfo
from clients.retry import Backoff

T = TypeVar("T")

_TURNED_AWAY = 429
_UNAVAILABLE_FOR_NOW = frozenset({_TURNED_AWAY, 502, 503, 504})


@dataclass(frozen=True)
class Request:
    """One HTTP request, before a transport knows of it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    idempotent: bool = False

    @property
    def repeatable(self) -> bool:
        """Sending it twice does what sending it once does, and its body can be sent again."""
        if self.idempotent:
            return self.body is None or self.body.repeatable
        return self.method == "GET" or (self.method == "PUT" and self.body is not None and self.body.repeatable)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the body asks for."""
        return {} if self.body is None else self.body.headers


@dataclass(frozen=True)
class Response:
    """One HTTP response that has been read, or the failure to get one."""

    status: int
    content: bytes = b""
    retry_after_s: float | None = None
    failure: str | None = None
    unsent: bool = False  # the failure came before the request went out


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and how to read its response."""

    request: Request
    read: Callable[[bytes], T]


@dataclass(frozen=True)
class Wait:
    """Let this time pass."""

    seconds: float


Step = Request | Wait


def exchange(call: Call[T], *, where: str, backoff: Backoff) -> Generator[Step, Response | None, T]:
    """Yield what to do, receive each response, return the answer.

    Args:
        call: what is asked.
        where: the service's URL, for messages.
        backoff: how often and when a safe request is repeated.

    Raises:
        ServiceError: the service answered with a problem.
        ServiceUnavailableError: no answer, or one that no normgauge service gives.
    """
    delays = backoff.delays()
    while True:
        response = yield call.request
        assert response is not None  # the drivers answer every request
        delay_s = next(delays, None) if _may_repeat(call.request, response) else None
        if delay_s is None:
            return _read(call, response, where)
        yield Wait(backoff.bounded(response.retry_after_s) or delay_s)


def _may_repeat(request: Request, response: Response) -> bool:
    """Return whether another try may do better and cannot do anything twice."""
    if response.unsent:
        return True
    if request.repeatable:
        return response.failure is not None or response.status in _UNAVAILABLE_FOR_NOW
    # the service turns away before it begins; the others may come from a proxy that had passed the request on
    return response.status == _TURNED_AWAY and (request.body is None or request.body.repeatable)


def _read(call: Call[T], response: Response, where: str) -> T:
    asked = f"{call.request.method} {where}{call.request.path}"
    if response.failure is not None:
        raise ServiceUnavailableError(
            f"expected an answer to {asked}; {response.failure}. Check that the service runs "
            "(normgauge serve), that the URL is its own, and that nothing between cuts long uploads"
        )
    if response.status >= 400:
        raise _refusal(response, asked)
    try:
        return call.read(response.content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServiceUnavailableError(
            f"expected the answer of a normgauge service to {asked}; got status {response.status} "
            f"and {response.content[:80]!r}: check the URL and both versions"
        ) from error


def _refusal(response: Response, asked: str) -> ServiceError | ServiceUnavailableError:
    try:
        problem = json.loads(response.content)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "type" in problem:
        return service_error(response.status, problem)
    return ServiceUnavailableError(
        f"expected a problem document in the answer to {asked}; got status {response.status} and "
        f"{response.content[:80]!r}: something other than a normgauge service answered"
    )


def assess(
    x: Any,
    labels: Any,
    *,
    batch_size: int,
    method: str,
    threshold: float | str | None,
    drop_last: bool,
    options: Mapping[str, Any],
    sending: Sending = CHECKED,
) -> Call[Plan]:
    """Return the call for the plan of one shard; nothing is kept by the service."""
    query = _query(batch_size=batch_size, method=method, threshold=threshold, drop_last=drop_last, **options)
    # Nothing is kept, so it may be asked twice.
    request = Request("POST", "/v1/assess", query, _body(x, labels).sent_as(sending), idempotent=True)
    return Call(request, read_plan)


def create_assessment(
    name: str,
    batch_sizes: int | Sequence[int],
    *,
    method: str,
    feature_axis: str,
    nonfinite: str,
    order: SampleOrder,
) -> Call[AssessmentInfo]:
    """Return the call that creates an assessment."""
    if not isinstance(order, SampleOrder):
        raise SettingError(f"expected order to be a SampleOrder; got {type(order).__name__}")
    body = json_body(
        {
            "name": name,
            "batch_sizes": _sizes(batch_sizes),
            "method": method,
            "feature_axis": feature_axis,
            "nonfinite": nonfinite,
            "order": order.to_dict(),
        }
    )
    return Call(Request("POST", "/v1/assessments", body=body), _read_assessment)


def put_shard(
    assessment_id: str,
    index: int,
    data: Any,
    labels: Any,
    *,
    first_row: int | None,
    progress: Callable[[int, int | None], None] | None = None,
    sending: Sending = CHECKED,
) -> Call[ShardInfo]:
    """Return the call that stores a shard.

    Raises:
        SettingError: an index that is no integer >= 0.
    """
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or index < 0:
        raise SettingError(f"expected a shard's index to be an integer >= 0; got {index!r}")
    path = f"{assessment_path(assessment_id)}/shards/{index}"
    body = replace(_body(data, labels).sent_as(sending), progress=progress)
    request = Request("PUT", path, _query(first_row=first_row), body)
    return Call(request, lambda content: ShardInfo.from_dict(json.loads(content)))


def plan(
    assessment_id: str,
    *,
    batch_size: int | None,
    method: str | None,
    threshold: float | str | None,
    drop_last: bool,
    options: Mapping[str, Any],
    read: Callable[[bytes], T],
) -> Call[T]:
    """Return the call for the plan of what has come in; a job may make it, which `read` must know."""
    query = _query(batch_size=batch_size, method=method, threshold=threshold, drop_last=drop_last, **options)
    return Call(Request("GET", f"{assessment_path(assessment_id)}/plan", query), read)


def get_assessment(assessment_id: str) -> Call[AssessmentInfo]:
    """Return the call for one assessment."""
    return Call(Request("GET", assessment_path(assessment_id)), _read_assessment)


def list_assessments(cursor: str | None) -> Call[tuple[list[AssessmentInfo], str | None]]:
    """Return the call for one page of assessments, and the cursor of the next."""
    return Call(Request("GET", "/v1/assessments", _query(cursor=cursor)), _read_page)


def delete_assessment(assessment_id: str) -> Call[None]:
    """Return the call that removes an assessment."""
    return Call(Request("DELETE", assessment_path(assessment_id)), lambda _: None)


def assessment_path(assessment_id: str) -> str:
    """Return an assessment's path.

    Raises:
        ValueError: a text that is no id.
    """
    if not isinstance(assessment_id, str) or not assessment_id.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"expected an assessment's id, as in AssessmentInfo; got {assessment_id!r}")
    return f"/v1/assessments/{assessment_id}"


def json_body(value: Any) -> Body:
    """Return a value as a body of JSON."""
    text = json.dumps(value).encode()
    return Body("application/json", len(text), lambda: iter([text]))


def _body(data: Any, labels: Any) -> Body:
    """Return the body of a shard; numbers in lists become an array, pieces of bytes stay what they are."""
    if isinstance(data, list | tuple) and not all(isinstance(piece, bytes | bytearray | memoryview) for piece in data):
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise ShapeError(f"expected rows of one shape in a list; {error}") from error
    return shard_body(data, labels)


def _sizes(batch_sizes: int | Sequence[int]) -> list[int]:
    sizes = np.atleast_1d(np.asarray(batch_sizes, object))
    if (
        sizes.ndim != 1
        or not len(sizes)
        or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sizes)
    ):
        raise SettingError(f"expected batch_sizes to be an integer or several; got {batch_sizes!r}")
    return [int(size) for size in sizes]


def _query(**values: Any) -> dict[str, str]:
    """Return the parameters that are set, as the service reads them."""
    texts = {name: value for name, value in values.items() if value is not None}
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in texts.items()
        if value is not False or name != "drop_last"
    }


def read_plan(content: bytes) -> Plan:
    """Return the plan of an answer."""
    return Plan.from_json(content.decode())


def _read_assessment(content: bytes) -> AssessmentInfo:
    return AssessmentInfo.from_dict(json.loads(content))


def _read_page(content: bytes) -> tuple[list[AssessmentInfo], str | None]:
    page = json.loads(content)
    return [AssessmentInfo.from_dict(item) for item in page["assessments"]], page["next_cursor"]
