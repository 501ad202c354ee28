"""Profiles as bytes: a safetensors file with a versioned header. Never pickle.

What follows from the rest is left out: the number of a batch (from the spans), the pooled variance (the sum of the
mean variance and the location variance, to the bit), columns that are zero throughout, and the number of varying
features where it is that of all. Version 1 held them, and is still read.
"""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from assessor.batches import RECORD, Lane
from assessor.calibration import MAX_FEATURES, Calibration
from assessor.errors import FormatError
from assessor.moments import Moments, MomentsTree
from assessor.profile import NONFINITE, Profile, Schema
from assessor.rows import RowTable, Spans

SCHEMA, EARLIER = "normgauge.profile/2", "normgauge.profile/1"
MAY_BE_ZERO = ("constant_second_moment", "constant_second_moment_low")
DERIVED = ("index", "pooled_variance")
Tensors = dict[str, NDArray[Any]]


def dump_profile(profile: Profile) -> bytes:
    """Return the profile as safetensors bytes; equal profiles give equal bytes."""
    tensors: Tensors = {"rows.means": profile.rows.means}
    if profile.rows.border_means is not None:
        tensors["rows.border_means"] = profile.rows.border_means
    if profile.rows.labels is not None:
        tensors["rows.labels"] = profile.rows.labels
    tensors["calibration.rows"] = profile.calibration.rows
    tensors["calibration.values"] = profile.calibration.values
    if profile.reference is not None:
        name = f"reference.{profile.reference.count}"
        tensors[name] = np.stack([profile.reference.mean, profile.reference.m2])
    for size, lane in profile.lanes.items():
        if lane.divergences is not None:
            tensors[f"lane.{size}.divergences"] = lane.divergences
        for name in RECORD.names or ():
            column = lane.records[name]
            zero = name in MAY_BE_ZERO and not column.any() and not np.signbit(column).any()
            if name not in DERIVED and not zero and not (name == "n_varying" and (column == profile.n_features).all()):
                tensors[f"lane.{size}.records.{name}"] = np.ascontiguousarray(column)
        if lane.constant_batches.any():
            tensors[f"lane.{size}.constant_batches"] = lane.constant_batches
        _dump_tree(tensors, f"lane.{size}.tree", lane.tree)
        for batch, tree in lane.cut.items():
            _dump_tree(tensors, f"lane.{size}.cut.{batch}", tree)
    header = {
        "schema": SCHEMA,
        "sample_shape": profile.sample_shape,
        "feature_axis": profile.feature_axis,
        "calibration_rows": profile.schema.calibration_rows,
        "dtypes": profile.dtypes,
        "batch_sizes": profile.batch_sizes,
        "spans": profile.spans,
        "nonfinite": profile.schema.nonfinite,
    }
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())},
        {"normgauge": json.dumps(header, sort_keys=True)},
    )


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
    if known not in (SCHEMA, EARLIER):
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
        header["nonfinite"] if header["schema"] == SCHEMA else "raise",
    )
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
    calibration = Calibration(schema.calibration_rows, tensors["calibration.rows"], tensors["calibration.values"])
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


def _dump_tree(tensors: Tensors, prefix: str, tree: MomentsTree) -> None:
    for (level, index), moments in tree.nodes.items():
        name = f"{prefix}.{level}.{index}.{moments.count}"
        tensors[name] = np.stack([moments.mean, moments.m2])


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
