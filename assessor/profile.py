"""A profile: what is kept of one or more shards, and the merge of profiles."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.batches import Lane, LaneBuilder
from assessor.calibration import Calibration, join_samples
from assessor.errors import SettingError, ShapeError
from assessor.moments import Moments
from assessor.rows import RowTable, Spans, join_rows

FEATURE_AXES = ("element", "channel")
NONFINITE = ("raise", "exclude", "normalize")
"""Rows with NaN or infinity: an error; left out; left out, and their batches are marked to be normalized."""


@dataclass(frozen=True)
class Schema:
    """What all shards of one assessment share.

    Attributes:
        sample_shape: shape of one sample.
        feature_axis: "element" (every element of a sample is a feature) or "channel" (the sample's first axis).
        calibration_rows: bound of the calibration sample; 0 is off.
        nonfinite: what becomes of rows with values that are not finite: "raise", "exclude" or "normalize".
    """

    sample_shape: tuple[int, ...]
    feature_axis: str
    calibration_rows: int
    nonfinite: str = "raise"

    @cached_property
    def n_features(self) -> int:
        """Features of a sample."""
        if self.feature_axis == "channel":
            return self.sample_shape[0]
        return int(np.prod(self.sample_shape, dtype=np.int64))

    @cached_property
    def values_per_row(self) -> int:
        """Values of one feature in one sample; 0 without features."""
        return int(np.prod(self.sample_shape, dtype=np.int64)) // max(self.n_features, 1)


@dataclass(frozen=True, eq=False)
class Profile:
    """What is kept of the shards seen so far; immutable.

    Attributes:
        schema: what the shards share.
        dtypes: names of the dtypes that came, sorted.
        lanes: by batch size.
        rows: per row its mean and label, and which rows there are.
        calibration: a bounded sample of rows.
        reference: moments per feature of earlier data, from which each batch's divergence was taken; None for none.
    """

    schema: Schema
    dtypes: tuple[str, ...]
    lanes: Mapping[int, Lane]
    rows: RowTable
    calibration: Calibration
    reference: Moments | None = None

    @classmethod
    def empty(cls) -> "Profile":
        """Return the profile of no rows: the identity of `merge`, whatever the shape and settings of the others.

        >>> Profile.empty().n_rows
        0
        """
        return cls(Schema((0,), "element", 0), (), {}, RowTable((), np.zeros(0), None, None), Calibration.empty(0, 0))

    @property
    def n_rows(self) -> int:
        """Rows seen."""
        return self.rows.n_rows

    @property
    def spans(self) -> Spans:
        """Ranges [start, stop) of global row numbers seen, ascending."""
        return self.rows.spans

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.schema.sample_shape

    @property
    def feature_axis(self) -> str:
        """What counts as a feature: "element" or "channel"."""
        return self.schema.feature_axis

    @property
    def n_features(self) -> int:
        """Features of a sample."""
        return self.schema.n_features

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes profiled, ascending."""
        return tuple(self.lanes)

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Global numbers of the rows left out because they hold values that are not finite, ascending."""
        return self.rows.left_out

    @property
    def labelled(self) -> bool:
        """Whether the rows have labels."""
        return self.rows.labels is not None

    @property
    def dtype(self) -> str:
        """Dtypes of the shards, separated by commas where several came."""
        return ",".join(self.dtypes)

    @property
    def moments(self) -> Moments:
        """Moments of each feature over all rows: shape (features,); of no rows, shape (0,)."""
        if not self.lanes:
            return Moments.empty((self.n_features,))
        lane = self.lanes[self.batch_sizes[0]]
        parts = [lane.tree.fold()] if lane.tree.nodes else []
        parts += [tree.fold() for tree in lane.cut.values()]
        result = Moments.empty((self.n_features,))
        for part in parts:
            result = result.merge(part)
        return result

    def to_bytes(self) -> bytes:
        """Return the profile as a safetensors file with a versioned header; the same profile, the same bytes."""
        from assessor.profile_file import dump_profile

        return dump_profile(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Profile":
        """Return the profile that `to_bytes` wrote.

        Raises:
            FormatError: not a profile, or of an unknown version.
        """
        from assessor.profile_file import load_profile

        return load_profile(data)


def merge(profiles: Iterable[Profile]) -> Profile:
    """Return the profile of all shards together; of none, `Profile.empty()`.

    The result does not depend on the order of the profiles nor on how the rows were cut into shards, to the bit.
    Empty profiles change nothing.

    Raises:
        SettingError: they were made with other batch sizes, settings or references; or one is no profile.
        ShapeError: sample shapes differ.
        LabelError: some have labels and some have not.
        OverlapError: a row is in two of them.

    >>> import numpy as np
    >>> from assessor import profile_array
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> parts = [profile_array(x[4:], batch_sizes=[3], first_row=4), profile_array(x[:4], batch_sizes=[3])]
    >>> merge(parts).to_bytes() == profile_array(x, batch_sizes=[3]).to_bytes()
    True
    """
    given = [profile for profile in profiles if require_profile(profile).n_rows]
    if not given:
        return Profile.empty()
    first = given[0]
    for other in given[1:]:
        _check_same(first, other)
    if len(given) == 1:
        return first
    rows = join_rows([profile.rows for profile in given])
    lanes = {}
    for size in first.batch_sizes:
        builder = LaneBuilder(size, first.n_features, first.schema.values_per_row, first.reference)
        for profile in given:
            builder.absorb(profile.lanes[size], profile.left_out)
        lanes[size] = builder.finish()
    calibration = join_samples([profile.calibration for profile in given])
    dtypes = tuple(sorted({dtype for profile in given for dtype in profile.dtypes}))
    return Profile(first.schema, dtypes, lanes, rows, calibration, first.reference)


def require_profile(value: Any) -> Profile:
    """Return the value, a profile.

    Raises:
        SettingError: it is something else, such as the data itself.
    """
    if not isinstance(value, Profile):
        raise SettingError(
            f"expected a profile; got {type(value).__name__}: profile_array(x, batch_sizes=[32]) or profile_shard("
            "path, batch_sizes=[32]) makes one"
        )
    return value


def _check_same(a: Profile, b: Profile) -> None:
    if a.sample_shape != b.sample_shape:
        raise ShapeError(
            f"expected samples of shape {a.sample_shape} as in the other shards; got {b.sample_shape}: "
            "a data set has one sample shape"
        )
    for name, left, right in (
        ("batch sizes", a.batch_sizes, b.batch_sizes),
        ("feature axis", a.feature_axis, b.feature_axis),
        ("calibration rows", a.schema.calibration_rows, b.schema.calibration_rows),
        ("nonfinite", a.schema.nonfinite, b.schema.nonfinite),
    ):
        if left != right:
            raise SettingError(
                f"expected profiles made with one setting of {name}; got {left} and {right}: "
                "profile all shards with the same settings"
            )
    if not _same_moments(a.reference, b.reference):
        raise SettingError(
            "expected profiles made with one reference; got two that differ, or one with and one without: "
            "profile all shards with the same reference"
        )


def _same_moments(a: Moments | None, b: Moments | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.count == b.count and np.array_equal(a.mean, b.mean) and np.array_equal(a.m2, b.m2)
