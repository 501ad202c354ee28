"""The data of the study: families, their kinds and networks, and `load`, which splits, treats and orders one."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from sklearn import datasets

from benchmarks.study import files, generated, pools
from benchmarks.study.mixtures import Mixture
from benchmarks.study.pools import Pool
from benchmarks.study.records import Data
from benchmarks.study.splits import Indices, sizes, split
from benchmarks.study.treatments import Rows, fit, standardize

NETWORKS = {"flat": ("mlp",), "image": ("mlp", "convnet", "resnet"), "sequence": ("lstm", "mlp")}
"""Trained on each kind of samples."""


@dataclass(frozen=True)
class Family:
    """Where a family's samples come from and what they are.

    Attributes:
        kind: "flat", samples (F,); "image", (C, H, W); "sequence", (T, F).
        pool: makes or reads the samples.
    """

    kind: str
    pool: Callable[[], Pool]


_FAMILIES: Mapping[str, Family] = {
    "digits": Family("image", pools.digits),
    "wine": Family("flat", pools.table(datasets.load_wine)),
    "breast_cancer": Family("flat", pools.table(datasets.load_breast_cancer)),
    "patches": Family("image", pools.patches),
    "gaussian": Family("flat", generated.gaussian),
    "textures": Family("image", generated.textures),
    "digit_rows": Family("sequence", pools.digit_rows),
    "waves": Family("sequence", generated.waves),
}


def names() -> tuple[str, ...]:
    """Return the families that can be loaded here: those of this file, and those whose files are on disk."""
    return (*_FAMILIES, *files.found(files.root()))


def kind(family: str) -> str:
    """Return "flat", "image" or "sequence"."""
    _check(family)
    return _FAMILIES[family].kind if family in _FAMILIES else "image"


def networks(family: str) -> tuple[str, ...]:
    """Return the networks that are trained on a family."""
    return NETWORKS[kind(family)]


def fits(family: str, treatment: str, batch_size: int) -> bool:
    """Return whether a family has rows for at least 2 complete batches, and some for each source of a mixture."""
    pool = _pool(family)
    rows = sizes(len(pool.classes), pool.held_out)[0]
    rows -= rows % batch_size
    mixture = Mixture.of(treatment)
    return rows >= 2 * batch_size and (mixture is None or int(mixture.counts(rows, batch_size).min()) > 0)


def load(family: str, treatment: str, seed: int, batch_size: int) -> Data:
    """Return a family under a treatment; the same arguments give the same bits.

    The split is drawn from family and seed alone, stratified by class, so that all treatments meet the same rows.
    Every treatment but `raw` starts from features standardized over the training rows that are kept: a multiple of
    the batch size, where there are that many.

    Args:
        family: one of `names()`.
        treatment: one of `treatments.treatments()` or another of their form.
        seed: of split, treatment and order.
        batch_size: samples a batch, 1 or more; it decides which rows are kept and, in mixtures, how sources lie.

    Raises:
        ValueError: no such family or treatment, or too few rows for the mixture's sources.
    """
    pool = _pool(family)
    samples, classes = pool.samples, pool.classes
    train, validation, test = split(classes, _rng(seed, family, "split"), pool.held_out)
    if batch_size <= len(train):
        train = train[: len(train) // batch_size * batch_size]
    if treatment == "sorted":
        train = train[np.argsort(classes[train], kind="stable")]

    def flat(rows: Indices) -> Rows:
        return samples[rows].reshape(len(rows), -1).astype(np.float64)

    def tensors(values: Rows, rows: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        shaped = values.astype(np.float32).reshape(len(rows), *samples.shape[1:])
        return torch.from_numpy(shaped), torch.from_numpy(classes[rows])

    rows, rng = flat(train), _rng(seed, family, treatment)
    before = fit("raw", rows, rng) if treatment == "raw" else standardize(rows)
    rows = before(rows)
    source = np.zeros(len(train), np.int64)
    mixture = Mixture.of(treatment)
    if mixture is not None:
        source = mixture.assign(len(train), batch_size, rng)
        sources = mixture.distort(rows, rng)
    else:
        sources = (fit(treatment, rows, rng),)
    for index, transform in enumerate(sources):
        rows[source == index] = transform(rows[source == index])
    x, y = tensors(rows, train)

    def versions(part: Indices) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        values = before(flat(part))
        return tuple(tensors(transform(values), part) for transform in sources)

    return Data(x, y, versions(validation), versions(test), int(classes.max()) + 1, torch.from_numpy(source))


def _check(family: str) -> None:
    if family not in _FAMILIES and family not in names():
        raise ValueError(
            f"expected a family among {', '.join(names())}, got {family!r}; {', '.join(files.PLACES)} take part when "
            f"{files.VARIABLE} names a folder with their files"
        )


def _pool(family: str) -> Pool:
    _check(family)
    return _read(files.root(), family)


@cache
def _read(folder: Path | None, family: str) -> Pool:
    """Return a family's samples, made or read once a process and folder."""
    return _FAMILIES[family].pool() if family in _FAMILIES or folder is None else files.read(folder, family)


def _rng(seed: int, *purpose: str) -> Generator:
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in purpose)])
