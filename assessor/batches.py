"""What a profile keeps of each batch, for one batch size: a lane.

A lane is built from rows in any cutting. Complete batches are reduced to one record each; a batch that a shard's edge
cuts is kept as tree nodes until its other rows come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from assessor.errors import NonFiniteError
from assessor.moments import Floats, Moments, MomentsTree, reduce_items

RECORD = np.dtype(
    [
        ("index", np.int64),  # batch number
        ("pooled_mean", np.float64),  # over all values of the varying features
        ("pooled_variance", np.float64),  # likewise, biased
        ("mean_log_variance", np.float64),  # mean over the varying features of ln v_f
        (
            "constant_second_moment",
            np.float64,
        ),  # sum over the features constant in the batch of m_f^2
        ("constant_second_moment_low", np.float64),  # what rounding to float64 took from it
        ("n_varying", np.int32),  # features with v_f > 0
    ]
)
"""One complete batch: 52 bytes. Everything the measures of FORMULAS 2.2 and 2.3 need."""

Records = NDArray[np.void]


def describe_batches(first: int, mean: Floats, m2: Floats, count: int) -> Records:
    """Return the records of batches first, first + 1, ...

    Args:
        first: number of the first batch.
        mean, m2: shape (batches, features), float64.
        count: values per feature and batch.

    Raises:
        NonFiniteError: squares overflow float64.
    """
    records = np.zeros(len(mean), RECORD)
    records["index"] = np.arange(first, first + len(mean))
    variance = m2 / count
    varying = variance > 0
    n_varying = varying.sum(axis=1)
    some = np.maximum(n_varying, 1)
    total = np.where(varying, mean, 0.0).sum(axis=1)
    records["pooled_mean"] = total / some
    spread = np.where(varying, mean - records["pooled_mean"][:, None], 0.0)
    pooled = (np.where(varying, variance, 0.0).sum(axis=1) + (spread * spread).sum(axis=1)) / some
    records["pooled_variance"] = pooled
    logs = np.log(np.where(varying, variance, 1.0))
    records["mean_log_variance"] = logs.sum(axis=1) / some
    high, low = sum_of_squares(np.where(varying, 0.0, mean))
    records["constant_second_moment"], records["constant_second_moment_low"] = high, low
    records["n_varying"] = n_varying
    size = variance.sum(axis=1) + n_varying * (pooled + records["pooled_mean"] ** 2) + high
    if not np.isfinite(size).all():
        raise _too_large(f"batch {first + int(np.flatnonzero(~np.isfinite(size))[0])} has larger ones")
    return records


def sum_of_squares(values: Floats) -> tuple[Floats, Floats]:
    """Return the sum of squares over the last axis as an unevaluated sum high + low, good to about 1e-30.

    A feature that is constant over the dataset is taken off this sum again; where its square is large (a time stamp),
    float64 alone would leave nothing of the others.

    Source: Dekker 1971, doi:10.1007/BF01397083 (two-product and the addition of doubled numbers).
    """
    if not values.any():
        return np.zeros(values.shape[:-1]), np.zeros(values.shape[:-1])
    split = values * 134217729.0  # 2^27 + 1 cuts 53 bits into 26 and 27
    top = split - (split - values)
    rest = values - top
    high = values * values
    low = ((top * top - high) + 2 * top * rest) + rest * rest
    while high.shape[-1] > 1:
        if high.shape[-1] % 2:
            pad = [(0, 0)] * (high.ndim - 1) + [(0, 1)]
            high, low = np.pad(high, pad), np.pad(low, pad)
        a, b = high[..., 0::2], high[..., 1::2]
        total = a + b
        shadow = total - a
        error = (a - (total - shadow)) + (b - shadow) + (low[..., 0::2] + low[..., 1::2])
        high = total + error
        low = error - (high - total)
    return high[..., 0], low[..., 0]


def _too_large(where: str) -> NonFiniteError:
    return NonFiniteError(
        f"expected values whose squares and their sums fit float64 (below about 1e150); {where}: "
        "divide the data by a constant first"
    )


@dataclass(frozen=True, eq=False)
class Lane:
    """All that a profile keeps for one batch size.

    Attributes:
        batch_size: samples a batch.
        records: complete batches, sorted by number.
        cut: by batch number, the row-tree nodes of batches that are not complete.
        tree: nodes over complete batches: the dataset's moments per feature.
        constant_batches: shape (features,), int64: complete batches in which the feature was constant.
    """

    batch_size: int
    records: Records
    cut: Mapping[int, MomentsTree]
    tree: MomentsTree
    constant_batches: NDArray[np.int64]


@dataclass
class LaneBuilder:
    """Collects rows and other lanes of one batch size, in any order.

    Attributes:
        values_per_row: values of one feature in one sample (1, or the positions of a channel).
    """

    batch_size: int
    n_features: int
    values_per_row: int
    _records: list[Records] = field(default_factory=list)
    _cut: dict[int, MomentsTree] = field(default_factory=dict)
    _tree: MomentsTree = field(default_factory=MomentsTree)
    _constant: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._constant = np.zeros(self.n_features, np.int64)

    @np.errstate(over="ignore", invalid="ignore")
    def add_rows(self, first: int, mean: Floats, m2: Floats | None) -> None:
        """Add the rows first, first + 1, ...: per row and feature mean and m2, shape (rows, features)."""
        size, start, stop = self.batch_size, 0, len(mean)
        while start < stop:
            batch, offset = divmod(first + start, size)
            whole = (stop - start) // size if offset == 0 else 0
            end = start + whole * size if whole else min(stop, start + size - offset)
            part_mean, part_m2 = mean[start:end], None if m2 is None else m2[start:end]
            if whole:
                shape = (whole, size, self.n_features)
                done = reduce_items(
                    part_mean.reshape(shape),
                    None if part_m2 is None else part_m2.reshape(shape),
                    self.values_per_row,
                )
                self._complete(batch, *done)
            else:
                tree = self._cut.setdefault(batch, MomentsTree())
                tree.add(offset, part_mean, part_m2, self.values_per_row)
                self._close_if_complete(batch)
            start = end

    @np.errstate(over="ignore", invalid="ignore")
    def absorb(self, lane: Lane) -> None:
        """Add what another lane of the same batch size has seen; its rows must be others."""
        self._records.append(lane.records)
        self._tree.update(lane.tree.nodes)
        self._constant += lane.constant_batches
        for batch, tree in lane.cut.items():
            self._cut.setdefault(batch, MomentsTree()).update(tree.nodes)
            self._close_if_complete(batch)

    def finish(self) -> Lane:
        """Return the lane.

        Raises:
            NonFiniteError: squared deviations overflow float64.
        """
        for batch, tree in self._cut.items():
            if not tree.finite:
                raise _too_large(f"batch {batch} has larger ones")
        if not self._tree.finite:
            raise _too_large("those of the whole dataset do not")
        records = np.concatenate(self._records) if self._records else np.zeros(0, RECORD)
        return Lane(
            self.batch_size,
            records[np.argsort(records["index"], kind="stable")],
            dict(sorted(self._cut.items())),
            self._tree,
            self._constant,
        )

    def _complete(self, first: int, mean: Floats, m2: Floats) -> None:
        count = self.batch_size * self.values_per_row
        self._records.append(describe_batches(first, mean, m2, count))
        self._constant += (m2 / count == 0).sum(axis=0)  # as describe_batches sees them
        self._tree.add(first, mean, m2, count)

    def _close_if_complete(self, batch: int) -> None:
        tree = self._cut[batch]
        if tree.count == self.batch_size * self.values_per_row:
            del self._cut[batch]
            moments: Moments = tree.fold()
            self._complete(batch, moments.mean[None], moments.m2[None])
