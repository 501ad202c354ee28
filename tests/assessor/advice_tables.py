"""Tables of a study with planted effects, for tests of the advisor."""

from itertools import product

import numpy as np

from assessor.advice import Cell, Table

CHOICES = ("none", "scale", "standardize", "batch", "layer", "need/identity@input")


def planted_effect(name: str, parts: dict[str, float], batch_size: int) -> float:
    """Return the true effect of a choice: by whether there is need, and whether batches are unlike each other."""
    rest = parts["feature"] + parts["drift"]
    need, left = (x**2 / (1 + x**2) for x in (parts["global"] + rest, rest))
    limit = max(0.1, 3 * {4: 0.3283, 16: 0.0656, 64: 0.0158}[batch_size])
    unlike = parts["drift"] ** 2 / (limit**2 + parts["drift"] ** 2)
    return {
        "none": 0.0,
        "scale": 0.08 * (need - left),
        "standardize": 0.10 * need - 0.08 * unlike - 0.002,
        "batch": 0.07 * need - 0.4 / batch_size,
        "layer": 0.04 * need - 0.003,
        "need/identity@input": 0.12 * unlike - 0.004,
    }[name]


def planted(*, noise: float = 0.004, seeds: int = 4, families: int = 3, width: float = 0.12) -> Table:
    """Return a table of 36 cells a family; effects are the planted ones with noise."""
    rng = np.random.default_rng(5)
    cells = []
    for family in range(families):
        for network, size, (overall, feature, drift) in product(
            ("mlp", "convnet"), (4, 16, 64), ((0, 0, 0), (3, 0, 0), (0, 3, 0), (0, 0, 3), (3, 3, 0), (1, 1, 1))
        ):
            near = rng.uniform(0.9, 1.1)
            parts = {"global": overall * near, "feature": feature * near, "drift": drift * near}
            effects = {}
            for name in CHOICES:
                noises = rng.normal(0, 0.0 if name == "none" else noise, seeds)
                effects[name] = tuple(map(float, planted_effect(name, parts, size) + noises))
            cells.append(Cell(f"family{family}", f"t{overall}{feature}{drift}", network, size, "sgd", parts, effects))
    return Table(tuple(cells), width, 0.05, "2026-01-02T03:04:05Z", {"seeds": list(range(seeds))})
