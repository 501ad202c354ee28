"""A profile: what is kept of one or more shards, and the merge of profiles."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from assessor.batches import Lane, LaneBuilder
from assessor.calibration import Calibration
from assessor.errors import SettingError, ShapeError
from assessor.moments import Moments
from assessor.rows import RowTable, Spans, join_rows

FEATURE_AXES = ("element", "channel")


@dataclass(frozen=True)
class Schema:
    """What all shards of one assessment share.

    Attributes:
        sample_shape: shape of one sample.
        feature_axis: "element" (every element of a sample is a feature) or "channel" (the sample's first axis).
        calibration_rows: bound of the calibration sample; 0 is off.
    """

    sample_shape: tuple[int, ...]
    feature_axis: str
    calibration_rows: int

    @property
    def n_features(self) -> int:
        """Features of a sample."""
        if self.feature_axis == "channel":
            return self.sample_shape[0]
        return int(np.prod(self.sample_shape, dtype=np.int64))

    @property
    def values_per_row(self) -> int:
        """Values of one feature in one sample."""
        return int(np.prod(self.sample_shape, dtype=np.int64)) // self.n_features


@dataclass(frozen=True, eq=False)
class Profile:
    """What is kept of the shards seen so far; immutable.

    Attributes:
        schema: what the shards share.
        dtypes: names of the dtypes that came, sorted.
        lanes: by batch size.
        rows: per row its mean and label, and which rows there are.
        calibration: a bounded sample of rows.
    """

    schema: Schema
    dtypes: tuple[str, ...]
    lanes: Mapping[int, Lane]
    rows: RowTable
    calibration: Calibration

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
    def labelled(self) -> bool:
        """Whether the rows have labels."""
        return self.rows.labels is not None

    @property
    def dtype(self) -> str:
        """Dtypes of the shards, separated by commas where several came."""
        return ",".join(self.dtypes)

    @property
    def moments(self) -> Moments:
        """Moments of each feature over all rows: shape (features,)."""
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
    """Return the profile of all shards together.

    The result does not depend on the order of the profiles nor on how the rows were cut into shards, to the bit.

    Raises:
        SettingError: no profile was given, or they were made with other batch sizes or settings.
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
    given = list(profiles)
    if not given:
        raise SettingError("expected at least one profile to merge; got none")
    first = given[0]
    for other in given[1:]:
        _check_same(first, other)
    if len(given) == 1:
        return first
    rows = join_rows([profile.rows for profile in given])
    lanes = {}
    for size in first.batch_sizes:
        builder = LaneBuilder(size, first.n_features, first.schema.values_per_row)
        for profile in given:
            builder.absorb(profile.lanes[size])
        lanes[size] = builder.finish()
    calibration = first.calibration
    for profile in given[1:]:
        calibration = calibration.with_rows(profile.calibration.rows, profile.calibration.values)
    dtypes = tuple(sorted({dtype for profile in given for dtype in profile.dtypes}))
    return Profile(first.schema, dtypes, lanes, rows, calibration)


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
    ):
        if left != right:
            raise SettingError(
                f"expected profiles made with one setting of {name}; got {left} and {right}: "
                "profile all shards with the same settings"
            )
