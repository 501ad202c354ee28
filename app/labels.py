"""Labels from a file of their own: one integer a row of the dataset."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor import LabelError, Profile

_NPY = b"\x93NUMPY"
_HEADER = re.compile(r'"?[^\W\d][\w ]*"?')


def read_labels(path: Path) -> NDArray[np.int64]:
    """Return the labels in an npy file, or in a text with one integer a line (a first line of words is skipped).

    A text may come from a pipe, which is read once.

    Raises:
        LabelError: names the file and, in a text, the line.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        begins = stream.read(len(_NPY))
        return _read_npy(path) if begins == _NPY else _read_text(path, begins + stream.read())


def with_labels(profile: Profile, labels: NDArray[np.int64], *, source: Path) -> Profile:
    """Return the profile with these labels, one for each of its rows.

    Raises:
        LabelError: another number of them, or the profile has labels already.
    """
    if profile.labelled:
        raise LabelError(f"expected labels once; the shards have their own y: leave --labels {source} out")
    if len(labels) != profile.n_rows:
        raise LabelError(
            f"expected one label a row, {profile.n_rows}; got {len(labels)} in {source}: "
            "give the labels of exactly these rows"
        )
    return replace(profile, rows=replace(profile.rows, labels=labels))


def _read_npy(path: Path) -> NDArray[np.int64]:
    if not path.is_file():
        raise LabelError(f"expected labels in npy as a file; {path} is none: save them, or send one integer a line")
    try:
        # Mapped first: a header that promises more than the file holds allocates nothing.
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError, SyntaxError) as error:
        raise LabelError(f"expected labels in npy; {path} is not usable: {error}") from error
    if values.ndim != 1 or values.dtype.kind not in "biu":
        raise LabelError(
            f"expected labels of shape (rows,) and an integer dtype; got shape {values.shape}, dtype {values.dtype} "
            f"in {path}: number the classes"
        )
    if values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63:
        raise LabelError(f"expected labels below 2^63; got {int(values.max())} in {path}: number the classes from 0")
    return values.astype(np.int64)


def _read_text(path: Path, content: bytes) -> NDArray[np.int64]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LabelError(f"expected labels as npy or as text with one integer a line; {path} is neither") from error
    while lines and not lines[-1].strip():
        lines.pop()
    skipped = int(bool(lines) and _HEADER.fullmatch(lines[0].strip()) is not None)
    values = np.empty(len(lines) - skipped, np.int64)
    for i, line in enumerate(lines[skipped:]):
        try:
            values[i] = int(line)
        except (ValueError, OverflowError):
            raise LabelError(
                f"expected one integer a line in {path}; got {line!r:.80} in line {i + skipped + 1}: "
                "number the classes and leave other columns out"
            ) from None
    return values
