"""Profiles as bytes: a safetensors file with a versioned header. Never pickle.

What follows from the rest is left out: the number of a batch (from the spans), the pooled variance (the sum of the
mean variance and the location variance, to the bit), columns that are zero throughout, and the number of varying
features where it is that of all. Sampled values, most of a profile, are float32 where that holds them exactly, as it
does for data of float32. Version 2 held them as float64, version 1 also what follows; both are still read.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from assessor.batches import RECORD, Lane
from assessor.calibration import MAX_FEATURES, SEED, Calibration, Values
from assessor.errors import FormatError
from assessor.moments import Moments, MomentsTree
from assessor.order import hash_rows
from assessor.profile import NONFINITE, Profile, Schema
from assessor.rows import RowTable, Spans

SCHEMA = "normgauge.profile/3"
EARLIER = ("normgauge.profile/1", "normgauge.profile/2")
SAMPLED = "calibration.values"
MAY_BE_ZERO = ("constant_second_moment", "constant_second_moment_low")
DERIVED = ("index", "pooled_variance")
Tensors = dict[str, NDArray[Any]]
Columns = dict[str, tuple[NDArray[Any], ...]]
"""What is written, by name; of two arrays, one after the other along a new first axis."""

_NAMES = {
    np.dtype(np.int64): "I64",
    np.dtype(np.float64): "F64",
    np.dtype(np.float32): "F32",
    np.dtype(np.int32): "I32",
}
_ORDER = list(_NAMES)
"""That of the safetensors library, which sorts by type first."""


class ProfileFile:
    """A profile as a safetensors file that is made while it is written: of large arrays there is no copy.

    `len()` is its size in bytes, and iterating yields these, in order. Equal profiles give equal bytes.
    """

    def __init__(self, profile: Profile) -> None:
        """Settle the layout, that of the safetensors library: wider types first, then by name."""
        columns = sorted(_columns_of(profile).items(), key=lambda item: (_ORDER.index(item[1][0].dtype), item[0]))
        self._columns = [column for _, column in columns]
        fields: dict[str, Any] = {"__metadata__": {"normgauge": json.dumps(_describe(profile), sort_keys=True)}}
        at = 0
        for name, column in columns:
            shape = list(column[0].shape) if len(column) == 1 else [len(column), *column[0].shape]
            start, at = at, at + sum(part.nbytes for part in column)
            fields[name] = {"dtype": _NAMES[column[0].dtype], "shape": shape, "data_offsets": [start, at]}
        text = json.dumps(fields, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._header = len(text).to_bytes(8, "little") + text
        self._size_bytes = len(self._header) + at

    def __len__(self) -> int:
        """Return the size in bytes."""
        return self._size_bytes

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the bytes in order, each piece to be used before the next one is asked for."""
        yield memoryview(self._header)
        for column in self._columns:
            for part in column:
                if part.size:
                    yield np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data.cast("B")


def dump_profile(profile: Profile) -> bytes:
    """Return the profile as safetensors bytes; equal profiles give equal bytes."""
    return b"".join(ProfileFile(profile))


def _columns_of(profile: Profile) -> Columns:
    """Return what is written, by name."""
    columns: Columns = {"rows.means": (profile.rows.means,)}
    if profile.rows.border_means is not None:
        columns["rows.border_means"] = (profile.rows.border_means,)
    if profile.rows.labels is not None:
        columns["rows.labels"] = (profile.rows.labels,)
    columns["calibration.rows"] = (profile.calibration.rows,)
    columns[SAMPLED] = (_narrowest(profile.calibration.values),)
    if profile.reference is not None:
        columns[f"reference.{profile.reference.count}"] = (profile.reference.mean, profile.reference.m2)
    for size, lane in profile.lanes.items():
        if lane.divergences is not None:
            columns[f"lane.{size}.divergences"] = (lane.divergences,)
        for name in RECORD.names or ():
            column = lane.records[name]
            zero = name in MAY_BE_ZERO and not column.any() and not np.signbit(column).any()
            if name not in DERIVED and not zero and not (name == "n_varying" and (column == profile.n_features).all()):
                columns[f"lane.{size}.records.{name}"] = (column,)
        if lane.constant_batches.any():
            columns[f"lane.{size}.constant_batches"] = (lane.constant_batches,)
        for prefix, tree in [("tree", lane.tree), *((f"cut.{batch}", tree) for batch, tree in lane.cut.items())]:
            for (level, index), node in tree.nodes.items():
                columns[f"lane.{size}.{prefix}.{level}.{index}.{node.count}"] = (node.mean, node.m2)
    return columns


def _narrowest(values: Values) -> Values:
    """Return the values as float32 where that changes none, else as they are."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    return narrow if (narrow == values).all() else values


def _describe(profile: Profile) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "sample_shape": profile.sample_shape,
        "feature_axis": profile.feature_axis,
        "calibration_rows": profile.schema.calibration_rows,
        "dtypes": profile.dtypes,
        "batch_sizes": profile.batch_sizes,
        "spans": profile.spans,
        "nonfinite": profile.schema.nonfinite,
    }


def load_profile(data: bytes) -> Profile:
    """Return the profile that `dump_profile` wrote.

    Raises:
        FormatError: not such bytes, or of another version.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["normgauge"])
        tensors: Tensors = safetensors.numpy.load(bytes(data))
        known = header["schema"]
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"expected a profile written by to_bytes; got other bytes: {error}") from error
    if known not in (SCHEMA, *EARLIER):
        raise FormatError(f"expected a profile of schema {SCHEMA}; got {known!r:.80}: profile the data again")
    try:
        profile = _build(header, tensors)
        _check(profile)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise FormatError(f"expected a consistent profile; {type(error).__name__}: {error}") from error
    return profile


def _build(header: dict[str, Any], tensors: Tensors) -> Profile:
    schema = Schema(
        tuple(header["sample_shape"]),
        header["feature_axis"],
        header["calibration_rows"],
        "raise" if header["schema"] == EARLIER[0] else header["nonfinite"],
    )
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES or (tensor.dtype == np.float32 and name != SAMPLED):
            raise ValueError(f"{name:.80} of dtype {tensor.dtype}")
    if schema.nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite {schema.nonfinite!r:.80}")
    rows = RowTable(
        tuple((start, stop) for start, stop in header["spans"]),
        tensors["rows.means"],
        tensors.get("rows.border_means"),
        tensors.get("rows.labels"),
    )
    n_rows = sum(stop - start for start, stop in rows.spans)
    if n_rows != len(rows.means):
        raise ValueError(f"columns of another length than {n_rows} rows")
    sampled = tensors[SAMPLED]
    if sampled.dtype.kind != "f" or not np.isfinite(sampled).all():
        raise ValueError(f"{SAMPLED} of dtype {sampled.dtype} that are not all finite numbers")
    if tensors["calibration.rows"].dtype != np.int64:
        raise ValueError(f"calibration.rows of dtype {tensors['calibration.rows'].dtype}")
    calibration = Calibration(schema.calibration_rows, tensors["calibration.rows"], sampled)
    lanes = {size: _load_lane(tensors, size, rows.spans, schema.n_features) for size in header["batch_sizes"]}
    reference = None
    for name, pair in tensors.items():
        if name.startswith("reference."):
            mean, m2 = pair
            reference = Moments(int(name.removeprefix("reference.")), mean, m2)
    return Profile(schema, tuple(header["dtypes"]), lanes, rows, calibration, reference)


def _check(profile: Profile) -> None:
    """Raise ValueError unless the shapes agree with each other."""
    edges = [edge for span in profile.spans for edge in span]
    n_rows = sum(stop - start for start, stop in profile.spans)
    rows, calibration = profile.rows, profile.calibration
    columns = [column for column in (rows.means, rows.border_means, rows.labels) if column is not None]
    if not edges and not profile.lanes and not profile.sample_shape[0] and not len(calibration.rows):
        return  # the profile of no rows
    if not edges or edges[0] < 0 or any(a >= b for a, b in pairwise(edges)):
        raise ValueError(f"spans {profile.spans!r:.80} do not ascend")
    if any(column.shape != (n_rows,) for column in columns):
        raise ValueError(f"columns of another length than {n_rows} rows")
    width = min(profile.n_features, MAX_FEATURES) if profile.schema.calibration_rows else 0
    if calibration.values.shape != (len(calibration.rows), width):
        raise ValueError(f"a calibration sample of shape {calibration.values.shape}")
    hashes = hash_rows(SEED, calibration.rows)
    if len(hashes) > profile.schema.calibration_rows or (hashes[1:] <= hashes[:-1]).any():
        raise ValueError(f"a calibration sample of {len(hashes)} rows that are too many or not in order")
    features = (profile.n_features,)
    for lane in profile.lanes.values():
        nodes = [node for tree in (lane.tree, *lane.cut.values()) for node in tree.nodes.values()]
        if lane.constant_batches.shape != features or any(node.mean.shape != features for node in nodes):
            raise ValueError(f"moments of another number of features than {profile.n_features}")
        seen = len(lane.records) * lane.batch_size * profile.schema.values_per_row
        seen += sum(tree.count for tree in lane.cut.values())
        batch_of = profile.left_out // lane.batch_size
        seen += int((~np.isin(batch_of, lane.records["index"])).sum()) * profile.schema.values_per_row
        if seen != n_rows * profile.schema.values_per_row:
            raise ValueError(f"batches of size {lane.batch_size} that do not hold {n_rows} rows")
        wanted = None if profile.reference is None else (len(lane.records),)
        if (None if lane.divergences is None else lane.divergences.shape) != wanted:
            raise ValueError(f"divergences of batches of size {lane.batch_size} that do not fit the reference")
    if profile.reference is not None and (profile.reference.mean.shape != features or profile.reference.count < 1):
        raise ValueError("a reference of another number of features or of no values")
    if not profile.lanes:
        raise ValueError("no batch size")


def _complete_batches(spans: Spans, size: int) -> NDArray[np.int64]:
    """Return the numbers of the batches whose rows all lie in the spans."""
    runs = [np.arange(-(-start // size), stop // size, dtype=np.int64) for start, stop in spans]
    return np.concatenate([np.zeros(0, np.int64), *runs])


def _load_lane(tensors: Tensors, size: int, spans: Spans, n_features: int) -> Lane:
    prefix = f"lane.{size}."
    records = np.zeros(len(tensors[prefix + "records.pooled_mean"]), RECORD)
    records["n_varying"] = n_features
    for name in RECORD.names or ():
        if (column := tensors.get(f"{prefix}records.{name}")) is not None:
            if column.shape != records.shape:
                raise ValueError(f"columns of batches of size {size} of different lengths")
            records[name] = column
        elif name not in (*DERIVED, *MAY_BE_ZERO, "n_varying"):
            raise KeyError(f"{prefix}records.{name}")
    batches = _complete_batches(spans, size)
    if batches.shape != records.shape:
        raise ValueError(f"{len(records)} complete batches of size {size} where the spans hold {len(batches)}")
    records["index"] = batches
    records["pooled_variance"] = records["mean_variance"] + records["location_variance"]
    tree = MomentsTree()
    cut: dict[int, MomentsTree] = {}
    for name, pair in tensors.items():
        if name.startswith(prefix + "tree."):
            target, numbers = tree, name.removeprefix(prefix + "tree.").split(".")
        elif name.startswith(prefix + "cut."):
            batch, *numbers = name.removeprefix(prefix + "cut.").split(".")
            target = cut.setdefault(int(batch), MomentsTree())
        else:
            continue
        level, index, count = map(int, numbers)
        mean, m2 = pair
        target.nodes[level, index] = Moments(count, mean, m2)
    return Lane(
        size,
        records,
        dict(sorted(cut.items())),
        tree,
        tensors.get(prefix + "constant_batches", np.zeros(n_features, np.int64)),
        tensors.get(prefix + "divergences"),
    )
