"""Good shards of every format, as their own libraries write them: what the fuzzer begins with."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


def npy(x: Array) -> bytes:
    """Return an array as numpy.save writes it."""
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


def npz(compressed: bool = False, **arrays: Array) -> bytes:
    """Return arrays as numpy.savez writes them."""
    stream = io.BytesIO()
    if compressed:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for allow_pickle
    else:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # as above
    return stream.getvalue()


def table(x: Array, y: Array | None = None, *, lists: str = "") -> pyarrow.Table:
    """Return rows as a table: a column a feature, or one column of lists ("fixed", "list", "tensor")."""
    if lists == "tensor":
        columns: dict[str, Any] = {"x": pyarrow.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x))}
    elif lists:
        kind = pyarrow.from_numpy_dtype(x.dtype)
        size = x.shape[1] if lists == "fixed" else -1
        columns = {"x": pyarrow.array(list(x), pyarrow.list_(kind, size))}
    else:
        columns = {f"f{k}": pyarrow.array(column) for k, column in enumerate(x.T)}
    return pyarrow.table(columns if y is None else {**columns, "label": pyarrow.array(y)})


def arrow(rows: pyarrow.Table, *, batch_rows: int = 4, compression: str | None = None, file: bool = False) -> bytes:
    """Return a table as an Arrow IPC stream or file."""
    stream = io.BytesIO()
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    make = pyarrow.ipc.new_file if file else pyarrow.ipc.new_stream
    with make(stream, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=batch_rows)
    return stream.getvalue()


def parquet(rows: pyarrow.Table, **options: Any) -> bytes:
    """Return a table as Parquet."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(rows, stream, **options)
    return stream.getvalue()


def csv_text(x: Array, y: Array | None = None, *, names: bool = True) -> bytes:
    """Return rows as the csv module writes them."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    if names:
        writer.writerow([*(f"f{k}" for k in range(x.shape[1])), *([] if y is None else ["y"])])
    for k, row in enumerate(x.tolist()):
        writer.writerow([*row, *([] if y is None else [int(y[k])])])
    return stream.getvalue().encode()


def ndjson(x: Array, y: Array) -> bytes:
    """Return rows as one record a line."""
    return b"".join(json.dumps({"x": a.tolist(), "y": int(b)}).encode() + b"\n" for a, b in zip(x, y, strict=True))


def picture(values: Array, kind: str = "PNG") -> bytes:
    """Return an array (height, width[, channels]) as a picture file."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def tar(members: Mapping[str, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return members as tarfile writes them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()[: 512 * (-(-len(stream.getvalue().rstrip(b"\0")) // 512) + 2)]


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return members as a zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def seeds() -> dict[str, list[bytes]]:
    """Return some small shards of each format."""
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(6, 3)).astype(np.float32), np.arange(6) % 2
    pixels = rng.integers(0, 256, (2, 4, 5, 3), np.uint8)
    flat, fixed, lists = table(x, y), table(x, y, lists="fixed"), table(x, y, lists="list")
    kinds = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
    pictures = [{"a.cls": b"1", f"a.{k.lower()}": picture(pixels[0], k)} for k in kinds]
    return {
        "npy": [npy(x), npy(x.astype(np.float16))],
        "safetensors": [safetensors.numpy.save({"x": x, "y": y}), safetensors.numpy.save({"x": x})],
        "npz": [npz(x=x, y=y), npz(compressed=True, x=x, y=y), npz(x=x)],
        "arrow": [arrow(flat), arrow(fixed), arrow(lists, compression="zstd"), arrow(flat, compression="lz4")],
        "arrow_file": [arrow(flat, file=True), arrow(lists, file=True), arrow(fixed, file=True, compression="lz4")],
        "parquet": [
            parquet(flat),
            parquet(fixed, compression="zstd"),
            parquet(lists, use_dictionary=False, data_page_version="2.0"),
            parquet(flat, use_dictionary=False, compression="gzip", row_group_size=2),
        ],
        "csv": [csv_text(x, y), csv_text(x, names=False)],
        "ndjson": [ndjson(x, y), b'{"a": 1, "b": 2.5}\n{"b": -2e3, "a": 0}\n', b"[1, 2]\n[3, 4]\n"],
        "json": [json.dumps({"x": x.tolist(), "y": y.tolist()}).encode(), json.dumps(x.tolist()).encode()],
        "webdataset": [
            *(tar(members) for members in pictures),
            tar({"s/0.npy": npy(x), "s/0.cls": b"0", "s/0.json": b"{}", "s/1.npy": npy(x), "s/1.cls": b"1"}),
            tar({"long/" * 30 + "0.npy": npy(x)}, tarfile.PAX_FORMAT),
            tar({"long/" * 30 + "0.npy": npy(x)}, tarfile.GNU_FORMAT),
        ],
    }
