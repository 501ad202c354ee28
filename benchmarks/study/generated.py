"""The study's generated families: each makes the same pool of samples every time, drawn from a seed of its own."""

import numpy as np

from benchmarks.study.pools import Pool

POOL = 2048
"""Samples of a generated family, from which every split draws."""


def gaussian() -> Pool:
    """Return 6 classes of two normal clusters each, in 8 of 32 directions: samples (POOL, 32)."""
    rng = np.random.default_rng(8001)
    classes = rng.integers(0, 6, POOL)
    centres = rng.normal(0.0, 1.5, (6, 2, 8))
    hidden = rng.normal(size=(POOL, 32))
    hidden[:, :8] += centres[classes, rng.integers(0, 2, POOL)]
    # A rotation, so that no feature alone tells the classes, then units that differ as in measured tables.
    rotation, _ = np.linalg.qr(rng.normal(size=(32, 32)))
    units = np.exp(rng.normal(0.0, 0.3, 32))
    samples = (hidden @ rotation) * units + rng.normal(0.0, 0.3, 32)
    return Pool(samples, classes.astype(np.int64))


def textures() -> Pool:
    """Return gratings of 4 directions and 2 wavelengths, any phase: (POOL, 3, 8, 8) about 0.5, 8 classes."""
    rng = np.random.default_rng(8002)
    classes = rng.integers(0, 8, POOL)
    angle = np.pi / 4 * (classes % 4) + rng.normal(0.0, 0.1, POOL)
    frequency = 2 * np.pi / np.where(classes < 4, 6.0, 3.0)
    rows, columns = np.mgrid[0:8, 0:8]
    along = np.cos(angle)[:, None, None] * columns + np.sin(angle)[:, None, None] * rows
    wave = np.sin(frequency[:, None, None] * along + rng.uniform(0, 2 * np.pi, POOL)[:, None, None])
    contrast = rng.uniform(0.15, 0.4, (POOL, 1, 1, 1)) * rng.uniform(0.5, 1.0, (POOL, 3, 1, 1))
    brightness = rng.uniform(0.3, 0.7, (POOL, 1, 1, 1)) + rng.normal(0.0, 0.05, (POOL, 3, 1, 1))
    samples = brightness + contrast * wave[:, None] + rng.normal(0.0, 0.2, (POOL, 3, 8, 8))
    return Pool(samples, classes.astype(np.int64))


def waves() -> Pool:
    """Return sequences of 16 steps, 4 features: 3 frequencies, led by either end: (POOL, 16, 4), 6 classes."""
    rng = np.random.default_rng(8003)
    classes = rng.integers(0, 6, POOL)
    frequency = 2 * np.pi * np.array([1.0, 1.7, 2.6])[classes % 3] / 16 * rng.uniform(0.92, 1.08, POOL)
    lag = np.where(classes < 3, 1.0, -1.0) * rng.uniform(0.4, 0.9, POOL)
    phase = frequency[:, None, None] * np.arange(16)[:, None] + lag[:, None, None] * np.arange(4)
    phase += rng.uniform(0, 2 * np.pi, (POOL, 1, 1))
    size = np.array([0.5, 1.0, 2.0, 4.0]) * rng.uniform(0.7, 1.3, (POOL, 1, 1))
    samples = size * (np.sin(phase) + rng.normal(0.0, 1.0, (POOL, 16, 4)) + np.array([0.0, 1.0, 0.0, -0.5]))
    return Pool(samples, classes.astype(np.int64))
