"""Every error of the clients, as one tree.

ClientError
├─ ServiceError              the service answered with a problem (RFC 9457)
│  ├─ RemoteAssessorError    with one class a problem of the assessor below it, each also that
│  │                         assessor error: `except assessor.GapError` catches the local and
│  │                         the remote gap
│  ├─ InvalidRequestError ── UnknownParameterError, FirstRowNeededError
│  ├─ NotFoundError ──────── AssessmentNotFoundError
│  ├─ ConflictError ──────── ShardConflictError
│  ├─ AuthenticationError, PermissionDeniedError, MethodNotAllowedError, PayloadTooLargeError,
│  │  UnsupportedMediaTypeError, BodyTimeoutError, ConnectionCutError
│  └─ DatabaseUnavailableError, InternalServiceError, ReportNotAvailableError
├─ ServiceUnavailableError   no answer, or one that is not the service's
└─ LoaderError (ValueError)  AssessedLoader's own
   ├─ DatasetError           a dataset that cannot be assessed
   ├─ SampleError            a sample without a tensor to score, or unlike the others
   └─ StateError             a saved state of another run

Warnings: PlanMismatchWarning, RandomSampleWarning (both UserWarning).
No message and no attribute ever holds an API key.
"""

from collections.abc import Mapping
from typing import Any

import assessor


class ClientError(Exception):
    """Base of all errors that the clients raise themselves."""


class ServiceError(ClientError):
    """The service refused a call; the problem document says why.

    Attributes:
        status: HTTP status.
        type: the problem's stable type, a URI; its last segment is `code`.
        title: what kind of problem.
        detail: what was expected, what came, what to do.
    """

    def __init__(self, *, status: int, type: str, title: str, detail: str) -> None:
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {n: getattr(self, n) for n in ("status", "type", "title", "detail")}
        return _rebuild, (type(self), fields)


def _rebuild(cls: type[ServiceError], fields: dict[str, Any]) -> ServiceError:
    return cls(**fields)


class RemoteAssessorError(ServiceError, assessor.AssessorError):
    """The service cannot assess what it was given."""


class RemoteShardError(RemoteAssessorError, assessor.ShardError):
    """The shard sent cannot be used."""


class RemoteEmptyShardError(RemoteShardError, assessor.EmptyShardError):
    """The shard sent has no rows."""


class RemoteFormatError(RemoteShardError, assessor.FormatError):
    """The bytes sent are not the format they claim to be."""


class RemoteDtypeError(RemoteShardError, assessor.DtypeError):
    """The shard sent has a dtype the assessor does not read."""


class RemoteShapeError(RemoteShardError, assessor.ShapeError):
    """The shard sent has another sample shape than those before it."""


class RemoteNonFiniteError(RemoteShardError, assessor.NonFiniteError):
    """The shard sent holds NaN or infinity."""


class RemoteLabelError(RemoteShardError, assessor.LabelError):
    """The labels sent are not one integer a row."""


class RemoteSettingError(RemoteAssessorError, assessor.SettingError):
    """A setting out of its range."""


class RemoteUnknownNameError(RemoteSettingError, assessor.UnknownNameError):
    """A method, measure or format that the service does not know."""


class RemoteCoverageError(RemoteAssessorError, assessor.CoverageError):
    """The rows of the assessment do not fit together."""


class RemoteOverlapError(RemoteCoverageError, assessor.OverlapError):
    """The assessment already has some of these rows."""


class RemoteGapError(RemoteCoverageError, assessor.GapError):
    """The assessment lacks rows; send the missing shards."""


class RemotePlanError(RemoteAssessorError, assessor.PlanError):
    """A plan cannot be used."""


class RemotePlanFormatError(RemotePlanError, assessor.PlanFormatError):
    """A text that is not a plan."""


class RemoteFingerprintError(RemotePlanError, assessor.FingerprintError):
    """A plan made for other batches."""


class InvalidRequestError(ServiceError):
    """A body or parameter that the interface does not know; client and service may differ in version."""


class UnknownParameterError(InvalidRequestError):
    """A query parameter that the call does not have."""


class FirstRowNeededError(InvalidRequestError):
    """The shard before this one has not come: give put_shard its first_row."""


class AuthenticationError(ServiceError):
    """No API key, or one the service does not know."""


class PermissionDeniedError(ServiceError):
    """The API key may not do this."""


class NotFoundError(ServiceError):
    """No such resource."""


class AssessmentNotFoundError(NotFoundError):
    """No such assessment, or not this key's."""


class ReportNotAvailableError(ServiceError):
    """The service does not make reports."""


class MethodNotAllowedError(ServiceError):
    """The resource does not take this call."""


class ConflictError(ServiceError):
    """The call does not fit what the service has."""


class ShardConflictError(ConflictError):
    """Other bytes are already stored under this shard's index."""


class PayloadTooLargeError(ServiceError):
    """The body exceeds the service's limit; send smaller shards."""


class UnsupportedMediaTypeError(ServiceError):
    """The service does not read this kind of body."""


class BodyTimeoutError(ServiceError):
    """The body stopped coming."""


class ConnectionCutError(ServiceError):
    """The connection was cut before the body's end."""


class DatabaseUnavailableError(ServiceError):
    """The service's database did not answer; try again."""


class InternalServiceError(ServiceError):
    """The service failed."""


class ServiceUnavailableError(ClientError):
    """The service could not be reached, or something else answered in its place."""


class LoaderError(ClientError, ValueError):
    """AssessedLoader cannot do what its arguments ask."""


class DatasetError(LoaderError):
    """A dataset that cannot be assessed: iterable, without length, empty."""


class SampleError(LoaderError):
    """A sample in which no tensor to score is found, or one unlike the others."""


class StateError(LoaderError):
    """A saved state that belongs to another run."""


class PlanMismatchWarning(UserWarning):
    """The plan was made for other batches; the text says what is done about it."""


class RandomSampleWarning(UserWarning):
    """Two reads of one sample differ: what was scored is not what will be fed."""


_REMOTE: tuple[type[RemoteAssessorError], ...] = (
    RemoteAssessorError,
    RemoteShardError,
    RemoteEmptyShardError,
    RemoteFormatError,
    RemoteDtypeError,
    RemoteShapeError,
    RemoteNonFiniteError,
    RemoteLabelError,
    RemoteSettingError,
    RemoteUnknownNameError,
    RemoteCoverageError,
    RemoteOverlapError,
    RemoteGapError,
    RemotePlanError,
    RemotePlanFormatError,
    RemoteFingerprintError,
)

# problem code -> class; the assessor's own codes come from its classes
BY_CODE: dict[str, type[ServiceError]] = {
    **{cls.code: cls for cls in _REMOTE},
    "invalid-request": InvalidRequestError,
    "unknown-parameter": UnknownParameterError,
    "first-row-needed": FirstRowNeededError,
    "bad-request": InvalidRequestError,
    "shard-conflict": ShardConflictError,
    "assessment-not-found": AssessmentNotFoundError,
    "not-found": NotFoundError,
    "report-not-available": ReportNotAvailableError,
    "method-not-allowed": MethodNotAllowedError,
    "too-large": PayloadTooLargeError,
    "unsupported-media-type": UnsupportedMediaTypeError,
    "body-timeout": BodyTimeoutError,
    "client-disconnected": ConnectionCutError,
    "database-unavailable": DatabaseUnavailableError,
    "internal-error": InternalServiceError,
}

# for a problem whose code has no class here: a newer service, or a proxy before it
BY_STATUS: dict[int, type[ServiceError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
}


def service_error(status: int, problem: Mapping[str, Any]) -> ServiceError:
    """Return the typed error of a problem document.

    >>> type(service_error(409, {"type": "urn:normgauge:problem:missing-rows"})).__name__
    'RemoteGapError'
    >>> type(service_error(418, {"type": "about:blank", "title": "Teapot"})).__name__
    'ServiceError'
    """
    kind = str(problem.get("type", "about:blank"))
    cls = BY_CODE.get(problem_code(kind)) or BY_STATUS.get(status, ServiceError)
    return cls(
        status=status,
        type=kind,
        title=str(problem.get("title", "the service refused the call")),
        detail=str(problem.get("detail", "")),
    )


def problem_code(kind: str) -> str:
    """Return the code in a problem's type: the last segment of its URI.

    >>> problem_code("https://normgauge.example/problems/missing-rows")
    'missing-rows'
    """
    return kind.replace("#", "/").replace(":", "/").rstrip("/").rpartition("/")[2]
