"""Merges of profiles as they come, in a tree; which rows their sample still needs; the profile of unread rows."""

from dataclasses import replace

import numpy as np

from assessor.batches import LaneBuilder
from assessor.calibration import Calibration, join_samples
from assessor.profile import Profile, merge
from assessor.rows import RowTable

FAN_IN = 8
"""Profiles that are merged at once: a row's mean is copied once a level."""


class MergeTree:
    """Merges profiles that come one by one, in any order: 8 make one of the next level.

    So each profile is copied log_8(n) times, and about 8 log_8(n) are held. Bits do not depend on the order, see
    `assessor.merge`.
    """

    def __init__(self) -> None:
        self._levels: list[list[Profile]] = []

    def add(self, profile: Profile) -> None:
        """Add a profile of other rows. Raises as `merge`."""
        for level in self._levels:
            level.append(profile)
            if len(level) < FAN_IN:
                return
            profile = merge(level)
            level.clear()
        self._levels.append([profile])

    def finish(self) -> Profile:
        """Return the profile of all rows; empty without any."""
        return merge(profile for level in self._levels for profile in level)


class SampleBar:
    """`Calibration.bar` of the rows of profiles that come one by one; of their samples only the row numbers are kept.

    Args:
        given: a bar that holds already, above which the profiles' samples have no rows; None for none.
    """

    def __init__(self, given: int | None = None) -> None:
        self._given = given
        self._sample: Calibration | None = None

    def add(self, profile: Profile) -> None:
        """Add a profile of other rows of the same shape."""
        rows_only = replace(profile.calibration, values=np.empty((len(profile.calibration.rows), 0)))
        self._sample = rows_only if self._sample is None else join_samples([self._sample, rows_only])

    @property
    def value(self) -> int | None:
        """The largest hash of a row that can be in the sample of all; None where any can."""
        own = None if self._sample is None else self._sample.bar
        known = [bar for bar in (self._given, own) if bar is not None]
        return min(known, default=None)


def unread_rows(like: Profile, start: int, stop: int) -> Profile:
    """Return the profile of rows that could not be read: they count as left out, as rows with NaN may be.

    Args:
        like: a profile of other rows of the dataset.
        start, stop: the rows' numbers.
    """
    rows = np.arange(start, stop, dtype=np.int64)
    lanes = {}
    for size in like.batch_sizes:
        builder = LaneBuilder(size, like.n_features, like.schema.values_per_row, like.reference)
        builder.leave_out(rows)
        lanes[size] = builder.finish()
    means = np.full(len(rows), np.nan)
    table = RowTable(
        ((start, stop),),
        means,
        None if like.rows.border_means is None else means,
        None if like.rows.labels is None else np.zeros(len(rows), np.int64),
    )
    empty = Calibration.empty(like.schema.calibration_rows, like.n_features)
    return Profile(like.schema, (), lanes, table, empty, like.reference)
