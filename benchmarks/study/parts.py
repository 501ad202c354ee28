"""The parts of the study as lists of cells to run: how many, with which arms, seeds and steps, and what they cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from benchmarks.study import arms, families, files
from benchmarks.study.cell import run_cell
from benchmarks.study.cells import BATCH_SIZES, candidates, grid
from benchmarks.study.claims import run as claims
from benchmarks.study.records import Record, Setting
from benchmarks.study.running import Cell
from benchmarks.study.sources import every_source, sources
from benchmarks.study.treatments import treatments

NAMES = ("grid", "sources", "claims")

SEEDS = (1, 2, 3, 4, 5)
"""Of the reported runs; learning rates are chosen on seed 0."""

COUNTS: Mapping[str, Mapping[str, int]] = {
    "grid": {"mlp": 34, "convnet": 15, "resnet": 9, "lstm": 7},
    "sources": {"mlp": 15, "convnet": 3},
}
"""Cells by network."""

COUNTS_OF_FILES: Mapping[str, int] = {"mlp": 4, "convnet": 4, "resnet": 2}
"""Cells of the grid by network, more for each dataset whose files are on disk."""

STEPS: Mapping[str, int] = {"mlp": 300, "convnet": 150, "resnet": 100, "lstm": 120}

QUICK_SEEDS = (1, 2)
QUICK_COUNTS: Mapping[str, Mapping[str, int]] = {
    "grid": {"mlp": 5, "convnet": 1, "resnet": 1, "lstm": 1},
    "sources": {"mlp": 2},
}
QUICK_STEPS = 40
QUICK_ARMS = (
    "none",
    "scale",
    "standardize",
    "batch",
    "layer",
    "batch_layer",
    "per_source",
    "one_decision",
    "published_exact",
    "need/identity",
    "need/population",
    "need/batch_layer",
    "need/identity@input",
)
"""Of both parts' arms."""

QUICK_CLAIMS = 4

SECONDS: Mapping[str, tuple[float, float]] = {
    "mlp": (0.0007, 0.000001),
    "convnet": (0.0012, 0.00004),
    "resnet": (0.0025, 0.00005),
    "lstm": (0.0025, 0.00002),
}
"""Of one step on one core, tests and all: at a batch of none, and more for each sample; a rough measurement of some
cells, for the progress bar only."""

TUNING = 4
"""Trainings that the choice of a learning rate takes, about."""


def cells(part: str, *, quick: bool = False, device: str = "cpu") -> list[Cell]:
    """Return the cells of a part, in the order in which they are to be run.

    Args:
        part: one of `NAMES`.
        quick: a few cells with few steps, arms and seeds, which try the whole path and show nothing.
        device: "cpu" or "cuda".
    """
    if part == "claims":
        return _claims(quick, device)
    counts = (QUICK_COUNTS if quick else COUNTS)[part]
    steps = {network: QUICK_STEPS if quick else number for network, number in STEPS.items() if network in counts}
    chosen = _grid(counts, steps, quick) if part == "grid" else sources(counts, steps)
    seeds = QUICK_SEEDS if quick else SEEDS
    return [
        Cell(setting, compared, seeds, _cost(setting, compared, seeds), _of_engine, device)
        for setting in chosen
        for compared in [_arms(setting, quick)]
    ]


def _grid(counts: Mapping[str, int], steps: Mapping[str, int], quick: bool) -> tuple[Setting, ...]:
    """Return the grid's cells: those of data that is always there, the same everywhere, then those of files."""
    always = [family for family in families.names() if family not in files.PLACES]
    chosen = grid(always, counts, steps)
    for seed, family in enumerate(files.PLACES, start=1):
        if family in families.names() and not quick:
            chosen += grid((family,), COUNTS_OF_FILES, steps, seed=seed)
    return chosen


def possible(part: str) -> int:
    """Return out of how many cells those of the grid or of the sources were chosen, data from files left out."""
    steps = {network: STEPS[network] for network in COUNTS[part]}
    if part == "sources":
        return sum(1 for _ in every_source(steps))
    always = [family for family in families.names() if family not in files.PLACES]
    return sum(1 for _ in candidates("grid", always, treatments(), BATCH_SIZES, steps))


def _arms(setting: Setting, quick: bool) -> tuple[str, ...]:
    names = arms.names(setting.part)
    return tuple(name for name in names if name in QUICK_ARMS) if quick else names


def _claims(quick: bool, device: str) -> list[Cell]:
    settings, seeds = claims.settings(), QUICK_SEEDS if quick else SEEDS
    if quick:
        settings = [replace(setting, steps=QUICK_STEPS) for setting in settings[:QUICK_CLAIMS]]
    return [
        Cell(each, claims.arms(each), seeds, claims.cost(each) * len(seeds) / len(SEEDS), _of_claims, device)
        for each in settings
    ]


def _cost(setting: Setting, compared: Sequence[str], seeds: Sequence[int]) -> float:
    """Return about how many seconds a cell takes on one core."""
    least, more = SECONDS[setting.network]
    return (least + more * setting.batch_size) * setting.steps * len(compared) * (len(seeds) + TUNING)


def _of_engine(cell: Cell) -> Iterator[Record]:
    yield from run_cell(cell.setting, cell.arms, cell.seeds, device=cell.device)


def _of_claims(cell: Cell) -> Iterator[Record]:
    yield from claims.run(cell.setting, cell.seeds, cell.device)


def in_turn(parts: Mapping[str, Sequence[Cell]]) -> list[Cell]:
    """Return the cells of several parts in one order, so that at any moment about the same share of each is done."""
    placed = [((index + 0.5) / len(each), cell) for each in parts.values() for index, cell in enumerate(each)]
    return [cell for _, cell in sorted(placed, key=itemgetter(0))]
