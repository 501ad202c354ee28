"""What may be set about reading a shard: its limits, and which columns are what."""

from dataclasses import dataclass

from assessor.errors import SettingError

MAX_FEATURES = 1 << 24
"""Default bound on the values of one sample: a decoder holds at most one row that is not complete."""


@dataclass(frozen=True)
class DecodeSettings:
    """Limits and names, the same for every format; docs/formats.md says which format uses which.

    Attributes:
        max_features: most values in one sample.
        max_spool_bytes: largest shard of a format that is read from its end (npz, Parquet) and comes as a stream; it
            is kept in a temporary file meanwhile. A path is read in place and has no such bound.
        max_decoded_bytes: most bytes that a compressed shard may grow to, all in all.
        max_page_bytes: most bytes that one compressed piece may grow to: a Parquet page, an Arrow record batch.
        columns: the columns that are features, in this order; None takes all but the label.
        label: the column that holds the labels; None takes `y` or `label`, if there is one.
        missing: read nulls, empty fields and what is not finite in text as NaN, where they are refused else; set by
            `profile_shard` for nonfinite="exclude" or "normalize".

    >>> DecodeSettings(label="class").label
    'class'
    """

    max_features: int = MAX_FEATURES
    max_spool_bytes: int = 8 << 30
    max_decoded_bytes: int = 64 << 30
    max_page_bytes: int = 64 << 20
    columns: tuple[str, ...] | None = None
    label: str | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        for name in ("max_features", "max_spool_bytes", "max_decoded_bytes", "max_page_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(f"expected {name} to be an integer >= 1; got {value!r:.80}")
        if self.columns is not None and not (isinstance(self.columns, tuple) and self.columns):
            raise SettingError(f"expected columns to be a tuple of at least one name; got {self.columns!r:.80}")


DEFAULT = DecodeSettings()

WITHOUT_COLUMNS = frozenset(("npy", "npz", "safetensors", "webdataset"))
"""Formats of arrays and pictures, in which no column has a name."""


def check_columns(format: str, settings: DecodeSettings) -> None:
    """Refuse columns and label for a shard of a format that has none. Raises SettingError."""
    if format in WITHOUT_COLUMNS:
        refuse_columns(f"{format} shard", settings)


def refuse_columns(what: str, settings: DecodeSettings) -> None:
    """Raise SettingError where columns are named of what has none, since that would change nothing."""
    if settings.columns is not None or settings.label is not None:
        raise SettingError(
            f"expected columns and label for tables only; got them for a {what}, which has no columns: leave them out"
        )
