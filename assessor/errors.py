"""Every error of the assessor, as one tree.

AssessorError
├─ ShardError            the data of a shard
│  ├─ EmptyShardError    no rows
│  ├─ FormatError        bytes that are not the format they claim to be
│  │  ├─ SpoolLimitError    more than may be kept until the end has come
│  │  └─ GrowthLimitError   grows to more than it may when decompressed
│  ├─ DtypeError         a dtype that is not numeric
│  ├─ ShapeError         another sample shape than expected, or none
│  │  └─ FeatureLimitError  more values in a sample than may be
│  ├─ NonFiniteError     NaN or infinity
│  └─ LabelError         labels of another length or kind
├─ SettingError          a batch size, threshold or option out of range
│  ├─ NoRoomError        no room for a temporary file
│  └─ UnknownNameError   a name that no registry knows
├─ SourceError           an object in a store or folder
│  ├─ SourceUriError        an address that names none
│  ├─ SourceNotFoundError   nothing is there
│  ├─ SourceDeniedError     the store does not allow it
│  ├─ SourceEscapeError     a link that leaves the folder
│  ├─ SourceRedirectError   the store sends on to another host
│  ├─ SourceChangedError    other bytes than when it was found
│  └─ SourceUnavailableError   the store does not answer
├─ CoverageError         which rows an assessment has
│  ├─ OverlapError       a row came twice
│  └─ GapError           rows are missing
└─ PlanError             a plan
   ├─ PlanFormatError    a file that is not a plan
   └─ FingerprintError   a plan made for other batches

`code` is stable: the service builds the problem type from it, clients the error class.
"""

import os


class AssessorError(ValueError):
    """Base of all errors that the assessor raises for bad input."""

    code = "assessor-error"


class ShardError(AssessorError):
    """The data of a shard cannot be used."""

    code = "bad-shard"


class EmptyShardError(ShardError):
    """A shard without rows or without features."""

    code = "empty-shard"


class FormatError(ShardError):
    """Bytes that are not what their format promises: truncated, pickled, malformed."""

    code = "malformed-shard"


class SpoolLimitError(FormatError):
    """A shard, or a part of it, that must be kept until its end has come and is larger than may be kept."""

    code = "spool-too-large"


class GrowthLimitError(FormatError):
    """A shard that grows to more than it may when it is decompressed."""

    code = "decoded-too-large"


class DtypeError(ShardError):
    """A dtype that is not a number the assessor reads."""

    code = "unsupported-dtype"


class ShapeError(ShardError):
    """A sample shape other than that of the rows before it."""

    code = "shape-mismatch"


class FeatureLimitError(ShapeError):
    """A sample of more values than the settings allow."""

    code = "too-many-features"


class NonFiniteError(ShardError):
    """NaN or infinity, or values whose squares overflow float64."""

    code = "non-finite"


class LabelError(ShardError):
    """Labels that are not one integer a row."""

    code = "bad-labels"


class SettingError(AssessorError):
    """A setting out of its range."""

    code = "bad-setting"


class NoRoomError(SettingError):
    """There is no room for a temporary file."""

    code = "no-room"


def no_room(size_bytes: int, error: OSError) -> NoRoomError:
    """Return the error for a temporary file of this size that could not be written; it names no path, for services."""
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    return NoRoomError(
        f"expected room for a temporary file of {size_bytes} bytes in the temporary folder; "
        f"got {why}: make room, or set TMPDIR to a folder that has it"
    )


class UnknownNameError(SettingError):
    """A measure, threshold, method or format that is not registered."""

    code = "unknown-name"


class SourceError(AssessorError):
    """An object in a store or folder cannot be read."""

    code = "bad-source"


class SourceUriError(SourceError):
    """An address that names no object of a known kind of store."""

    code = "bad-source-uri"


class SourceNotFoundError(SourceError):
    """No object lies there."""

    code = "source-not-found"


class SourceDeniedError(SourceError):
    """The store does not allow it with the credentials given."""

    code = "source-denied"


class SourceEscapeError(SourceError):
    """A link in a folder that leads out of it, or something that is not a file."""

    code = "source-escape"


class SourceRedirectError(SourceError):
    """The store sends on to another host, which is not followed."""

    code = "source-redirect"


class SourceChangedError(SourceError):
    """The object is not the one that was found before."""

    code = "source-changed"


class SourceUnavailableError(SourceError):
    """The store does not answer; another try may help."""

    code = "source-unavailable"


class CoverageError(AssessorError):
    """The rows of an assessment do not fit together."""

    code = "bad-coverage"


class OverlapError(CoverageError):
    """The same global row came twice."""

    code = "overlapping-rows"


class GapError(CoverageError):
    """Rows are missing before the last one."""

    code = "missing-rows"


class PlanError(AssessorError):
    """A plan cannot be used."""

    code = "bad-plan"


class PlanFormatError(PlanError):
    """A text that is not a plan of a known schema version."""

    code = "malformed-plan"


class FingerprintError(PlanError):
    """A plan made for other batches than those at hand."""

    code = "fingerprint-mismatch"
