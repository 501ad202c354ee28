"""The data of the study: families, their kinds and networks, and `load`, which splits, treats and orders one."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import train_test_split

from benchmarks.study import generated
from benchmarks.study.mixtures import Mixture
from benchmarks.study.records import Data
from benchmarks.study.treatments import Rows, fit, standardize

TRAIN, VALIDATION, TEST = 1024, 250, 400
"""At most so many rows; 1024 is a multiple of every batch size of the study."""

NETWORKS = {"flat": ("mlp",), "image": ("mlp", "convnet", "resnet"), "sequence": ("lstm", "mlp")}

Pool = tuple[NDArray[np.float32], NDArray[np.int64]]
"""All samples of a family, (N, *), and their classes from 0, (N,)."""


@dataclass(frozen=True)
class Family:
    """Where a family's samples come from and what they are.

    Attributes:
        kind: "flat", samples (F,); "image", (C, H, W); "sequence", (T, F).
        pool: makes or reads the samples.
    """

    kind: str
    pool: Callable[[], Pool]


def _digits() -> Pool:
    bunch = datasets.load_digits()
    return bunch.images[:, None].astype(np.float32), bunch.target.astype(np.int64)


def _digit_rows() -> Pool:
    samples, classes = _digits()
    return samples[:, 0], classes


def _table(read: Callable[..., Any]) -> Callable[[], Pool]:
    def pool() -> Pool:
        samples, classes = read(return_X_y=True)
        return samples.astype(np.float32), classes.astype(np.int64)

    return pool


def _patches() -> Pool:
    """Return patches of both sample images, at half size; a class is an image and its upper, middle or lower third."""
    samples, classes = [], []
    for number, image in enumerate(datasets.load_sample_images().images):
        half = image[:426].reshape(213, 2, 320, 2, 3).mean(axis=(1, 3))[:208]
        samples.append(half.reshape(26, 8, 40, 8, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 8, 8))
        classes.append(np.repeat(3 * number + np.arange(26) * 3 // 26, 40))
    return np.concatenate(samples).astype(np.float32), np.concatenate(classes)


_FAMILIES: Mapping[str, Family] = {
    "digits": Family("image", _digits),
    "wine": Family("flat", _table(datasets.load_wine)),
    "breast_cancer": Family("flat", _table(datasets.load_breast_cancer)),
    "patches": Family("image", _patches),
    "gaussian": Family("flat", generated.gaussian),
    "textures": Family("image", generated.textures),
    "digit_rows": Family("sequence", _digit_rows),
    "waves": Family("sequence", generated.waves),
}


def names() -> tuple[str, ...]:
    """Return the families that can be loaded here."""
    return tuple(_FAMILIES)


def kind(family: str) -> str:
    """Return "flat", "image" or "sequence"."""
    return _get(family).kind


def networks(family: str) -> tuple[str, ...]:
    """Return the networks that are trained on a family."""
    return NETWORKS[kind(family)]


def fits(family: str, treatment: str, batch_size: int) -> bool:
    """Return whether a family has rows for at least 2 complete batches, and some for each source of a mixture."""
    rows = _sizes(len(_pool(family)[1]))[0]
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
    samples, classes = _pool(family)
    train, validation, test = _split(family, classes, seed)
    if batch_size <= len(train):
        train = train[: len(train) // batch_size * batch_size]
    if treatment == "sorted":
        train = train[np.argsort(classes[train], kind="stable")]

    def flat(rows: NDArray[np.int64]) -> Rows:
        return samples[rows].reshape(len(rows), -1).astype(np.float64)

    def tensors(values: Rows, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        shaped = values.astype(np.float32).reshape(len(rows), *samples.shape[1:])
        return torch.from_numpy(shaped), torch.from_numpy(classes[rows])

    before = (lambda values: values) if treatment == "raw" else standardize(flat(train))
    rows, rng = before(flat(train)), _rng(seed, family, treatment)
    source = np.zeros(len(train), np.int64)
    mixture = Mixture.of(treatment)
    if mixture is not None:
        source = mixture.assign(len(train), batch_size, rng)
        sources = mixture.distort(rows, rng)
    else:
        sources = (fit("standardized" if treatment in ("raw", "sorted") else treatment, rows, rng),)
    for index, transform in enumerate(sources):
        rows[source == index] = transform(rows[source == index])
    x, y = tensors(rows, train)
    held = [tuple(tensors(each(before(flat(part))), part) for each in sources) for part in (validation, test)]
    return Data(x, y, held[0], held[1], int(classes.max()) + 1, torch.from_numpy(source))


def _get(family: str) -> Family:
    try:
        return _FAMILIES[family]
    except KeyError:
        raise ValueError(f"expected a family among {', '.join(names())}, got {family!r}") from None


@cache
def _pool(family: str) -> Pool:
    return _get(family).pool()


def _rng(seed: int, *purpose: str) -> Generator:
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in purpose)])


def _sizes(rows: int) -> tuple[int, int, int]:
    test, validation = min(TEST, rows // 4), min(VALIDATION, rows * 3 // 20)
    return min(TRAIN, rows - test - validation), validation, test


def _split(family: str, classes: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], ...]:
    """Return the rows of training, validation and test, each in a seeded order."""
    rng = _rng(seed, family, "split")
    train, validation, test = _sizes(len(classes))

    def halve(rows: NDArray[np.int64], first: int, second: int) -> list[NDArray[np.int64]]:
        state = int(rng.integers(2**31))
        parts: list[NDArray[np.int64]] = train_test_split(
            rows, train_size=first, test_size=second, stratify=classes[rows], random_state=state
        )
        return parts

    rest, tested = halve(np.arange(len(classes)), train + validation, test)
    trained, validated = halve(rest, train, validation)
    return trained, validated, tested
