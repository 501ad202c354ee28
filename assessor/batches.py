"""What a profile keeps of each batch, for one batch size: a lane.

A lane is built from rows in any cutting. Complete batches are reduced to one record each; a batch that a shard's edge
cuts is kept as tree nodes until its other rows come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import NonFiniteError
from assessor.growing import GrowingArray
from assessor.kernels import TileSums, add_doubled, pooled_means, reduce_batches, sum_rows, sum_tiles
from assessor.kernels.dispatch import BLOCK_VALUES
from assessor.kernels.tiles import TILE_SUMS, TINY
from assessor.moments import Floats, Moments, MomentsTree, reduce_items
from assessor.noise import noise

_LN2 = float(np.log(2.0))
DESCRIBED_TILES = 1 << 12
"""Sums of so many tiles of batches, 88 bytes each, are made records at a time: a stream's pieces hold few, and numpy's
calls cost more than they do."""
PART_VALUES = 1 << 19
"""Values of a batch that is not reduced by a kernel, widened at a time: 4 MB."""

RECORD = np.dtype(
    [
        ("index", np.int64),  # batch number
        ("pooled_mean", np.float64),  # over all values of the varying features
        ("pooled_variance", np.float64),  # likewise, biased: exactly mean_variance + location_variance
        ("mean_variance", np.float64),  # mean of v_f; the difference would lose it where the m_f are far apart
        ("mean_log_variance", np.float64),  # mean over the varying features of ln v_f
        ("constant_second_moment", np.float64),  # sum over the features constant in the batch of m_f^2
        ("constant_second_moment_low", np.float64),  # what rounding to float64 took from it
        ("location_variance", np.float64),  # variance of m_f over the varying features
        ("mean_root", np.float64),  # mean of r_f^(1/2), r_f = v_f + (m_f - pooled_mean)^2
        ("mean_quarter", np.float64),  # mean of r_f^(1/4)
        ("mean_std", np.float64),  # mean of v_f^(1/2)
        ("n_varying", np.int32),  # features with v_f > 0
    ]
)
"""One complete batch: 92 bytes. Everything the measures of FORMULAS 2.2 to 2.4 need, and spread_divergence."""

Records = NDArray[np.void]


def describe_batches(batches: NDArray[np.int64], sums: TileSums) -> Records:
    """Return the records of batches of these numbers from the sums over their features.

    Raises:
        NonFiniteError: squares overflow float64.
    """
    records = np.zeros(len(sums), RECORD)
    n_varying = sums["n"].sum(axis=1)
    some = np.maximum(n_varying, 1)
    pooled_mean = pooled_means(sums)
    # Squared deviations of the m_f from the tiles' means, and of those from the mean of all.
    between = sums["mean"] / np.maximum(sums["n"], 1) - pooled_mean[:, None]
    spread = _total(sums["mean_m2"]) + _total(sums["n"] * (between * between))
    within, between_features = _total(sums["variance"]) / some, spread / some
    pooled = within + between_features
    high, low = add_doubled(sums["constant"], sums["constant_low"])
    size = n_varying * (pooled + pooled_mean**2) + high
    if not np.isfinite(size).all():
        raise _too_large(f"batch {batches[~np.isfinite(size)][0]} has larger ones")
    records["index"] = batches
    records["pooled_mean"] = pooled_mean
    records["pooled_variance"] = pooled
    records["mean_variance"] = within
    records["location_variance"] = between_features
    records["mean_root"] = _total(sums["root"]) / some
    records["mean_quarter"] = _total(sums["quarter"]) / some
    records["mean_std"] = _total(sums["std"]) / some
    records["mean_log_variance"] = _total(np.log(sums["mantissa"]) + sums["exponent"] * _LN2) / some
    records["constant_second_moment"], records["constant_second_moment_low"] = high, low
    records["n_varying"] = n_varying
    return records


@np.errstate(over="ignore", invalid="ignore")
def divergence_from(reference: Moments, mean: Floats, m2: Floats, count: int) -> Floats:
    """Return mean_f KL( N(m_f, v_f) || N(M_f, V_f) ) of batches, M_f and V_f of the reference, in nats (FORMULAS 2.4).

    Features constant in the reference are left out. A feature constant in a batch takes ln v_f = ln V_f - 2 noise(B),
    as in `standard_divergence`: neither for nor against the batch.

    Args:
        reference: moments per feature, shape (features,).
        mean, m2: shape (batches, features).
        count: values per feature and batch.

    Returns:
        Shape (batches,); NaN where no feature varies in the reference, or for one value per feature.
    """
    active = reference.variance >= TINY
    n_active = int(active.sum())
    if count < 2 or not n_active:
        return np.full(len(mean), np.nan)
    population = np.where(active, reference.variance, 1.0)
    variance = m2 / count
    varies = variance >= TINY
    log_ratio = np.where(varies, np.log(np.where(varies, variance, 1.0)) - np.log(population), -2 * float(noise(count)))
    z = (mean - reference.mean) / np.sqrt(population)
    terms = np.where(active, (variance / population + z * z - 1 - log_ratio) / 2, 0.0)
    return sum_rows(terms) / n_active


def _total(tiles: Floats) -> Floats:
    """Return the sum over tiles, from left to right."""
    total: Floats = np.cumsum(tiles, axis=1)[:, -1]
    return total


def _too_large(where: str) -> NonFiniteError:
    return NonFiniteError(
        f"expected values whose squares and their sums fit float64 (below about 1e150); {where}: "
        "divide the data by a constant first"
    )


class NonFiniteRowsError(Exception):
    """Rows whose sum is not finite are among those from `start` on, of which none has been added."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


@dataclass(frozen=True, eq=False)
class Lane:
    """All that a profile keeps for one batch size.

    Attributes:
        batch_size: samples a batch.
        records: complete batches, sorted by number; of the rows that are not left out.
        cut: by batch number, the row-tree nodes of batches that are not complete.
        tree: nodes over complete batches: the dataset's moments per feature.
        constant_batches: shape (features,), int64: complete batches in which the feature was constant.
        divergences: shape (records,): `divergence_from` the profile's reference; None without one.
    """

    batch_size: int
    records: Records
    cut: Mapping[int, MomentsTree]
    tree: MomentsTree
    constant_batches: NDArray[np.int64]
    divergences: Floats | None = None


@dataclass
class LaneBuilder:
    """Collects rows and other lanes of one batch size, in any order.

    Attributes:
        values_per_row: values of one feature in one sample (1, or the positions of a channel).
        reference: moments per feature from which each batch's divergence is kept; None for none.
        in_memory_bytes: see `Profiler`.
    """

    batch_size: int
    n_features: int
    values_per_row: int
    reference: Moments | None = None
    in_memory_bytes: int | None = None
    _undescribed: list[tuple[int, TileSums]] = field(default_factory=list)
    _undescribed_tiles: int = 0
    _records: GrowingArray[np.void] = field(init=False)
    _divergences: GrowingArray[np.float64] = field(init=False)
    _cut: dict[int, MomentsTree] = field(default_factory=dict)
    _left_out: dict[int, int] = field(default_factory=dict)
    _tree: MomentsTree = field(default_factory=MomentsTree)
    _constant: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._records = GrowingArray(RECORD, self.in_memory_bytes)
        self._divergences = GrowingArray(np.dtype(np.float64), self.in_memory_bytes)
        self._constant = np.zeros(self.n_features, np.int64)

    def add_values(self, first: int, x: NDArray[Any], row_sums: Floats | None) -> None:
        """Add the rows first, first + 1, ... of one value per feature.

        Args:
            x: shape (rows, features), numbers of any dtype.
            row_sums: shape (rows,), filled with the sum of each row; None where all are known to be finite.

        Raises:
            NonFiniteRowsError: a sum is not finite; the rows before its `start` have been added.
        """
        for start, stop, batch, offset in self._parts(first, len(x)):
            rows, sums = x[start:stop], None if row_sums is None else row_sums[start:stop]
            if stop - start < self.batch_size:
                self._add_part(batch, offset, rows, sums, start)
            elif self.reference is None:
                done = reduce_batches(rows, self.batch_size, batch, sums, self._tree, self._constant)
                self._take(batch, done)
                if len(done) * self.batch_size < len(rows):
                    raise NonFiniteRowsError(start + len(done) * self.batch_size)
            elif self.batch_size * self.n_features <= PART_VALUES:
                self._add_whole(batch, rows, sums, start)
            else:
                for at in range(0, len(rows), self.batch_size):
                    whole = slice(at, at + self.batch_size)
                    part_sums = None if sums is None else sums[whole]
                    self._add_part(batch + at // self.batch_size, 0, rows[whole], part_sums, start + at)

    def _add_part(self, batch: int, offset: int, x: NDArray[Any], row_sums: Floats | None, row: int) -> None:
        """Add rows of one batch, from its row `offset` on, a few at a time: as float64 they may be large."""
        step = max(1, PART_VALUES // self.n_features)
        for start in range(0, len(x), step):
            values = np.ascontiguousarray(x[start : start + step], np.float64)
            if row_sums is not None:
                row_sums[start : start + step] = sum_rows(values)
                _check_sums(row_sums[start : start + step], row + start)
            self._cut.setdefault(batch, MomentsTree()).add(offset + start, values, None, 1)
        self._close_if_complete(batch)

    def _add_whole(self, first: int, x: NDArray[Any], row_sums: Floats | None, row: int) -> None:
        """Add whole batches by their moments, which a divergence needs and the kernels do not hand out."""
        step = max(1, BLOCK_VALUES // (self.batch_size * self.n_features)) * self.batch_size
        for start in range(0, len(x), step):
            values = np.ascontiguousarray(x[start : start + step], np.float64)
            if row_sums is not None:
                row_sums[start : start + step] = sum_rows(values)
                _check_sums(row_sums[start : start + step], row + start)
            by_batch = values.reshape(-1, self.batch_size, self.n_features)
            self._complete(first + start // self.batch_size, *reduce_items(by_batch, None, 1))

    def add_moments(self, first: int, mean: Floats, m2: Floats) -> None:
        """Add the rows first, first + 1, ... by their moments per feature, shape (rows, features)."""
        for start, stop, batch, offset in self._parts(first, len(mean)):
            whole = (stop - start) // self.batch_size
            if whole:
                shape = (whole, self.batch_size, self.n_features)
                done = reduce_items(mean[start:stop].reshape(shape), m2[start:stop].reshape(shape), self.values_per_row)
                self._complete(batch, *done)
            else:
                tree = self._cut.setdefault(batch, MomentsTree())
                tree.add(offset, mean[start:stop], m2[start:stop], self.values_per_row)
                self._close_if_complete(batch)

    def leave_out(self, rows: NDArray[np.int64]) -> None:
        """Count rows as seen whose values are in no moments: batches are complete without them."""
        batches, counts = np.unique(rows // self.batch_size, return_counts=True)
        whole = counts == self.batch_size
        self._close_empty(batches[whole])
        for batch, n in zip(batches[~whole], counts[~whole], strict=True):
            self._left_out[int(batch)] = self._left_out.get(int(batch), 0) + int(n)
            self._close_if_complete(int(batch))

    def _parts(self, first: int, n: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (start, stop, batch, offset) of runs of whole batches and of the parts of batches around them."""
        size, start = self.batch_size, 0
        while start < n:
            batch, offset = divmod(first + start, size)
            whole = (n - start) // size if offset == 0 else 0
            stop = start + whole * size if whole else min(n, start + size - offset)
            yield start, stop, batch, offset
            start = stop

    @np.errstate(over="ignore", invalid="ignore")
    def absorb(self, lane: Lane, left_out: NDArray[np.int64]) -> None:
        """Add what another lane of the same batch size has seen; its rows must be others.

        Args:
            left_out: the rows that the lane left out.
        """
        self._describe()
        self._records.extend(lane.records)
        if lane.divergences is not None:
            self._divergences.extend(lane.divergences)
        self._tree.update(lane.tree.nodes)
        self._constant += lane.constant_batches
        for batch, tree in lane.cut.items():
            self._cut.setdefault(batch, MomentsTree()).update(tree.nodes)
            self._close_if_complete(batch)
        self.leave_out(left_out[~np.isin(left_out // self.batch_size, lane.records["index"])])

    def finish(self) -> Lane:
        """Return the lane.

        Raises:
            NonFiniteError: squared deviations overflow float64.
        """
        self._describe()
        for batch, tree in self._cut.items():
            if not tree.finite:
                raise _too_large(f"batch {batch} has larger ones")
        if not self._tree.finite:
            raise _too_large("those of the whole dataset do not")
        records = self._records.finish()
        divergences = self._divergences.finish() if self.reference is not None else None
        if not (records["index"][1:] > records["index"][:-1]).all():  # of a stream they are in order: no copy
            ascending = np.argsort(records["index"], kind="stable")
            records = records[ascending]
            divergences = None if divergences is None else divergences[ascending]
        return Lane(
            self.batch_size,
            records,
            dict(sorted(self._cut.items())),
            self._tree,
            self._constant,
            divergences,
        )

    def _complete(self, first: int, mean: Floats, m2: Floats) -> None:
        count = self.batch_size * self.values_per_row
        self._tree.add(first, mean, m2, count)
        self._take(first, sum_tiles(mean, m2, count, self._constant))
        if self.reference is not None:
            self._divergences.extend(divergence_from(self.reference, mean, m2, count))

    def _take(self, first: int, sums: TileSums) -> None:
        self._undescribed.append((first, sums))
        self._undescribed_tiles += sums.size
        if self._undescribed_tiles >= DESCRIBED_TILES:
            self._describe()

    @np.errstate(over="ignore", invalid="ignore")
    def _describe(self) -> None:
        """Make records of the sums that wait for it; records are in the order of divergences."""
        if not self._undescribed:
            return
        batches = np.concatenate([np.arange(first, first + len(sums)) for first, sums in self._undescribed])
        sums = np.concatenate([sums for _, sums in self._undescribed], dtype=TILE_SUMS)
        self._undescribed, self._undescribed_tiles = [], 0
        self._records.extend(describe_batches(batches, sums))

    def _close_if_complete(self, batch: int) -> None:
        tree, left_out = self._cut.get(batch), self._left_out.get(batch, 0)
        count = 0 if tree is None else tree.count
        if count + left_out * self.values_per_row < self.batch_size * self.values_per_row:
            return
        self._cut.pop(batch, None)
        self._left_out.pop(batch, None)
        if tree is not None and not left_out:
            moments = tree.fold()
            self._complete(batch, moments.mean[None], moments.m2[None])
        else:
            self._close_without(batch, tree.fold() if tree is not None else Moments.empty((self.n_features,)))

    def _close_empty(self, batches: NDArray[np.int64]) -> None:
        """Close batches of which all rows were left out at once; they are alike but for their number."""
        if len(batches):
            nothing = LaneBuilder(self.batch_size, self.n_features, self.values_per_row, self.reference)
            nothing._close_without(0, Moments.empty((self.n_features,)))
            records = np.repeat(nothing._records.finish(), len(batches))
            records["index"] = batches
            self._describe()
            self._records.extend(records)
            if self.reference is not None:
                self._divergences.extend(np.repeat(nothing._divergences.finish(), len(batches)))

    def _close_without(self, batch: int, moments: Moments) -> None:
        """Close a batch of which rows were left out; features are not counted as constant by a single value."""
        constant = self._constant if moments.count >= 2 else np.zeros(self.n_features, np.int64)
        sums = sum_tiles(moments.mean[None], moments.m2[None], max(moments.count, 1), constant)
        self._describe()
        self._records.extend(describe_batches(np.array([batch]), sums))
        if moments.count:
            self._tree.insert(0, batch, moments)
        if self.reference is not None:
            self._divergences.extend(
                divergence_from(self.reference, moments.mean[None], moments.m2[None], moments.count)
            )


def _check_sums(sums: Floats | None, start: int) -> None:
    if sums is not None and not np.isfinite(sums).all():
        raise NonFiniteRowsError(start)
