"""A profile seen as batches of one size: what measures compute on."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from assessor.batches import RECORD, Lane, Records, describe_batches, divergence_from
from assessor.errors import GapError, NonFiniteError, SettingError
from assessor.kernels import sum_tiles
from assessor.moments import Floats, Moments
from assessor.profile import Profile
from assessor.rows import require_all_rows


@dataclass(frozen=True, eq=False)
class BatchView:
    """All batches of one size of a profile without gaps.

    Attributes:
        profile: where they come from.
        batch_size: samples a batch.
        records: one a batch; the last may be of a smaller batch.
        n_complete: batches of exactly `batch_size` samples.
        sizes: shape (batches,), int64: samples in each.
        complete_moments: moments per feature over the complete batches; None when there is none.
        constant_batches: per feature the complete batches in which it was constant.
        last_moments: moments per feature of a last, smaller batch; None when there is none.
        divergences: shape (batches,): divergence from the profile's reference; None without one.
        left_out: shape (batches,), int64: samples of each that hold values that are not finite, and are in no record.
    """

    profile: Profile
    batch_size: int
    records: Records
    n_complete: int
    sizes: NDArray[np.int64]
    complete_moments: Moments | None
    constant_batches: NDArray[np.int64]
    last_moments: Moments | None
    divergences: Floats | None = None
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def counts(self) -> Floats:
        """Values per feature in each batch that are in its record, shape (batches,), float64."""
        return ((self.sizes - self.left_out) * self.profile.schema.values_per_row).astype(np.float64)

    @property
    def too_few(self) -> NDArray[np.bool_]:
        """Batches of which rows were left out and fewer than two are left, shape (batches,)."""
        return np.asarray((self.left_out > 0) & (self.sizes - self.left_out < 2))


def view_batches(profile: Profile, batch_size: int | None, drop_last: bool) -> BatchView:
    """Return the batches of one size.

    Args:
        profile: of shards that cover rows 0 to N - 1.
        batch_size: one of those profiled; None takes the only one.
        drop_last: leave a last, smaller batch out.

    Raises:
        SettingError: the batch size was not profiled, or no batch is left.
        GapError: rows are missing.
        NonFiniteError: no row is left.
    """
    if not profile.n_rows:
        require_all_rows(profile.spans)
    size = _chosen_size(profile, batch_size)
    n_rows = require_all_rows(profile.spans)
    lane: Lane = profile.lanes[size]
    n_complete, tail = divmod(n_rows, size)
    if len(lane.records) != n_complete:
        raise GapError(
            f"expected {n_complete} complete batches of {size} rows; the profile has "
            f"{len(lane.records)}: profile the shards again"
        )
    records, sizes = lane.records, np.full(n_complete, size, np.int64)
    left_out = np.bincount(profile.left_out // size, minlength=-(-n_rows // size))
    if left_out.sum() == n_rows:
        raise NonFiniteError("expected a row of finite values; every row holds others: remove or impute them first")
    last = None
    if tail and not drop_last:
        last = lane.cut[n_complete].fold() if n_complete in lane.cut else Moments.empty((profile.n_features,))
    if last is not None:
        record = describe_moments(n_complete, last)
        records = np.concatenate([records, record]) if n_complete else record
        sizes = np.append(sizes, tail)
    if not len(records):
        raise SettingError(
            f"expected at least {size} rows for one batch with drop_last; got {n_rows}: "
            "use a smaller batch size or drop_last=False"
        )
    assert records.dtype == RECORD
    whole = lane.tree.fold() if lane.tree.nodes else None
    divergences = lane.divergences
    if divergences is not None and last is not None and profile.reference is not None:
        added = divergence_from(profile.reference, last.mean[None], last.m2[None], last.count)
        divergences = np.concatenate([divergences, added])
    return BatchView(
        profile,
        size,
        records,
        n_complete,
        sizes,
        whole,
        lane.constant_batches,
        last,
        divergences,
        left_out[: len(records)],
    )


def describe_moments(index: int, moments: Moments) -> Records:
    """Return the record of one batch by its moments per feature.

    Raises:
        NonFiniteError: squares overflow float64.
    """
    ignored = np.zeros(len(moments.mean), np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        count = max(moments.count, 1)
        return describe_batches(np.array([index]), sum_tiles(moments.mean[None], moments.m2[None], count, ignored))


def _chosen_size(profile: Profile, batch_size: int | None) -> int:
    sizes = profile.batch_sizes
    listed = ", ".join(map(str, sizes))
    if batch_size is None:
        if len(sizes) != 1:
            raise SettingError(f"expected batch_size, one of those profiled ({listed}); got none: name one of them")
        return sizes[0]
    if batch_size not in sizes:
        raise SettingError(
            f"expected a batch size that was profiled ({listed}); got {batch_size!r}: profile the data with it"
        )
    return int(batch_size)
