"""What the study measured, as the advisor needs it: a small file of JSON, schema `normgauge.advice/1`.

A cell is a dataset under a treatment, a network, a batch size and an optimizer. Of each the table has the parts of the
need, and per choice and seed the test accuracy less that of doing nothing with the same seed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import PlanFormatError
from assessor.moments import Floats
from assessor.noise import drift_limit, noise

SCHEMA = "normgauge.advice/1"
PARTS = ("global", "feature", "drift")
DECIMALS = 4


@dataclass(frozen=True)
class Cell:
    """One cell of the study.

    Attributes:
        family, treatment: of the data.
        network: one of `NETWORKS`.
        batch_size: samples a batch.
        optimizer: with which all choices were trained.
        parts: "global", "feature", "drift" of `need`, in nats, mean over seeds.
        effects: by choice, per seed: test accuracy (0 to 1) less that of doing nothing.
    """

    family: str
    treatment: str
    network: str
    batch_size: int
    optimizer: str
    parts: Mapping[str, float]
    effects: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Table:
    """What the study measured; the order of the cells does not matter.

    Attributes:
        cells: sorted by what they are of.
        width: of the kernel that weighs cells by distance, see `assessor.advice.estimate`.
        shrinkage: the weight of all cells together, in cells at distance 0.
        date: of the last measurement, ISO 8601; "" where not known.
        settings: of the study, for people: steps, seeds, versions.
    """

    cells: tuple[Cell, ...]
    width: float
    shrinkage: float
    date: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.shrinkage > 0):
            raise ValueError(f"width {self.width} and shrinkage {self.shrinkage} must be above 0")
        object.__setattr__(self, "cells", tuple(sorted(self.cells, key=_key)))

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """Names of the choices that some cell has, sorted."""
        return tuple(sorted({name for cell in self.cells for name in cell.effects}))

    @cached_property
    def effects(self) -> Floats:
        """Mean effect over seeds, shape (cells, choices); NaN where a cell lacks a choice."""
        values = np.full((len(self.cells), len(self.choices)), np.nan)
        for i, cell in enumerate(self.cells):
            for j, name in enumerate(self.choices):
                if name in cell.effects:
                    values[i, j] = np.mean(cell.effects[name])
        return values

    @cached_property
    def places(self) -> Floats:
        """Where the cells lie, see `place_of`, shape (cells, 4)."""
        return np.array([place_of(cell.parts, cell.batch_size) for cell in self.cells]).reshape(len(self.cells), 4)

    @cached_property
    def networks(self) -> NDArray[np.str_]:
        """The cells' networks, shape (cells,)."""
        return np.array([cell.network for cell in self.cells], np.str_)

    @property
    def evidence(self) -> str:
        """Return where advice comes from, in words."""
        families = len({cell.family for cell in self.cells})
        seeds = max((len(seeds) for cell in self.cells for seeds in cell.effects.values()), default=0)
        dated = f" of {self.date[:10]}" if self.date else ""
        return f"study{dated}: {len(self.cells)} cells, {families} data families, {seeds} seeds"

    def to_json(self) -> str:
        """Return the table as JSON, effects rounded to 0.0001."""
        cells = [
            asdict(cell)
            | {
                "parts": {part: float(f"{cell.parts[part]:.5g}") for part in PARTS},
                "effects": {
                    name: [round(float(value), DECIMALS) for value in cell.effects[name]]
                    for name in sorted(cell.effects)
                },
            }
            for cell in self.cells
        ]
        head = {
            "schema": SCHEMA,
            "date": self.date,
            "settings": dict(self.settings),
            "width": self.width,
            "shrinkage": self.shrinkage,
        }
        lines = ",\n".join(json.dumps(cell, allow_nan=False, separators=(",", ":")) for cell in cells)
        return f'{json.dumps(head, allow_nan=False)[:-1]}, "cells": [\n{lines}\n]}}\n'


def place_of(parts: Mapping[str, float], batch_size: int) -> Floats:
    """Return where data with these parts of the need (nats), in batches of this size, lie; shape (4,).

    With s(x, c) = x^2 / (x^2 + c^2), which goes from 0 to 1 and is a half at c, and x below 0 taken as 0:
    s(need, 1) / 2, whether there is need at all; s(feature + drift, 1) / 2, whether some is left when the dataset is
    scaled as one; 1.5 s(drift, limit), whether batches are unlike each other by more than `noise.drift_limit`,
    above which a plan advises to decide batch by batch; log2(B) / 4.

    Args:
        parts: "global", "feature", "drift"; "noise" where it is not that of `batch_size` values a feature.
        batch_size: samples a batch, 1 or more.
    """
    rest = parts["feature"] + parts["drift"]
    switches = (
        _switch(parts["global"] + rest, 1.0) / 2,
        _switch(rest, 1.0) / 2,
        1.5 * _switch(parts["drift"], drift_limit(noise_of(parts, batch_size))),
    )
    return np.array([*switches, np.log2(batch_size) / 4])


def noise_of(parts: Mapping[str, float], batch_size: int) -> float:
    """Return the noise of batch statistics, in nats: the part "noise" where given, else noise(B); infinite at B = 1."""
    return parts.get("noise", float(noise(batch_size)) if batch_size > 1 else np.inf)


def _switch(x: float, half: float) -> float:
    """Return x^2 / (x^2 + half^2), 0 for x <= 0."""
    ratio = max(x, 0.0) / half
    return ratio**2 / (1 + ratio**2) if ratio < 1 else 1 / (1 + (1 / ratio) ** 2)


def read_table(text: str) -> Table:
    """Return the table that `to_json` wrote.

    Raises:
        PlanFormatError: not such a text, or of another version.
    """
    try:
        body = json.loads(text)
        if body["schema"] != SCHEMA:
            raise ValueError(f"schema {body['schema']!r:.80}")
        return Table(
            tuple(_read_cell(cell) for cell in body["cells"]),
            float(body["width"]),
            float(body["shrinkage"]),
            str(body["date"]),
            dict(body["settings"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanFormatError(
            f"expected the advisor's table, schema {SCHEMA}; {type(error).__name__}: {error}: make it again with "
            "python -m benchmarks.study.table"
        ) from error


@lru_cache(maxsize=1)
def installed_table() -> Table | None:
    """Return the table that came with the package, read once; None where it has none."""
    place = files("assessor.advice") / "table.json"
    return read_table(place.read_text(encoding="utf-8")) if place.is_file() else None


def _key(cell: Cell) -> tuple[Any, ...]:
    told = (cell.family, cell.treatment, cell.network, cell.batch_size, cell.optimizer)
    return (*told, sorted(cell.parts.items()), sorted(cell.effects.items()))


def _read_cell(body: dict[str, Any]) -> Cell:
    effects = {str(name): tuple(map(float, values)) for name, values in body["effects"].items()}
    parts = {part: float(body["parts"][part]) for part in PARTS}
    if not np.isfinite([*parts.values(), *(value for values in effects.values() for value in values)]).all():
        raise ValueError("parts and effects must be finite")
    if not all(effects.values()):
        raise ValueError("a choice without a seed")
    return Cell(
        str(body["family"]),
        str(body["treatment"]),
        str(body["network"]),
        int(body["batch_size"]),
        str(body["optimizer"]),
        parts,
        effects,
    )
