"""The advisor's table (`assessor/advice/table.json`) from the study's records: `python -m benchmarks.study.table`."""

import argparse
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from assessor.advice import Cell, Table
from assessor.advice.advising import usual_choice, worth
from assessor.advice.choices import NOTHING, describe_choice
from assessor.advice.estimate import mean_effects, squared_distances, weigh
from assessor.advice.table import PARTS
from assessor.errors import UnknownNameError
from benchmarks.study.gathered import Gathered, gather, held_out_with
from benchmarks.study.records import Finished, Record, Setting, read_all

TABLE_PARTS = ("grid", "sources")
WIDTHS = (0.35, 0.5, 0.7, 1.0, 1.4)
SHRINKAGES = (0.25, 1.0, 4.0)
_HERE = Path(__file__).parent
PLACE = _HERE.parents[1] / "assessor" / "advice" / "table.json"


def advised(arms: Iterable[str]) -> list[str]:
    """Return the arms that the advisor can name."""
    known = []
    for arm in arms:
        try:
            describe_choice(arm)
        except UnknownNameError:
            continue
        known.append(arm)
    return known


def cells_of(gathered: Gathered) -> dict[Setting, Cell]:
    """Return what the table has of some cells; those without assessments or without runs of `none` are left out."""
    accuracies = {arm: gathered.accuracy(arm) / 100 for arm in advised(gathered.arms)}
    parts = {part: gathered.score(f"need: {part}") for part in PARTS}
    cells = {}
    for i, setting in enumerate(gathered.settings):
        means = {part: values[i][~np.isnan(values[i])] for part, values in parts.items()}
        if NOTHING not in accuracies or not all(len(values) for values in means.values()):
            continue
        effects = {arm: values[i] - accuracies[NOTHING][i] for arm, values in accuracies.items()}
        defined = {arm: tuple(map(float, values[~np.isnan(values)])) for arm, values in effects.items()}
        if not defined[NOTHING]:
            continue
        cells[setting] = Cell(
            setting.family,
            setting.treatment,
            setting.network,
            setting.batch_size,
            setting.optimizer,
            {part: float(values.mean()) for part, values in means.items()},
            {arm: values for arm, values in defined.items() if values},
        )
    return cells


def first_choice(table: Table, cell: Cell, *, width: float, shrinkage: float) -> str:
    """Return the choice that ranks first for a cell, whatever the evidence; `none` where nothing can be compared."""
    squared = squared_distances(table, cell.parts, cell.batch_size, cell.network)
    means = mean_effects(table, weigh(squared, width=width, shrinkage=shrinkage), cell.network)
    usual = usual_choice(cell.parts, cell.batch_size)
    ranked = {
        name: worth(name, mean, usual) for name, mean in zip(table.choices, means, strict=True) if not np.isnan(mean)
    }
    return max(ranked, key=lambda name: ranked[name], default=NOTHING)


def tune(cells: Sequence[Cell]) -> tuple[float, float]:
    """Return width and shrinkage: those whose first choices gain most in families that are held out one at a time."""
    groups = sorted({held_out_with(cell.family) for cell in cells})
    gains: dict[tuple[float, float], float] = dict.fromkeys(itertools.product(WIDTHS, SHRINKAGES), 0.0)
    for group in groups:
        rest = Table(tuple(cell for cell in cells if held_out_with(cell.family) != group), 1.0, 1.0, "", {})
        tested = [cell for cell in cells if held_out_with(cell.family) == group]
        if not rest.cells:
            continue
        for (width, shrinkage), cell in itertools.product(gains, tested):
            chosen = first_choice(rest, cell, width=width, shrinkage=shrinkage)
            gains[width, shrinkage] += float(np.mean(cell.effects.get(chosen, (0.0,))))
    # Of equal gains the smoothest, which is the last.
    return max(reversed(gains), key=lambda pair: round(gains[pair], 9))


def make(cells: Sequence[Cell], *, date: str = "", settings: Mapping[str, object] | None = None) -> Table:
    """Return the table of some cells, tuned on them."""
    width, shrinkage = tune(cells)
    return Table(tuple(cells), width, shrinkage, date, settings or {})


def write(records: Iterable[Record | Finished], path: Path = PLACE) -> Table | None:
    """Write the advisor's table from the records of parts "grid" and "sources"; return it.

    Without a cell that was assessed and run nothing is written, and None is returned.
    """
    kept = list(records)
    dates = [record.date for record in kept if isinstance(record, Finished)]
    measured = [record for record in kept if not isinstance(record, Finished)]
    parts = [gather(measured, part) for part in TABLE_PARTS]
    cells = [(setting, cell) for part in parts for setting, cell in cells_of(part).items()]
    if not cells:
        return None
    settings = {
        "steps": sorted({setting.steps for setting, _ in cells}),
        "seeds": sorted({seed for part in parts for seed in part.seeds}),
        "optimizers": sorted({setting.optimizer for setting, _ in cells}),
        "versions": {name: version(name) for name in ("normgauge", "torch", "numpy", "scikit-learn")},
    }
    table = make([cell for _, cell in cells], date=max(dates, default=""), settings=settings)
    path.write_text(table.to_json(), encoding="utf-8")
    return table


def without(table: Table, family: str) -> Table:
    """Return the table without a family and those of the same data, tuned on what is left."""
    rest = [cell for cell in table.cells if held_out_with(cell.family) != held_out_with(family)]
    if not rest:
        return replace(table, cells=())
    width, shrinkage = tune(rest)
    return Table(tuple(rest), width, shrinkage, table.date, table.settings)


def main() -> None:
    """Write the table from the kept results."""
    parser = argparse.ArgumentParser("python -m benchmarks.study.table", description=__doc__)
    parser.add_argument("--results", type=Path, default=_HERE / "results", help="folder of the records")
    parser.add_argument("--table", type=Path, default=PLACE, help="where the table goes")
    given = parser.parse_args()
    records = [record for part in TABLE_PARTS for record in read_all(given.results / f"{part}.jsonl")]
    table = write(records, given.table)
    if table is None:
        raise SystemExit(f"no cell in {given.results}: run python -m benchmarks.study first")
    print(f"{given.table}: {given.table.stat().st_size / 1e3:.0f} kB; {table.evidence}; ", end="")
    print(f"width {table.width}, shrinkage {table.shrinkage}")


if __name__ == "__main__":
    main()
