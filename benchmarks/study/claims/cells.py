"""The cells in which the claims are tested: data, network, budget and arms, each under a key of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from benchmarks.study import families
from benchmarks.study.claims import arms
from benchmarks.study.claims.training import Arm
from benchmarks.study.records import Data, Setting


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        setting: what a record of it names; `claim` is its key.
        arms: what is compared.
        cost: seconds of one core with 5 seeds, measured for one training an arm, times 9.
        share: of the training data that is used.
        fixed: batches are rows in their order, as the published rule and the plans have them.
    """

    setting: Setting
    arms: Mapping[str, Arm]
    cost: float
    share: float = 1.0
    fixed: bool = False


def _setting(key: str, network: str, batch_size: int, optimizer: str, steps: int, family: str = "digits") -> Setting:
    return Setting("claims", family, "standardized", network, batch_size, optimizer, steps, key)


@cache
def all_cells() -> Mapping[str, Cell]:
    """Return every cell by its key."""
    bounded = {"bounded + mean_only": Arm(arms.bounded), "batch": arms.plain(arms.norm("batch"))}
    cells = (
        Cell(_setting("bln images 1", "lenet", 1, "adam", 1200), arms.bln(1), share=0.2, cost=70),
        Cell(_setting("bln images 25", "lenet", 25, "adam", 300), arms.bln(25), share=0.2, cost=19),
        Cell(_setting("bln sequences 1", "lstm", 1, "adam", 1000, "digit_rows"), arms.bln(1), share=0.2, cost=90),
        Cell(_setting("bln sequences 25", "lstm", 25, "adam", 300, "digit_rows"), arms.bln(25), share=0.2, cost=37),
        Cell(_setting("kalman", "resnet", 32, "sgd", 300), arms.kalman(2), cost=74),
        Cell(_setting("ghost", "resnet", 128, "sgd", 150), arms.grouped("ghost_batch", examples_per_group=16), cost=33),
        Cell(
            _setting("batch group 4", "resnet", 4, "sgd", 500),
            arms.grouped("batch_group", examples_per_group=2),
            cost=68,
        ),
        Cell(
            _setting("batch group 8", "resnet", 8, "sgd", 500),
            arms.grouped("batch_group", examples_per_group=2),
            cost=58,
        ),
        Cell(_setting("float16", "lenet", 32, "sgd", 200), arms.half(torch.float16, 1.0), cost=26),
        Cell(_setting("float16 large", "lenet", 32, "sgd", 200), arms.half(torch.float16, 400.0), cost=24),
        Cell(_setting("bfloat16", "lenet", 32, "sgd", 200), arms.half(torch.bfloat16, 1.0), cost=19),
        Cell(_setting("population", "lenet", 32, "sgd", 300), arms.population(), cost=17),
        Cell(_setting("selu 8", "deep8", 32, "sgd", 300), arms.deep(), cost=8),
        Cell(_setting("selu 16", "deep16", 32, "sgd", 300), arms.deep(), cost=14),
        *_of_the_rule(),
        Cell(_setting("bounded", "resnet", 32, "sgd", 200), bounded, cost=14),
        Cell(_setting("decay", "lenet", 32, "sgd", 400), arms.decay(0.01), cost=39),
    )
    return {cell.setting.claim: cell for cell in cells}


def _of_the_rule() -> list[Cell]:
    """Return the cells of the published rule: small batches, on data as it comes, standardized, and spread in scale."""
    cells = []
    for treatment in ("raw", "standardized", "scales(1)"):
        setting = replace(_setting(f"published {treatment}", "lenet", 4, "sgd", 500), treatment=treatment)
        cells.append(Cell(setting, arms.published_rule(), fixed=True, cost=22))
    return cells


def load(cell: Cell, setting: Setting, seed: int, device: str = "cpu") -> Data:
    """Return the cell's data for a seed: the first rows of the training data, as many as its share says."""
    data = families.load(setting.family, setting.treatment, seed, setting.batch_size)
    rows = max(setting.batch_size, round(cell.share * len(data.x)))

    def moved(parts: tuple[tuple[Tensor, Tensor], ...]) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple((x.to(device), y.to(device)) for x, y in parts)

    x, y, source = (values[:rows].to(device) for values in (data.x, data.y, data.source))
    return Data(x, y, moved(data.validation), moved(data.test), data.classes, source)
