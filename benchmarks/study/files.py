"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from files on disk, in the forms in which they are distributed.

Nothing is fetched: the folder that NORMGAUGE_STUDY_DATA names holds one folder a dataset, under one of the names in
`PLACES` (those of the archives, or torchvision's). A dataset takes part when all its files are there.
"""

import gzip
import math
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.study.pickles import read_pickle
from benchmarks.study.pools import Pool

VARIABLE = "NORMGAUGE_STUDY_DATA"

PLACES = {
    "mnist": ("mnist", "MNIST", "MNIST/raw"),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("cifar-10-batches-py", "cifar-10-batches-bin"),
    "cifar100": ("cifar-100-python", "cifar-100-binary"),
}
"""Folders in which each dataset is looked for, in this order."""

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Samples (N, C, H, W) and classes (N,) of one file or pair of files."""


def root() -> Path | None:
    """Return the folder of datasets; None where none is named.

    Raises:
        NotADirectoryError: the variable names something that is no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise NotADirectoryError(f"expected {VARIABLE} to name a folder, got {named!r}: make it, or unset the variable")
    return folder


def found(folder: Path | None) -> tuple[str, ...]:
    """Return which datasets are complete in a folder; of None, none."""
    return () if folder is None else tuple(name for name in PLACES if any(_complete(folder, name)))


def read(folder: Path, name: str) -> Pool:
    """Return a dataset, its test files last.

    Raises:
        FileNotFoundError: no place holds all its files.
        ValueError: a file is not what its format says.
    """
    for files, reader in _complete(folder, name):
        parts = [reader(*each) for each in files]
        samples, classes = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
        return Pool(samples, classes.astype(np.int64), held_out=len(parts[-1][1]))
    raise FileNotFoundError(f"expected all files of {name} in one of {', '.join(PLACES[name])} under {folder}")


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file, gzip or not, as an array of `axes` axes.

    Format: two zero bytes, the type (8: unsigned bytes), the number of axes, their sizes as big-endian 32-bit
    integers, the values.

    Raises:
        ValueError: another type or number of axes, or values missing or left over.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
            if head[:4] != bytes((0, 0, 8, axes)) or len(head) < 4 + 4 * axes:
                raise ValueError(
                    f"{path}: expected an IDX file of bytes with {axes} axes, got first bytes {head[:4]!r}"
                )
            shape = tuple(int(size) for size in np.frombuffer(head, ">u4", offset=4))
            expected = math.prod(shape)
            # Deflate packs 1032 to 1 at most; asking for more than that would only allocate it.
            possible = min(expected, 1032 * path.stat().st_size)
            values = file.read(possible + 1)  # one more than promised shows a surplus
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: expected a whole gzip file, got: {error}; fetch it again") from error
    if len(values) != expected:
        got = "more" if len(values) > expected else len(values)
        raise ValueError(f"{path}: expected {expected} values for shape {shape}, got {got}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def read_binary(path: Path, labels: int) -> Part:
    """Return a CIFAR file in binary form: `labels` bytes, of which the first is taken, and 3072 of pixels a record.

    Raises:
        ValueError: the file is empty or not a whole number of records.
    """
    values, record = np.frombuffer(path.read_bytes(), np.uint8), labels + 3072
    if len(values) == 0 or len(values) % record:
        raise ValueError(f"{path}: expected records of {record} bytes, got {len(values)} bytes")
    records = values.reshape(-1, record)
    return records[:, labels:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def read_python(path: Path, key: bytes) -> Part:
    """Return a CIFAR file in Python form, its classes those under `key`.

    Raises:
        ValueError: not a pickle of plain values and byte arrays, or not a CIFAR file's entries.
    """
    body = read_pickle(path)
    pixels, classes = (body.get(b"data"), body.get(key)) if isinstance(body, dict) else (None, None)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise ValueError(f"{path}: expected pixels under 'data', (N, 3072), got {getattr(pixels, 'shape', pixels)!r}")
    if not isinstance(classes, list) or not all(type(one) is int and 0 <= one < 256 for one in classes):
        raise ValueError(
            f"{path}: expected a list of whole numbers under {key.decode()!r}, got {type(classes).__name__}"
        )
    if len(classes) != len(pixels):
        raise ValueError(f"{path}: expected a class for each of {len(pixels)} images, got {len(classes)}")
    return pixels.reshape(-1, 3, 32, 32), np.array(classes, np.int64)


def _read_idx_pair(images: Path, labels: Path) -> Part:
    samples, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(samples) != len(classes):
        raise ValueError(f"{labels}: expected a class for each of {len(samples)} images, got {len(classes)}")
    return samples[:, None], classes.astype(np.int64)


def _complete(folder: Path, name: str) -> Iterator[tuple[list[tuple[Path, ...]], Callable[..., Part]]]:
    """Yield the files of a dataset, those of tests last, and what reads them, for each place that has them all."""
    for place in PLACES[name]:
        files, reader = _layout(folder / place, name)
        paths = [tuple(_existing(path) for path in each) for each in files]
        if all(path is not None for each in paths for path in each):
            yield [tuple(path for path in each if path is not None) for each in paths], reader


def _layout(place: Path, name: str) -> tuple[list[tuple[Path, ...]], Callable[..., Part]]:
    if name in ("mnist", "fashion_mnist"):
        pair = ("images-idx3", "labels-idx1")
        return [tuple(place / f"{part}-{what}-ubyte" for what in pair) for part in ("train", "t10k")], _read_idx_pair
    binary = not place.name.endswith(("-py", "-python"))
    stems = ["train", "test"] if name == "cifar100" else [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    files: list[tuple[Path, ...]] = [(place / f"{stem}{'.bin' if binary else ''}",) for stem in stems]
    # Of CIFAR-100 the 20 coarse classes, which come first in a record: the study's 1024 training rows would hold 10 of
    # each of the 100 fine ones.
    if binary:
        return files, lambda path: read_binary(path, 2 if name == "cifar100" else 1)
    return files, lambda path: read_python(path, b"coarse_labels" if name == "cifar100" else b"labels")


def _existing(path: Path) -> Path | None:
    zipped = path.with_name(path.name + ".gz")
    return path if path.is_file() else zipped if path.name.endswith("-ubyte") and zipped.is_file() else None
