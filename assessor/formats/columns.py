"""Which columns of a table are the features and which one holds the labels."""

from collections.abc import Sequence
from typing import NamedTuple

from assessor.errors import FeatureLimitError, FormatError, LabelError, ShapeError
from assessor.formats.settings import DecodeSettings

LABEL_NAMES = ("y", "label")
"""Names that a label column may have without being named in the settings."""
MAX_COLUMNS = 1 << 16


class ColumnChoice(NamedTuple):
    """Positions of the features' columns, in the order of the features, and of the labels' column."""

    features: tuple[int, ...]
    label: int | None


def choose_columns(names: Sequence[str], settings: DecodeSettings) -> ColumnChoice:
    """Return which columns are what.

    Raises:
        LabelError: the label's column is missing, or two may be it.
        FormatError: a column is missing, comes twice, or there are too many. ShapeError: too many or no features.

    >>> choose_columns(["a", "y", "b"], DecodeSettings())
    ColumnChoice(features=(0, 2), label=1)
    """
    if len(names) > MAX_COLUMNS:
        raise FormatError(
            f"expected at most {MAX_COLUMNS} columns; got {len(names)}: put the features into one list column"
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})[:3]
        raise FormatError(f"expected a name for each column; {', '.join(map(repr, twice))} comes twice: rename it")
    label = _label(names, settings.label)
    if settings.columns is None:
        features = tuple(k for k in range(len(names)) if k != label)
    else:
        missing = [name for name in settings.columns if name not in names]
        if missing:
            raise FormatError(
                f"expected the columns {list(settings.columns)!r:.200}; {missing[0]!r:.80} is not among "
                f"{list(names)[:20]!r:.200}: check the names"
            )
        features = tuple(names.index(name) for name in settings.columns)
    if not features:
        raise ShapeError(f"expected at least one column of features; got {list(names)!r:.200}")
    if len(features) > settings.max_features:
        raise FeatureLimitError(
            f"expected samples of at most {settings.max_features} values; got {len(features)} columns"
        )
    return ColumnChoice(features, label)


def _label(names: Sequence[str], wanted: str | None) -> int | None:
    if wanted is not None:
        if wanted not in names:
            raise LabelError(
                f"expected a column {wanted!r:.80} of labels; got {list(names)[:20]!r:.200}: check the name"
            )
        return names.index(wanted)
    found = [name for name in LABEL_NAMES if name in names]
    if len(found) > 1:
        raise LabelError(f"expected one column of labels; got {' and '.join(found)}: name one of them as the label")
    return names.index(found[0]) if found else None
