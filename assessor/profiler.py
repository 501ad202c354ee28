"""From rows to a profile: in one pass, in blocks that fit the processor's cache."""

from collections.abc import Iterable, Sequence, Sized
from contextlib import suppress
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assessor.batches import LaneBuilder, NonFiniteRowsError
from assessor.bfloat16 import NAME, as_bits, widen
from assessor.calibration import CalibrationBuilder, default_rows
from assessor.errors import (
    EmptyShardError,
    LabelError,
    NonFiniteError,
    SettingError,
    ShapeError,
)
from assessor.growing import GrowingArray
from assessor.kernels import sum_rows
from assessor.kernels.dispatch import BLOCK_VALUES, WIDENED_VALUES, slice_rows
from assessor.moments import Floats, Moments, as_numbers
from assessor.profile import FEATURE_AXES, NONFINITE, Profile, Schema
from assessor.rows import RowTable

MAX_PENDING_BYTES = 8 << 20
"""Rows are held back to complete a batch of the largest size up to so many bytes."""
COPIED_BYTES = 1 << 18
"""Rows that come after waiting ones are copied to them up to so many bytes, which costs less than another reduction."""
MAX_NUMBER = 1 << 62
"""Bound of batch sizes and row numbers, so that their sums fit int64."""


class Profiler:
    """Reduces one shard, given as blocks of rows, to a profile.

    Args:
        batch_sizes: one or more, each >= 1; every one is profiled in the same pass.
        first_row: global number of the shard's first row, >= 0.
        feature_axis: "element" or "channel" (axis 1 of the data, the others count as samples).
        calibration_rows: rows sampled to calibrate the null; None chooses by the number of features, 0 turns it off.
        reference: a profile of earlier data with the same features; of each batch, `population_divergence` from it is
            kept, one float64. Batches are then reduced by NumPy, which is slower than the compiled kernel.
        nonfinite: what becomes of rows that hold NaN or infinity: "raise" an error that names batch and row; "exclude"
            them from all moments, so that their batches are judged by their other rows; or "normalize": exclude them
            and mark their batches to be normalized.
        sample_bar: `Calibration.bar` of rows that will be merged with these: no row above it can be in the sample of
            all, so none is kept. None keeps the whole sample.
        in_memory_bytes: most bytes to hold in memory of each column that grows with the rows (their means, labels, the
            batches' records); more wait in temporary files, and the profile's columns are then mapped from these. None
            for all. A row takes 8 bytes (16 with labels, 8 more for images), a batch 92 for each batch size.

    Raises:
        SettingError: a setting out of its range, or a reference that is no profile with rows.
    """

    def __init__(
        self,
        *,
        batch_sizes: Sequence[int],
        first_row: int = 0,
        feature_axis: str = "element",
        calibration_rows: int | None = None,
        reference: Profile | None = None,
        nonfinite: str = "raise",
        sample_bar: int | None = None,
        in_memory_bytes: int | None = None,
    ) -> None:
        self._batch_sizes = check_batch_sizes(batch_sizes)
        self._first_row = _whole_number("first_row", first_row)
        if feature_axis not in FEATURE_AXES:
            raise SettingError(f"expected feature_axis among {FEATURE_AXES}; got {feature_axis!r}")
        self._feature_axis = feature_axis
        if nonfinite not in NONFINITE:
            raise SettingError(f"expected nonfinite among {', '.join(NONFINITE)}; got {nonfinite!r:.80}")
        self._nonfinite = nonfinite
        self._calibration_rows = None
        if calibration_rows is not None:
            self._calibration_rows = _whole_number("calibration_rows", calibration_rows)
        self._reference = _checked_reference(reference, feature_axis)
        if sample_bar is not None and (
            isinstance(sample_bar, bool)
            or not isinstance(sample_bar, int | np.integer)
            or not 0 <= sample_bar < 1 << 64
        ):
            raise SettingError(f"expected sample_bar to be None or an integer >= 0 and < 2^64; got {sample_bar!r:.80}")
        self._sample_bar = None if sample_bar is None else int(sample_bar)
        self._schema: Schema | None = None
        self._dtypes: set[str] = set()
        self._lanes: list[LaneBuilder] = []
        self._in_memory_bytes = None
        if in_memory_bytes is not None:
            self._in_memory_bytes = _whole_number("in_memory_bytes", in_memory_bytes)
        self._means = GrowingArray(np.dtype(np.float64), self._in_memory_bytes)
        self._border_means = GrowingArray(np.dtype(np.float64), self._in_memory_bytes)
        self._labels: GrowingArray[np.int64] | None = None
        self._calibration = CalibrationBuilder(0, 0)
        self._expected = 0
        self._row_values = 0
        self._pending: list[NDArray[Any]] = []
        self._n_pending = 0
        self._done = 0
        self._finished = False
        self.rows = 0

    def expect(self, n_rows: int) -> None:
        """Say how many rows are to come in all, at the least: before the first, where that is known.

        The profile is the same; sampled rows are then not copied to be dropped for others later.

        Raises:
            SettingError: not an integer, or below 0.
        """
        self._expected = _whole_number("n_rows", n_rows)

    def add(self, block: ArrayLike, *, dtype: str | None = None) -> None:
        """Add rows, in order.

        Args:
            block: shape (n, *sample_shape), n >= 0, of booleans, integers or floats of at most 64 bits; bfloat16 (torch
                tensors, arrays of ml_dtypes) is widened piece by piece. Shape (n,) is read as (n, 1).
            dtype: name of the dtype in the file, where the block was widened from it (bfloat16).

        Raises:
            DtypeError: not numeric. ShapeError: another sample shape, or ragged. EmptyShardError: no features.
            NonFiniteError: NaN or infinity, named with its row, or a masked value. SettingError: after `finish`.
        """
        self._check_open()
        bits = as_bits(block)
        if bits is not None and bits.ndim and len(bits) > 1:
            step = max(1, WIDENED_VALUES // max(1, bits[0].size))
            for start in range(0, len(bits), step):
                self.add(widen(bits[start : start + step]), dtype=NAME)
            return
        rows = as_numbers(block)
        if rows.shape == (0,):
            return  # no rows, of whatever shape
        rows = rows[:, None] if rows.ndim == 1 else rows
        dtype = NAME if bits is not None else dtype
        if np.ma.is_masked(block):
            raise NonFiniteError("expected values everywhere; the array has masked ones: remove or impute them first")
        if self._schema is None:
            self._open(rows.shape)
        assert self._schema is not None
        if rows.shape[1:] != self._schema.sample_shape:
            raise ShapeError(
                f"expected rows of shape {self._schema.sample_shape} as before; got {rows.shape[1:]} "
                f"at row {self._first_row + self.rows}"
            )
        self._dtypes.add(dtype or rows.dtype.name)
        if self._pending and self._pending[0].dtype != rows.dtype:
            self._flush(self._n_pending)
        self._take(rows)

    def add_labels(self, labels: ArrayLike) -> None:
        """Add labels, in order, before or after their rows: shape (n,), integers.

        Raises:
            LabelError: not a vector of integers. SettingError: after `finish`.
        """
        self._check_open()
        try:
            values = np.asarray(labels)
        except (ValueError, TypeError, RuntimeError) as error:
            raise LabelError(f"expected labels of shape (rows,) and an integer dtype; got others: {error}") from error
        if values.ndim != 1 or values.dtype.kind not in "biu":
            raise LabelError(
                f"expected labels of shape (rows,) and an integer dtype; got shape {values.shape}, "
                f"dtype {values.dtype}: number the classes"
            )
        if values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63:
            raise LabelError(f"expected labels below 2^63; got {int(values.max())}: number the classes from 0")
        if self._labels is None:
            self._labels = GrowingArray(np.dtype(np.int64), self._in_memory_bytes)
        self._labels.extend(values.astype(np.int64))

    def finish(self) -> Profile:
        """Return the profile of all rows added; once, since it holds what was collected and not a copy.

        Raises:
            EmptyShardError: no row came. LabelError: labels came, but not one a row. SettingError: done before.
            NonFiniteError: squares overflow float64.
        """
        self._check_open()
        self._flush(self._n_pending)
        if self._schema is None or not self.rows:
            raise EmptyShardError("expected at least one row; the shard has none: leave it out")
        if self.rows < self._expected:
            raise SettingError(f"expected at least {self._expected} rows, as announced by expect(); got {self.rows}")
        labels = None if self._labels is None else self._labels.finish()
        if labels is not None and len(labels) != self.rows:
            raise LabelError(
                f"expected one label a row, {self.rows} in all; got {len(labels)}: check that they are of these rows"
            )
        table = RowTable(
            ((self._first_row, self._first_row + self.rows),),
            self._means.finish(),
            self._border_means.finish() if len(self._border_means) else None,
            labels,
        )
        profile = Profile(
            self._schema,
            tuple(sorted(self._dtypes)),
            {lane.batch_size: lane.finish() for lane in self._lanes},
            table,
            self._calibration.finish(),
            self._reference,
        )
        self._finished = True
        return profile

    def _check_open(self) -> None:
        if self._finished:
            raise SettingError(
                "expected a profiler that is not finished; this one has given its profile: make another with first_row "
                "for the rows that follow, and merge their profiles"
            )

    def _open(self, shape: tuple[int, ...]) -> None:
        """Settle what depends on the sample shape, known with the first block."""
        if not shape:
            raise ShapeError("expected rows of shape (n, *); got a scalar: give it an axis of samples")
        sample = shape[1:]
        if 0 in sample:
            raise EmptyShardError(f"expected at least one feature; got rows of shape {sample}")
        self._row_values = int(np.prod(sample))
        schema = Schema(sample, self._feature_axis, 0)
        size = self._calibration_rows
        size = default_rows(schema.n_features) if size is None else size
        self._schema = Schema(sample, self._feature_axis, size, self._nonfinite)
        reference = self._reference
        if reference is not None and len(reference.mean) != schema.n_features:
            raise ShapeError(
                f"expected samples of {len(reference.mean)} features as in the reference; got {schema.n_features} "
                f"in samples of shape {sample}: give a reference of the same data"
            )
        self._lanes = [
            LaneBuilder(b, schema.n_features, schema.values_per_row, reference, self._in_memory_bytes)
            for b in self._batch_sizes
        ]
        self._calibration = CalibrationBuilder(size, schema.n_features, self._sample_bar)
        if self._nonfinite == "raise":  # else some of the rows may be left out, and of the others more be sampled
            self._calibration.expect(self._first_row, self._expected)

    def _take(self, rows: NDArray[Any]) -> None:
        """Reduce as many rows as end with a batch of the largest size; keep the others until more come.

        So a stream's pieces, which end anywhere, do not cut batches. Batches too large to wait for are cut.
        """
        assert self._schema is not None
        row_bytes = rows.dtype.itemsize * self._row_values
        stride = self._stride(row_bytes)
        self.rows += len(rows)
        after = (self._first_row + self.rows) % stride
        if after and len(rows) <= after:
            self._keep(rows)
            return
        whole = len(rows) - after
        if self._n_pending:
            # Only the rows that complete the waiting batch are copied, where there are many.
            head = min(whole, stride - (self._first_row + self.rows - len(rows)) % stride)
            head = whole if whole * row_bytes <= COPIED_BYTES else head
            self._keep(rows[:head])
            self._flush(self._n_pending)
            rows, whole = rows[head:], whole - head
        self._add_rows(rows[:whole])
        self._keep(rows[whole:])

    def _stride(self, row_bytes: int) -> int:
        """Return the rows that are reduced together at the least."""
        return self._batch_sizes[-1] if self._batch_sizes[-1] * row_bytes <= MAX_PENDING_BYTES else 1

    def best_cuts(self, row_bytes: int) -> tuple[int, int]:
        """Return after how many more rows, and then after each how many, blocks best end: no row waits for the next.

        Args:
            row_bytes: of the rows as they are added.
        """
        stride = self._stride(row_bytes)
        return -(self._first_row + self.rows) % stride, stride

    def _keep(self, rows: NDArray[Any]) -> None:
        if len(rows):
            self._pending.append(rows.copy())
            self._n_pending += len(rows)

    def _flush(self, n: int) -> None:
        if n:
            rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
            self._pending, self._n_pending = [], 0
            self._add_rows(rows)

    def _add_rows(self, rows: NDArray[Any]) -> None:
        """Reduce rows, in slices that bound the memory for them."""
        assert self._schema is not None
        size = self._row_values
        by_channel = self._schema.feature_axis == "channel"
        limit = max(1, BLOCK_VALUES // size) if by_channel else slice_rows(rows.dtype, size, self._batch_sizes[0])
        step = limit // self._batch_sizes[-1] * self._batch_sizes[-1] or limit
        # Overflow is looked for in the results, of lanes too.
        with np.errstate(over="ignore", invalid="ignore"):
            start = 0
            while start < len(rows):
                at = self._first_row + self._done
                stop = min(len(rows), start + step - at % step)
                self._add_slice(np.ascontiguousarray(rows[start:stop]))
                start = stop

    def _add_slice(self, x: NDArray[Any]) -> None:
        assert self._schema is not None
        schema, n, first = self._schema, len(x), self._first_row + self._done
        sums = np.empty(n)
        left_out = self._fill_lanes(first, x, sums)
        means = sums / x[0].size
        border = len(schema.sample_shape) >= 2 and min(schema.sample_shape[-2:]) >= 2
        border_means = _border_means(x, sums) if border else None
        if left_out is not None:
            means[left_out] = np.nan
            if border_means is not None:
                border_means[left_out] = np.nan
            for lane in self._lanes:
                lane.leave_out(first + np.flatnonzero(left_out))
        self._means.extend(means)
        if border_means is not None:
            self._border_means.extend(border_means)
        for start, stop in _runs(left_out, n):
            self._calibration.add(first + start, x[start:stop].reshape(stop - start, schema.n_features, -1))
        self._done += n

    def _fill_lanes(self, first: int, x: NDArray[Any], sums: Floats) -> NDArray[np.bool_] | None:
        """Give the rows to every lane, and the sum of each row to `sums`; return which rows were left out, if any."""
        assert self._schema is not None
        n = len(x)
        if self._schema.feature_axis == "channel":
            return self._fill_from_channels(first, x, sums)
        flat = x.reshape(n, -1)
        left_out, done = None, n
        try:
            self._lanes[0].add_values(first, flat, sums)
        except NonFiniteRowsError as error:
            done = error.start
            left_out = self._rows_to_leave_out(flat, first, done)
        for lane in self._lanes:
            if lane is self._lanes[0]:
                if left_out is None:
                    continue
                runs, at = _runs(left_out[done:], n - done), done
            else:
                runs, at = _runs(left_out, n), 0
            for start, stop in runs:
                rows = slice(at + start, at + stop)
                lane.add_values(first + at + start, flat[rows], sums[rows] if lane is self._lanes[0] else None)
        return left_out

    def _rows_to_leave_out(self, x: NDArray[Any], first: int, start: int) -> NDArray[np.bool_]:
        """Return which rows hold values that are not finite, shape (rows,), where some are to be left out.

        Args:
            x: shape (rows, values); those before `start` are finite.

        Raises:
            NonFiniteError: a row's sum overflows, or such rows are errors.
        """
        left_out = np.zeros(len(x), np.bool_)
        step = max(1, BLOCK_VALUES // x.shape[1])
        for at in range(start, len(x), step):
            block = x[at : at + step]
            left_out[at : at + step] = bad = ~np.isfinite(block).all(axis=1)
            if bad.any() and self._nonfinite == "raise":
                raise self._bad_row(block, first + at, int(np.argmax(bad)))
            sums = sum_rows(np.ascontiguousarray(block[~bad], np.float64))
            if not np.isfinite(sums).all():
                row = first + at + int(np.flatnonzero(~bad)[np.flatnonzero(~np.isfinite(sums))[0]])
                raise NonFiniteError(
                    "expected values whose sum over a sample fits float64; "
                    f"that of row {row} overflows: divide the data first"
                )
        return left_out

    def _fill_from_channels(self, first: int, x: NDArray[Any], sums: Floats) -> NDArray[np.bool_] | None:
        assert self._schema is not None
        n, n_features = len(x), self._schema.n_features
        values = x.astype(np.float64).reshape(n, n_features, -1)
        sums[:] = sum_rows(values.reshape(n, -1))
        left_out = None
        if not np.isfinite(sums).all():
            left_out = self._rows_to_leave_out(x.reshape(n, -1), first, 0)
        # Around the first value, so that the mean of equal values is that value and their variance is 0.
        base = values[..., :1]
        mean = base[..., 0] + (values - base).mean(axis=2)
        deviation = values - mean[..., None]
        m2 = (deviation * deviation).sum(axis=2)
        for lane in self._lanes:
            for start, stop in _runs(left_out, n):
                lane.add_moments(first + start, mean[start:stop], m2[start:stop])
        return left_out

    def _bad_row(self, x: NDArray[Any], first: int, row: int) -> NonFiniteError:
        """Return the error that names a row of x with its first value that is not finite."""
        values = x[row].reshape(-1)
        element = int(np.flatnonzero(~np.isfinite(values))[0])
        where = ", ".join(f"batch {(first + row) // size} of size {size}" for size in self._batch_sizes)
        return NonFiniteError(
            f"expected finite values; row {first + row}, element {element} is {values[element]} ({where}): "
            "remove or impute such values first, or leave such rows out (nonfinite=exclude)"
        )


def _runs(left_out: NDArray[np.bool_] | None, n: int) -> list[tuple[int, int]]:
    """Return the ranges [start, stop) of n rows between those that are left out."""
    if left_out is None:
        return [(0, n)]
    edges = np.flatnonzero(np.diff(np.concatenate([[True], left_out, [True]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _border_means(x: NDArray[Any], sums: Floats) -> Floats:
    """Return the mean of each sample without its last row and last column (its last two axes).

    Args:
        x: shape (n, ..., height, width).
        sums: shape (n,): the sums of the whole samples.
    """
    n, size = len(x), x[0].size
    height, width = x.shape[-2:]
    last_row = np.ascontiguousarray(x[..., -1, :], np.float64).reshape(n, -1)
    last_column = np.ascontiguousarray(x[..., :-1, -1], np.float64).reshape(n, -1)
    inner = sums - (sum_rows(last_row) + sum_rows(last_column))
    # Where the border outweighs the rest, the difference has lost too many of its 53 bits: those are added up again.
    lost = np.flatnonzero(np.abs(inner) < (sum_rows(np.abs(last_row)) + sum_rows(np.abs(last_column))) * 2.0**-16)
    if len(lost):
        inner[lost] = sum_rows(np.ascontiguousarray(x[lost, ..., :-1, :-1], np.float64).reshape(len(lost), -1))
    means: Floats = inner / (size // (height * width) * (height - 1) * (width - 1))
    return means


def check_batch_sizes(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the batch sizes ascending, each once.

    Raises:
        SettingError: none, or one that is not an integer >= 1.
    """
    if not isinstance(batch_sizes, Iterable) or isinstance(batch_sizes, str | bytes):
        raise SettingError(f"expected a list of batch sizes, such as [32]; got {batch_sizes!r}")
    sizes = list(batch_sizes)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= MAX_NUMBER:
            raise SettingError(f"expected batch sizes that are integers >= 1 and <= 2^62; got {size!r:.80}")
    if not sizes:
        raise SettingError("expected at least one batch size; got none")
    return tuple(sorted({int(size) for size in sizes}))


def _whole_number(name: str, value: int) -> int:
    """Return a setting that must be an integer >= 0 and fit int64 with room to add."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= MAX_NUMBER:
        raise SettingError(f"expected {name} to be an integer >= 0 and <= 2^62; got {value!r:.80}")
    return int(value)


def _checked_reference(reference: Profile | None, feature_axis: str) -> Moments | None:
    if reference is None:
        return None
    if not isinstance(reference, Profile) or not reference.n_rows:
        kind = "one without rows" if isinstance(reference, Profile) else type(reference).__name__
        raise SettingError(f"expected a profile with rows as reference; got {kind}: profile the earlier data first")
    if reference.feature_axis != feature_axis:
        raise SettingError(
            f"expected a reference made with feature_axis {feature_axis!r}; got {reference.feature_axis!r}: "
            "profile both with the same setting"
        )
    return reference.moments


def profile_array(
    x: ArrayLike,
    *,
    batch_sizes: Sequence[int],
    labels: ArrayLike | None = None,
    first_row: int = 0,
    feature_axis: str = "element",
    calibration_rows: int | None = None,
    reference: Profile | None = None,
    nonfinite: str = "raise",
) -> Profile:
    """Return the profile of an array.

    Args:
        x: shape (N, *), numbers.
        batch_sizes: each >= 1.
        labels: shape (N,), integers, or None.
        first_row: global number of the first row.
        feature_axis: "element" or "channel".
        calibration_rows, reference, nonfinite: see `Profiler`.

    Raises:
        AssessorError: as `Profiler`.
    """
    profiler = Profiler(
        batch_sizes=batch_sizes,
        first_row=first_row,
        feature_axis=feature_axis,
        calibration_rows=calibration_rows,
        reference=reference,
        nonfinite=nonfinite,
    )
    with suppress(TypeError):  # what has no length is refused by the profiler, with its own words
        profiler.expect(len(cast(Sized, x)))
    profiler.add(x)
    if labels is not None:
        profiler.add_labels(labels)
    return profiler.finish()
