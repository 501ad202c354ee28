"""What the study's parts hand each other, and its result file: one JSON line a record."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the runner and its workers start without torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Data:
    """One dataset under one treatment, for one seed.

    Attributes:
        x: training samples, (N, *) float32, in the order of assessment: rows i B to (i + 1) B - 1 are batch i.
        y: their classes, (N,) int64.
        validation, test: (samples, classes) of each source, as it would deliver them; one source, one entry.
        classes: how many classes there are.
        source: the source of every training sample, (N,) int64; 0 where there is one source only.
    """

    x: "Tensor"
    y: "Tensor"
    validation: "tuple[tuple[Tensor, Tensor], ...]"
    test: "tuple[tuple[Tensor, Tensor], ...]"
    classes: int
    source: "Tensor"


@dataclass(frozen=True)
class Setting:
    """A cell of the study: what a user has before choosing what to do.

    Attributes:
        part: "grid" (questions 1 to 3), "sources" (4) or "claims" (5).
        family: of the data, see families.py.
        treatment: what was done to the data, see treatments.py.
        network: "mlp", "convnet", "resnet" or "lstm".
        batch_size: samples a batch.
        optimizer: "sgd" (momentum 0.9) or "adam".
        steps: of the optimizer, the same for every arm.
        claim: the claim of a paper that the cell tests, see claims/; "" in the other parts.
    """

    part: str
    family: str
    treatment: str
    network: str
    batch_size: int
    optimizer: str
    steps: int
    claim: str = ""


@dataclass(frozen=True)
class Run:
    """One training and its tests.

    Attributes:
        seed: of split, treatment, initial weights and order of batches.
        accuracy: test accuracy, 0 to 1, mean over sources, by evaluation: "" is the arm's own evaluation in batches of
            the training size; others are "mode/batch size", such as "running/1".
        steps_to_loss: steps until the training loss, averaged, was below half of ln(classes); None: never.
        diverged: the loss was not finite.
        seconds: of training.
        normalized: share of the training batches that were normalized, 0 to 1.
    """

    seed: int
    accuracy: Mapping[str, float]
    steps_to_loss: int | None
    diverged: bool
    seconds: float
    normalized: float


@dataclass(frozen=True)
class Result:
    """All runs of one arm in one cell.

    Attributes:
        setting: the cell.
        arm: its name, see arms.py.
        rate: the learning rate that was chosen.
        tried: validation accuracy by learning rate (-1: diverged, or nothing learned).
        runs: one a seed.
    """

    setting: Setting
    arm: str
    rate: float
    tried: Mapping[str, float]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Assessed:
    """What the assessor says of one cell's training data, for one seed.

    Attributes:
        setting: the cell.
        seed: of the data.
        scores: mean over complete batches of every measure, by name (null where undefined).
        parts: "global", "feature", "drift", "noise" of `need`, in nats.
        flagged: share of flagged batches by method.
        action: the plan's `action` (method `need`).
        by_batch: the scores of some batches by measure, at most 200, for questions of cutoffs.
    """

    setting: Setting
    seed: int
    scores: Mapping[str, float | None]
    parts: Mapping[str, float]
    flagged: Mapping[str, float]
    action: str
    by_batch: Mapping[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """That a cell was finished, and under what; it stands after the cell's records.

    Attributes:
        setting: the cell.
        arms: what was compared in it.
        seeds: of its runs.
        date: of its end, ISO 8601, UTC.
        seconds: of computing time that it took, on one core.
        device: "cpu" or "cuda".
        versions: of Python and torch.
    """

    setting: Setting
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    date: str
    seconds: float
    device: str
    versions: Mapping[str, str]


Record = Result | Assessed


def line(record: Record | Finished) -> str:
    """Return a record as one line of JSON, its line break included, numbers to six digits.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps({"kind": type(record).__name__, **asdict(record)}, allow_nan=False)
    return json.dumps(json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))) + "\n"


def append(path: Path, *records: Record | Finished) -> None:
    """Add records to a file in one write; a line that a crash cut short is left out when the file is read."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(line(record) for record in records))


def read(path: Path) -> Iterator[Record]:
    """Yield the results and assessments of a file, in its order."""
    for record in read_all(path):
        if not isinstance(record, Finished):
            yield record


def read_all(path: Path) -> Iterator[Record | Finished]:
    """Yield the records of a file, in its order, with what says that a cell was finished; no file, no records."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            body: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            continue
        setting = Setting(**body.pop("setting"))
        kind = body.pop("kind")
        if kind == "Finished":
            yield Finished(setting, tuple(body.pop("arms")), tuple(body.pop("seeds")), **body)
        elif kind == "Assessed":
            yield Assessed(setting, **body)
        else:
            runs = tuple(Run(**run) for run in body.pop("runs"))
            yield Result(setting, runs=runs, **body)
