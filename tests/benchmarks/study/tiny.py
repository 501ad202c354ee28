"""A problem that every network learns in a few steps: three classes, each a pattern beside noise."""

import torch

from benchmarks.study.records import Data

SHAPES = {"mlp": (12,), "convnet": (1, 8, 8), "resnet": (1, 8, 8), "lstm": (4, 6)}


def tiny(shape: tuple[int, ...], *, spread: float = 1.0, sources: int = 1, rows: int = 96, seed: int = 0) -> Data:
    """Return the problem; every other batch of 8 comes from another source: times `spread`, and far off zero."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(3, *shape, generator=generator)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.randint(0, 3, (count,), generator=generator)
        return patterns[y] + 0.5 * torch.randn(count, *shape, generator=generator), y

    x, y = draw(rows)
    batch = torch.arange(rows) // 8
    factor = torch.where(batch % 2 == 1, spread, 1.0).reshape(-1, *[1] * len(shape))
    offset = 10 * (factor - 1)
    parts = []
    for scale in (1.0, spread)[:sources] * 2:
        test, classes = draw(61)
        parts.append((test * scale + 10 * (scale - 1), classes))
    source = batch % 2 if sources == 2 else torch.zeros(rows, dtype=torch.int64)
    return Data(x * factor + offset, y, tuple(parts[:sources]), tuple(parts[sources:]), 3, source)
