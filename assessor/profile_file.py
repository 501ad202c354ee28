"""Profiles as bytes: a safetensors file with a versioned header. Never pickle."""

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
from assessor.profile import Profile, Schema
from assessor.rows import RowTable

SCHEMA = "normgauge.profile/1"
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
            tensors[f"lane.{size}.records.{name}"] = np.ascontiguousarray(lane.records[name])
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
    if known != SCHEMA:
        raise FormatError(f"expected a profile of schema {SCHEMA}; got {known!r:.80}: profile the data again")
    try:
        profile = _build(header, tensors)
        _check(profile)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise FormatError(f"expected a consistent profile; {type(error).__name__}: {error}") from error
    return profile


def _build(header: dict[str, Any], tensors: Tensors) -> Profile:
    schema = Schema(tuple(header["sample_shape"]), header["feature_axis"], header["calibration_rows"])
    rows = RowTable(
        tuple((start, stop) for start, stop in header["spans"]),
        tensors["rows.means"],
        tensors.get("rows.border_means"),
        tensors.get("rows.labels"),
    )
    calibration = Calibration(schema.calibration_rows, tensors["calibration.rows"], tensors["calibration.values"])
    lanes = {size: _load_lane(tensors, size) for size in header["batch_sizes"]}
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


def _load_lane(tensors: Tensors, size: int) -> Lane:
    prefix = f"lane.{size}."
    records = np.zeros(len(tensors[prefix + "records.index"]), RECORD)
    for name in RECORD.names or ():
        records[name] = tensors[f"{prefix}records.{name}"]
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
        tensors[prefix + "constant_batches"],
        tensors.get(prefix + "divergences"),
    )
