"""Writes small files in the formats of MNIST and CIFAR, byte by byte, as their makers' programs did."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def idx(values: Bytes) -> bytes:
    """Return an IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def python2_pickle(pixels: Bytes, classes: list[int], key: bytes = b"labels", dtype: bytes = b"u1") -> bytes:
    """Return what cPickle of Python 2 writes, protocol 2, of {"batch_label", key, "data", "filenames"}."""

    def text(value: bytes) -> bytes:
        return (
            b"U" + struct.pack("B", len(value)) + value
            if len(value) < 256
            else b"T" + struct.pack("<i", len(value)) + value
        )

    def numbers(values: list[int]) -> bytes:
        return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"

    empty = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nq\x03" + text(dtype) + b"K\x00K\x01\x87R"
    kind += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(b"J" + struct.pack("<i", size) for size in pixels.shape) + b"\x86"
    array = empty + b"(K\x01" + shape + kind + b"\x89" + text(pixels.tobytes()) + b"tb"
    names = b"](" + b"".join(text(b"image_%d.png" % number) for number in range(len(pixels))) + b"e"
    entries = text(b"batch_label") + text(b"a small batch") + text(key) + numbers(classes)
    return b"\x80\x02}q\x00(" + entries + text(b"data") + array + text(b"filenames") + names + b"u."


def images(rows: int, shape: tuple[int, ...], seed: int, classes: int = 10) -> tuple[Bytes, Bytes]:
    """Return random images (rows, *shape) and a class for each, all classes present."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, *shape), np.uint8), (np.arange(rows) % classes).astype(np.uint8)


def write_mnist(folder: Path, zipped: bool = False, seed: int = 0) -> list[tuple[Bytes, Bytes]]:
    """Write the four files of 120 training and 40 test images; return what they hold."""
    folder.mkdir(parents=True)
    parts = [images(120, (28, 28), seed), images(40, (28, 28), seed + 1)]
    for part, (samples, classes) in zip(("train", "t10k"), parts, strict=True):
        for what, values in (("images-idx3", samples), ("labels-idx1", classes)):
            path = folder / f"{part}-{what}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    return parts


def write_cifar10(folder: Path, binary: bool) -> list[tuple[Bytes, Bytes]]:
    """Write five files of 30 training images and one of 30 test images; return what they hold."""
    folder.mkdir(parents=True)
    parts = [images(30, (3072,), number) for number in range(6)]
    for stem, (pixels, classes) in zip([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], parts, strict=True):
        records = np.concatenate([classes[:, None], pixels], axis=1).tobytes()
        path = folder / (f"{stem}.bin" if binary else stem)
        path.write_bytes(records if binary else python2_pickle(pixels, classes.tolist()))
    return parts


def write_cifar100(folder: Path, binary: bool) -> list[tuple[Bytes, Bytes]]:
    """Write files of 160 training and 60 test images; return what they hold, with their coarse classes."""
    folder.mkdir(parents=True)
    parts = [images(160, (3072,), 1, classes=20), images(60, (3072,), 2, classes=20)]
    for stem, (pixels, coarse) in zip(("train", "test"), parts, strict=True):
        fine = (99 - coarse).astype(np.uint8)
        records = np.concatenate([coarse[:, None], fine[:, None], pixels], axis=1).tobytes()
        path = folder / (f"{stem}.bin" if binary else stem)
        path.write_bytes(records if binary else python2_pickle(pixels, coarse.tolist(), b"coarse_labels"))
    return parts
