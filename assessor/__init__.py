"""The assessor: moments, measures, thresholds, profiles, plans and shard formats. NumPy only; no torch, no HTTP."""

from typing import TYPE_CHECKING, Any

from assessor import errors
from assessor.advice import Advice, Choice, advise
from assessor.datasets import profile_dataset
from assessor.drift import Drift, measure_drift
from assessor.errors import (
    AssessorError,
    CoverageError,
    DtypeError,
    EmptyShardError,
    FeatureLimitError,
    FingerprintError,
    FormatError,
    GapError,
    GrowthLimitError,
    LabelError,
    NonFiniteError,
    NoRoomError,
    OverlapError,
    PlanError,
    PlanFormatError,
    SettingError,
    ShapeError,
    ShardError,
    SourceChangedError,
    SourceDeniedError,
    SourceError,
    SourceEscapeError,
    SourceNotFoundError,
    SourceRedirectError,
    SourceUnavailableError,
    SourceUriError,
    SpoolLimitError,
    UnknownNameError,
)
from assessor.formats import MEDIA_TYPES, Decoder, DecodeSettings, Part, decoder_for, formats
from assessor.measures import Measure, Scores, measures
from assessor.methods import Method, methods
from assessor.moments import Moments
from assessor.noise import noise, normal_divergence
from assessor.order import SampleOrder, fingerprint, hash_rows
from assessor.plan import Decision, Plan, assess, make_plan
from assessor.profile import Profile, merge
from assessor.profiler import Profiler, profile_array
from assessor.rows import missing_rows
from assessor.shards import profile_shard
from assessor.thresholds import thresholds

if TYPE_CHECKING:
    from assessor.estimators import BatchStandardizer, HeterogeneityAssessor

__all__ = [
    "MEDIA_TYPES",
    "Advice",
    "AssessorError",
    "BatchStandardizer",
    "Choice",
    "CoverageError",
    "Decision",
    "DecodeSettings",
    "Decoder",
    "Drift",
    "DtypeError",
    "EmptyShardError",
    "FeatureLimitError",
    "FingerprintError",
    "FormatError",
    "GapError",
    "GrowthLimitError",
    "HeterogeneityAssessor",
    "LabelError",
    "Measure",
    "Method",
    "Moments",
    "NoRoomError",
    "NonFiniteError",
    "OverlapError",
    "Part",
    "Plan",
    "PlanError",
    "PlanFormatError",
    "Profile",
    "Profiler",
    "SampleOrder",
    "Scores",
    "SettingError",
    "ShapeError",
    "ShardError",
    "SourceChangedError",
    "SourceDeniedError",
    "SourceError",
    "SourceEscapeError",
    "SourceNotFoundError",
    "SourceRedirectError",
    "SourceUnavailableError",
    "SourceUriError",
    "SpoolLimitError",
    "UnknownNameError",
    "advise",
    "assess",
    "decoder_for",
    "errors",
    "fingerprint",
    "formats",
    "hash_rows",
    "make_plan",
    "measure_drift",
    "measures",
    "merge",
    "methods",
    "missing_rows",
    "noise",
    "normal_divergence",
    "profile_array",
    "profile_dataset",
    "profile_shard",
    "thresholds",
]


def __getattr__(name: str) -> Any:
    """Return an estimator; scikit-learn is imported with the first, not with this package."""
    if name in ("BatchStandardizer", "HeterogeneityAssessor"):
        from assessor import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
