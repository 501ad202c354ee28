import assessor
from assessor import errors, formats, measures, methods, thresholds

EXPORTED = """
    MEDIA_TYPES Advice AssessorError BatchStandardizer Choice CoverageError Decision DecodeSettings Decoder
    Drift DtypeError EmptyShardError FeatureLimitError FingerprintError FormatError GapError GrowthLimitError
    HeterogeneityAssessor LabelError Measure Method Moments NoRoomError NonFiniteError OverlapError Part Plan
    PlanError PlanFormatError Profile Profiler SampleOrder Scores SettingError ShapeError ShardError
    SourceChangedError SourceDeniedError SourceError SourceEscapeError SourceNotFoundError SourceRedirectError
    SourceUnavailableError SourceUriError SpoolLimitError UnknownNameError advise assess decoder_for errors
    fingerprint formats hash_rows make_plan measure_drift measures merge methods missing_rows noise
    normal_divergence profile_array profile_dataset profile_shard thresholds
"""

CODES = {
    "AssessorError": "assessor-error",
    "ShardError": "bad-shard",
    "EmptyShardError": "empty-shard",
    "FormatError": "malformed-shard",
    "SpoolLimitError": "spool-too-large",
    "GrowthLimitError": "decoded-too-large",
    "DtypeError": "unsupported-dtype",
    "ShapeError": "shape-mismatch",
    "FeatureLimitError": "too-many-features",
    "NonFiniteError": "non-finite",
    "LabelError": "bad-labels",
    "SettingError": "bad-setting",
    "NoRoomError": "no-room",
    "UnknownNameError": "unknown-name",
    "SourceError": "bad-source",
    "SourceUriError": "bad-source-uri",
    "SourceNotFoundError": "source-not-found",
    "SourceDeniedError": "source-denied",
    "SourceEscapeError": "source-escape",
    "SourceRedirectError": "source-redirect",
    "SourceChangedError": "source-changed",
    "SourceUnavailableError": "source-unavailable",
    "CoverageError": "bad-coverage",
    "OverlapError": "overlapping-rows",
    "GapError": "missing-rows",
    "PlanError": "bad-plan",
    "PlanFormatError": "malformed-plan",
    "FingerprintError": "fingerprint-mismatch",
}


def test_exported_names_are_frozen() -> None:
    assert assessor.__all__ == EXPORTED.split()
    assert all(hasattr(assessor, name) for name in assessor.__all__)


def test_registered_names_are_frozen() -> None:
    assert methods.names() == ("need", "heterogeneity", "published", "gaussian")
    assert measures.names() == (
        "bartlett",
        "class_deviation",
        "gaussian_divergence",
        "location_share",
        "population_divergence",
        "scale_dispersion",
        "spread_divergence",
        "standard_divergence",
    )
    assert thresholds.names() == (
        "fixed",
        "null",
        "max",
        "mean",
        "mean_std",
        "median_mad",
        "quantile",
        "otsu",
        "kmeans",
        "gaussian_mixture",
    )
    assert formats.names() == (
        *("npy", "safetensors", "npz", "arrow", "arrow_file", "parquet", "csv", "ndjson", "json", "webdataset"),
    )


def test_error_codes_are_frozen_and_each_error_exported() -> None:
    found = {
        name: value.code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.AssessorError)
    }
    assert found == CODES
    assert set(CODES) <= set(assessor.__all__)
    assert issubclass(errors.AssessorError, ValueError)


def test_media_types_name_registered_formats() -> None:
    assert assessor.MEDIA_TYPES == {
        "application/x-npy": "npy",
        "application/vnd.safetensors": "safetensors",
        "application/x-npz": "npz",
        "application/vnd.apache.arrow.stream": "arrow",
        "application/vnd.apache.arrow.file": "arrow_file",
        "application/vnd.apache.parquet": "parquet",
        "text/csv": "csv",
        "application/x-ndjson": "ndjson",
        "application/json": "json",
        "application/x-tar": "webdataset",
    }
