"""Plans in columns: as Arrow tables, and as Arrow files that are mapped, so that a plan may be larger than memory.

A file has one record batch, not compressed: `normalize` (one bit a batch), `score` (float64), `cutoff` where cutoffs
differ, and the measure's details; the schema's metadata "normgauge" is the rest of the plan, as JSON. Opening it reads
the metadata only; looking a batch up touches one page a column. Processes that map the same file share its pages.
"""

import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import AssessorError, PlanFormatError, SettingError
from assessor.packed_bits import PackedBits
from assessor.plan import Plan
from assessor.plan_file import (
    SCHEMA,
    check_layout,
    decode_column,
    describe_plan,
    encode_column,
    read_description,
    told_cutoffs,
)

if TYPE_CHECKING:
    import pyarrow

METADATA = b"normgauge"
FIXED = ("normalize", "score", "cutoff")


def arrow_table(plan: Plan) -> "pyarrow.Table":
    """Return the plan's columns as a table; metadata "normgauge" of its schema is the rest of the plan, as JSON.

    Raises:
        SettingError: pyarrow is not installed.
    """
    arrow = _library("to_arrow")
    return arrow.table(
        {name: np.asarray(column) for name, column in plan.to_columns().items()},
        metadata=_metadata(describe_plan(plan)),
    )


def write_plan(plan: Plan, path: str | PathLike[str]) -> None:
    """Write a plan in columns, without a second copy of them in memory.

    Raises:
        SettingError: pyarrow is not installed. OSError: the file cannot be written.
    """
    write_columns(path, *_told(plan))


def dump_columns(plan: Plan, *, stream: bool = False) -> bytes:
    """Return the bytes of the file that `write_plan` writes, or of the same as a stream, which cannot be mapped.

    Raises:
        SettingError: pyarrow is not installed.
    """
    sink = _library("a plan in columns").BufferOutputStream()
    _write(sink, *_told(plan), stream=stream)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _told(plan: Plan) -> tuple[dict[str, Any], dict[str, NDArray[Any] | PackedBits]]:
    """Return a plan's description and columns, as `write_columns` takes them."""
    cutoffs = told_cutoffs(plan)
    description = describe_plan(plan)
    decisions: Any = plan.normalize
    columns: dict[str, NDArray[Any] | PackedBits] = {
        "normalize": decisions if isinstance(decisions, PackedBits) else PackedBits.of(decisions),
        "score": plan.scores,
    }
    if len(cutoffs) == 1:
        description["cutoffs"] = encode_column(cutoffs)
    else:
        columns["cutoff"] = cutoffs
    return description, columns | dict(plan.details)


def write_columns(
    path: str | PathLike[str], description: Mapping[str, Any], columns: Mapping[str, NDArray[Any] | PackedBits]
) -> None:
    """Write columns with what is to be said of them; they may be mapped files themselves.

    Args:
        path: of the file.
        description: `describe_plan`, and "cutoffs", of one number, unless that is a column.
        columns: `normalize` as packed bits, all others float64, of one length.

    Raises:
        SettingError: pyarrow is not installed. OSError: the file cannot be written.
    """
    with _library("a plan in columns").OSFile(os.fspath(path), "wb") as sink:
        _write(sink, description, columns)


def _write(
    sink: Any,
    description: Mapping[str, Any],
    columns: Mapping[str, NDArray[Any] | PackedBits],
    *,
    stream: bool = False,
) -> None:
    arrow = _library("a plan in columns")
    arrays = {}
    for name, column in columns.items():
        if isinstance(column, PackedBits):
            data = arrow.py_buffer(np.ascontiguousarray(column.data))
            arrays[name] = arrow.Array.from_buffers(arrow.bool_(), len(column), [None, data])
        else:
            data = arrow.py_buffer(np.ascontiguousarray(column, np.float64))
            arrays[name] = arrow.Array.from_buffers(arrow.float64(), len(column), [None, data])
    batch = arrow.RecordBatch.from_pydict(arrays, metadata=_metadata(description))
    with (arrow.ipc.new_stream if stream else arrow.ipc.new_file)(sink, batch.schema) as writer:
        writer.write_batch(batch)


class MappedPlan(Plan):
    """A plan whose columns are a file's; pickled as the file's name, so that other processes map the same file."""

    def __reduce__(self) -> Any:
        """Return how to open the file again; a plan made from this one is pickled as any other."""
        file = self.__dict__.get("_file")
        return (_open_again, file) if file is not None else super().__reduce__()


def open_plan(path: str | PathLike[str]) -> Plan:
    """Return the plan in a file that `write_plan` wrote; its columns are mapped, and read where they are used.

    The time does not depend on the number of batches. That each decision follows from its score is not checked.

    Raises:
        PlanFormatError: it holds no such plan. SettingError: pyarrow is not installed. OSError: it cannot be read.
    """
    arrow = _library("a plan in columns")
    place = Path(path).resolve()
    try:
        with arrow.ipc.open_file(arrow.memory_map(str(place))) as reader:
            if reader.num_record_batches != 1:
                raise ValueError(f"{reader.num_record_batches} record batches, where one is expected")
            before = arrow.total_allocated_bytes()
            batch = reader.get_batch(0)
            if arrow.total_allocated_bytes() - before > place.stat().st_size // 2 + (1 << 20):
                raise ValueError("compressed columns, which cannot be mapped")
        batch.validate()
        told = json.loads((batch.schema.metadata or {})[METADATA])
        if told["schema"] != SCHEMA:
            raise PlanFormatError(
                f"expected a plan of schema {SCHEMA}; got {told['schema']!r:.80}: make the plan again"
            )
        plan = _build(arrow, batch, told)
        check_layout(plan)
    except FileNotFoundError:
        raise
    except AssessorError as error:
        raise PlanFormatError(f"expected a consistent plan in {place}: {error}") from error
    except (arrow.ArrowException, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise PlanFormatError(
            f"expected a plan in columns, schema {SCHEMA}, in {place}; {type(error).__name__}: {error!s:.200}"
        ) from error
    if plan.fingerprint != told["fingerprint"]:
        raise PlanFormatError(
            f"expected fingerprint {plan.fingerprint}; {place} says {told['fingerprint']!r:.100}: it was altered"
        )
    object.__setattr__(plan, "_file", (str(place), _identity(place)))
    return plan


def _build(arrow: Any, batch: Any, told: dict[str, Any]) -> Plan:
    columns: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        wanted = arrow.bool_() if name == "normalize" else arrow.float64()
        if column.type != wanted or column.null_count or column.offset:
            raise ValueError(f"column {name!r:.80} of type {column.type}, where {wanted} without nulls is expected")
        data = column.buffers()[1]
        if name == "normalize":
            columns[name] = PackedBits(np.frombuffer(data, np.uint8), len(column))
        else:
            columns[name] = np.frombuffer(data, np.float64, len(column))
    scores = columns["score"]
    cutoffs = (
        columns["cutoff"] if "cutoff" in columns else np.broadcast_to(decode_column(told["cutoffs"]), scores.shape)
    )
    return MappedPlan(
        **read_description(told),
        scores=scores,
        cutoffs=cutoffs,
        normalize=columns["normalize"],
        details={name: column for name, column in columns.items() if name not in FIXED},
    )


def _open_again(path: str, identity: tuple[int, int, int]) -> Plan:
    if _identity(Path(path)) != identity:
        raise PlanFormatError(f"expected the plan in {path} as it was; it was written over: open it again")
    return open_plan(path)


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _metadata(description: Mapping[str, Any]) -> dict[bytes, str]:
    return {METADATA: json.dumps(dict(description), allow_nan=False, separators=(",", ":"))}


def _library(what: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise SettingError(f"expected pyarrow for {what}; run: pip install 'normgauge[formats]'") from error
    return pyarrow
