"""Every error of the clients, as one tree.

ClientError
├─ ServiceError              the service answered with a problem (RFC 9457)
│  ├─ RemoteAssessorError    with one class a problem of the assessor below it, each also that
│  │                         assessor error: `except assessor.GapError` catches the local and
│  │                         the remote gap
│  ├─ InvalidRequestError ── UnknownParameterError, FirstRowNeededError
│  ├─ NotFoundError ──────── AssessmentNotFoundError, JobNotFoundError
│  ├─ ConflictError ──────── ShardConflictError, QuotaError
│  ├─ PermissionDeniedError ─ SourceNotAllowedError
│  ├─ RateLimitedError, ServiceBusyError, TooManyJobsError, DigestMismatchError
│  ├─ AuthenticationError, MethodNotAllowedError, PayloadTooLargeError,
│  │  UnsupportedMediaTypeError, BodyTimeoutError, ConnectionCutError
│  └─ DatabaseUnavailableError, InternalServiceError, ReportNotAvailableError
├─ ServiceUnavailableError   no answer, or one that is not the service's
├─ JobCancelledError         a job that was waited for was cancelled
└─ LoaderError (ValueError)  AssessedLoader's own
   ├─ DatasetError           a dataset that cannot be assessed
   ├─ SampleError            a sample without a tensor to score, or unlike the others
   └─ StateError             a saved state of another run

Warnings: PlanMismatchWarning, RandomSampleWarning (both UserWarning).
No message and no attribute ever holds an API key.
"""

import sys
import warnings
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


class RemoteSourceError(RemoteAssessorError, assessor.SourceError):
    """The service cannot read an object."""


class RemoteSourceUriError(RemoteSourceError, assessor.SourceUriError):
    """An address that names no object."""


class RemoteSourceNotFoundError(RemoteSourceError, assessor.SourceNotFoundError):
    """No object lies there."""


class RemoteSourceDeniedError(RemoteSourceError, assessor.SourceDeniedError):
    """The store does not let the service read the object."""


class RemoteSourceEscapeError(RemoteSourceError, assessor.SourceEscapeError):
    """A link that leads out of the folder."""


class RemoteSourceRedirectError(RemoteSourceError, assessor.SourceRedirectError):
    """The store sends on to another host."""


class RemoteSourceChangedError(RemoteSourceError, assessor.SourceChangedError):
    """The object was written while the service read it."""


class RemoteSourceUnavailableError(RemoteSourceError, assessor.SourceUnavailableError):
    """The store does not answer the service."""


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


class JobNotFoundError(NotFoundError):
    """No such job, or not this key's; a job goes with its assessment."""


class RateLimitedError(ServiceError):
    """Too many calls in a short time; the client has already waited and tried again."""


class ServiceBusyError(ServiceError):
    """The service takes no more at the moment, or goes down; try again."""


class DigestMismatchError(ServiceError):
    """The body that came is not the one whose digest was sent; send it again."""


class TooManyJobsError(ServiceError):
    """The assessment has as many unfinished jobs as it may have."""


class SourceNotAllowedError(PermissionDeniedError):
    """The operator does not let the service read this: no prefix allows it, or a private address."""


class JobCancelledError(ClientError):
    """The job was cancelled before it was done."""


class ReportNotAvailableError(ServiceError):
    """The service does not make reports."""


class MethodNotAllowedError(ServiceError):
    """The resource does not take this call."""


class ConflictError(ServiceError):
    """The call does not fit what the service has."""


class QuotaError(ConflictError):
    """The key or assessment has as much as it may have; delete some, or let the operator raise the limit."""


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


# What lies between a line of the caller's and the place where something is found out.
_WITHIN = ("clients", "assessor", "functools", "contextlib")


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the caller's own line, however deep within this package it is found out."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _WITHIN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


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
    RemoteSourceError,
    RemoteSourceUriError,
    RemoteSourceNotFoundError,
    RemoteSourceDeniedError,
    RemoteSourceEscapeError,
    RemoteSourceRedirectError,
    RemoteSourceChangedError,
    RemoteSourceUnavailableError,
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
    "job-not-found": JobNotFoundError,
    "no-result": ConflictError,
    "job-abandoned": InternalServiceError,
    "too-many-jobs": TooManyJobsError,
    "ingest-off": SourceNotAllowedError,
    "source-not-allowed": SourceNotAllowedError,
    "source-address": SourceNotAllowedError,
    "not-found": NotFoundError,
    "report-not-available": ReportNotAvailableError,
    "method-not-allowed": MethodNotAllowedError,
    "too-large": PayloadTooLargeError,
    **dict.fromkeys(
        ("body-too-large", "json-too-large", "decoded-too-large", "spool-too-large", "headers-too-large"),
        PayloadTooLargeError,
    ),
    **dict.fromkeys(("too-many-rows", "too-many-features", "too-many-classes"), PayloadTooLargeError),
    **dict.fromkeys(("too-many-assessments", "too-many-shards", "too-many-shards-of-key"), QuotaError),
    **dict.fromkeys(("too-many-batch-sizes", "batch-size-too-large", "malformed-http"), InvalidRequestError),
    **dict.fromkeys(("malformed-encoding", "bad-content-digest"), InvalidRequestError),
    **dict.fromkeys(("too-many-uploads", "too-many-requests-at-once", "too-many-connections"), ServiceBusyError),
    **dict.fromkeys(("no-room", "shutting-down"), ServiceBusyError),
    **dict.fromkeys(("slow-upload", "headers-timeout"), BodyTimeoutError),
    "content-digest-mismatch": DigestMismatchError,
    **dict.fromkeys(("rate-limited", "too-many-event-streams"), RateLimitedError),
    "unauthenticated": AuthenticationError,
    "schema-outdated": DatabaseUnavailableError,
    "unsupported-encoding": UnsupportedMediaTypeError,
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
