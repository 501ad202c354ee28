"""From rows to a profile: in one pass, in blocks that fit the processor's cache."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assessor.batches import LaneBuilder
from assessor.calibration import SEED, Calibration, default_rows, sampled_features
from assessor.errors import (
    EmptyShardError,
    LabelError,
    NonFiniteError,
    SettingError,
    ShapeError,
)
from assessor.moments import Floats, as_numbers
from assessor.order import hash_rows
from assessor.profile import FEATURE_AXES, Profile, Schema
from assessor.rows import RowTable

BLOCK_VALUES = 1 << 17
"""Float64 values worked on at a time: 1 MB, so that the tree's levels stay in cache."""
MAX_NUMBER = 1 << 62
"""Bound of batch sizes and row numbers, so that their sums fit int64."""


class Profiler:
    """Reduces one shard, given as blocks of rows, to a profile.

    Args:
        batch_sizes: one or more, each >= 1; every one is profiled in the same pass.
        first_row: global number of the shard's first row, >= 0.
        feature_axis: "element" or "channel" (axis 1 of the data, the others count as samples).
        calibration_rows: rows sampled to calibrate the null; None chooses by the number of features, 0 turns it off.

    Raises:
        SettingError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        batch_sizes: Sequence[int],
        first_row: int = 0,
        feature_axis: str = "element",
        calibration_rows: int | None = None,
    ) -> None:
        self._batch_sizes = check_batch_sizes(batch_sizes)
        self._first_row = _whole_number("first_row", first_row)
        if feature_axis not in FEATURE_AXES:
            raise SettingError(f"expected feature_axis among {FEATURE_AXES}; got {feature_axis!r}")
        self._feature_axis = feature_axis
        self._calibration_rows = None
        if calibration_rows is not None:
            self._calibration_rows = _whole_number("calibration_rows", calibration_rows)
        self._schema: Schema | None = None
        self._dtypes: set[str] = set()
        self._lanes: list[LaneBuilder] = []
        self._means: list[Floats] = []
        self._border_means: list[Floats] = []
        self._labels: list[NDArray[np.int64]] = []
        self._calibration = Calibration.empty(0, 0)
        self._sampled = np.zeros(0, np.int64)
        self.rows = 0

    def add(self, block: ArrayLike, *, dtype: str | None = None) -> None:
        """Add rows, in order.

        Args:
            block: shape (n, *sample_shape), n >= 0, of booleans, integers or floats of at most 64 bits.
            dtype: name of the dtype in the file, where the block was widened from it (bfloat16).

        Raises:
            DtypeError: not numeric. ShapeError: another sample shape, or ragged. EmptyShardError: no features.
            NonFiniteError: NaN or infinity, named with its row, or a masked value.
        """
        rows = as_numbers(block)
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
        start = 0
        # Overflow is looked for in the results. C order, since sums along another layout round differently.
        with np.errstate(over="ignore", invalid="ignore"):
            for stop in self._block_ends(len(rows)):
                self._add_block(rows[start:stop].astype(np.float64, order="C"))
                start = stop

    def add_labels(self, labels: ArrayLike) -> None:
        """Add labels, in order, before or after their rows: shape (n,), integers.

        Raises:
            LabelError: not a vector of integers.
        """
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
        self._labels.append(values.astype(np.int64))

    def finish(self) -> Profile:
        """Return the profile of all rows added.

        Raises:
            EmptyShardError: no row came. LabelError: labels came, but not one a row.
        """
        if self._schema is None or not self.rows:
            raise EmptyShardError("expected at least one row; the shard has none: leave it out")
        labels = np.concatenate(self._labels) if self._labels else None
        if labels is not None and len(labels) != self.rows:
            raise LabelError(f"expected one label a row, {self.rows} in all; got {len(labels)}")
        table = RowTable(
            ((self._first_row, self._first_row + self.rows),),
            np.concatenate(self._means),
            np.concatenate(self._border_means) if self._border_means else None,
            labels,
        )
        return Profile(
            self._schema,
            tuple(sorted(self._dtypes)),
            {lane.batch_size: lane.finish() for lane in self._lanes},
            table,
            self._calibration,
        )

    def _open(self, shape: tuple[int, ...]) -> None:
        """Settle what depends on the sample shape, known with the first block."""
        if not shape:
            raise ShapeError("expected rows of shape (n, *); got a scalar: give it an axis of samples")
        sample = shape[1:] or (1,)
        if len(shape) == 1:
            raise ShapeError(
                f"expected rows of shape (n, features) or more axes; got shape {shape}: "
                "reshape to (n, 1) if each row is one number"
            )
        if 0 in sample:
            raise EmptyShardError(f"expected at least one feature; got rows of shape {sample}")
        if self._feature_axis == "channel" and len(sample) < 2:
            raise ShapeError(
                'expected samples (channels, positions...) for feature_axis="channel"; '
                f'got samples of shape {sample}: use feature_axis="element"'
            )
        schema = Schema(sample, self._feature_axis, 0)
        size = self._calibration_rows
        size = default_rows(schema.n_features) if size is None else size
        self._schema = Schema(sample, self._feature_axis, size)
        self._lanes = [LaneBuilder(b, schema.n_features, schema.values_per_row) for b in self._batch_sizes]
        self._calibration = Calibration.empty(size, schema.n_features)
        self._sampled = sampled_features(schema.n_features)

    def _block_ends(self, n: int) -> list[int]:
        """Return where to cut n rows, at whole batches of the largest size where blocks can hold one."""
        assert self._schema is not None
        fitting = max(1, BLOCK_VALUES // int(np.prod(self._schema.sample_shape)))
        largest = self._batch_sizes[-1]
        stride = fitting // largest * largest or fitting
        at = self._first_row + self.rows
        ends = list(range(stride - at % stride, n, stride))
        return [*ends, n] if n else []

    def _add_block(self, x: Floats) -> None:
        assert self._schema is not None
        schema, n, first = self._schema, len(x), self._first_row + self.rows
        means = x.reshape(n, -1).mean(axis=1)
        if not np.isfinite(means).all():
            self._name_bad_row(x, first)
        self._means.append(means)
        if len(schema.sample_shape) >= 2 and min(schema.sample_shape[-2:]) >= 2:
            inner = np.ascontiguousarray(x[..., :-1, :-1]).reshape(n, -1)
            self._border_means.append(inner.mean(axis=1))
        m2: Floats | None = None
        if schema.feature_axis == "channel":
            values = x.reshape(n, schema.n_features, -1)
            # Around the first value, so that the mean of equal values is that value and their variance is 0.
            base = values[..., :1]
            flat = base[..., 0] + (values - base).mean(axis=2)
            deviation = values - flat[..., None]
            m2 = (deviation * deviation).sum(axis=2)
        else:
            flat = x.reshape(n, -1)
        for lane in self._lanes:
            lane.add_rows(first, flat, m2)
        self._sample_rows(first, x.reshape(n, schema.n_features, -1))
        self.rows += n

    def _sample_rows(self, first: int, values: Floats) -> None:
        rows = np.arange(first, first + len(values), dtype=np.int64)
        wanted = np.flatnonzero(self._calibration.wanted(rows))
        if not len(wanted):
            return
        rows = rows[wanted]
        # One position a row, chosen by hash, where a feature has several.
        positions = (hash_rows(SEED + 1, rows) % np.uint64(values.shape[2])).astype(np.int64)
        picked = values[wanted[:, None], self._sampled[None, :], positions[:, None]]
        self._calibration = self._calibration.with_rows(rows, picked)

    def _name_bad_row(self, x: Floats, first: int) -> None:
        finite = np.isfinite(x).reshape(len(x), -1)
        bad_rows = np.flatnonzero(~finite.all(axis=1))
        if not len(bad_rows):
            raise NonFiniteError(
                "expected values whose sum over a sample fits float64; "
                f"those of a row between {first} and {first + len(x) - 1} overflow: divide the data first"
            )
        row = int(bad_rows[0])
        element = int(np.flatnonzero(~finite[row])[0])
        where = ", ".join(f"batch {(first + row) // size} of size {size}" for size in self._batch_sizes)
        raise NonFiniteError(
            f"expected finite values; row {first + row}, element {element} is "
            f"{x[row].reshape(-1)[element]} ({where}): remove or impute such values first"
        )


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


def profile_array(
    x: ArrayLike,
    *,
    batch_sizes: Sequence[int],
    labels: ArrayLike | None = None,
    first_row: int = 0,
    feature_axis: str = "element",
    calibration_rows: int | None = None,
) -> Profile:
    """Return the profile of an array.

    Args:
        x: shape (N, *), numbers.
        batch_sizes: each >= 1.
        labels: shape (N,), integers, or None.
        first_row: global number of the first row.
        feature_axis: "element" or "channel".
        calibration_rows: see `Profiler`.

    Raises:
        AssessorError: as `Profiler`.
    """
    profiler = Profiler(
        batch_sizes=batch_sizes,
        first_row=first_row,
        feature_axis=feature_axis,
        calibration_rows=calibration_rows,
    )
    profiler.add(x)
    if labels is not None:
        profiler.add_labels(labels)
    return profiler.finish()
