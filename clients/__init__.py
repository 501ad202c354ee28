"""The HTTP client of the service, and AssessedLoader, which carries a plan out in PyTorch.

Names are imported on first use, so that `from clients import AssessorClient` needs no torch and
`from clients import AssessedLoader` no running service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.async_http import AsyncAssessorClient as AsyncAssessorClient
    from clients.batches import AssessedBatch as AssessedBatch
    from clients.errors import ClientError as ClientError
    from clients.errors import DatasetError as DatasetError
    from clients.errors import JobCancelledError as JobCancelledError
    from clients.errors import LoaderError as LoaderError
    from clients.errors import PlanMismatchWarning as PlanMismatchWarning
    from clients.errors import RandomSampleWarning as RandomSampleWarning
    from clients.errors import SampleError as SampleError
    from clients.errors import ServiceError as ServiceError
    from clients.errors import ServiceUnavailableError as ServiceUnavailableError
    from clients.errors import StateError as StateError
    from clients.http import AssessorClient as AssessorClient
    from clients.jobs import JobInfo as JobInfo
    from clients.lightning import GateCallback as GateCallback
    from clients.loader import AssessedLoader as AssessedLoader
    from clients.resources import AssessmentInfo as AssessmentInfo
    from clients.resources import ShardInfo as ShardInfo
    from clients.retry import Backoff as Backoff
    from clients.standardize import standardize_input as standardize_input
    from clients.uploading import Shard as Shard

_PLACES = {
    "AssessedBatch": "clients.batches",
    "AssessedLoader": "clients.loader",
    "AssessmentInfo": "clients.resources",
    "AssessorClient": "clients.http",
    "AsyncAssessorClient": "clients.async_http",
    "Backoff": "clients.retry",
    "ClientError": "clients.errors",
    "DatasetError": "clients.errors",
    "GateCallback": "clients.lightning",
    "JobCancelledError": "clients.errors",
    "JobInfo": "clients.jobs",
    "LoaderError": "clients.errors",
    "PlanMismatchWarning": "clients.errors",
    "RandomSampleWarning": "clients.errors",
    "SampleError": "clients.errors",
    "ServiceError": "clients.errors",
    "ServiceUnavailableError": "clients.errors",
    "Shard": "clients.uploading",
    "ShardInfo": "clients.resources",
    "StateError": "clients.errors",
    "standardize_input": "clients.standardize",
}

__all__ = sorted(_PLACES)

_INSTALLS = {
    "torch": "pip install 'normgauge[torch]'",
    **dict.fromkeys(("httpx", "blake3", "xxhash", "backports"), "pip install 'normgauge[client]'"),
    "lightning": "pip install 'normgauge[training]'",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _INSTALLS:
            raise
        raise ModuleNotFoundError(
            f"clients.{name} needs {package}, which is not installed: {_INSTALLS[package]}",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_PLACES]
