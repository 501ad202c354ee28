"""The cells of question 4: datasets of several sources, where batch norm broke and a plan paid most."""

from collections.abc import Iterator, Mapping

from benchmarks.study.cells import candidates, choose
from benchmarks.study.records import Setting

FAMILIES = ("digits", "gaussian", "breast_cancer", "patches", "textures")

TREATMENTS = (
    "mixed(2,between)",
    "mixed(4,between)",
    "mixed(8,between)",
    "mixed(2,within)",
    "mixed(4,within)",
    "mixed(8,within)",
    "mixed(2,between,0.1)",
    "mixed(4,between,0.1)",
    "mixed(2,within,0.1)",
)
"""Each batch from one source, or all sources in each batch; equal shares, or 0.1 for every source but the first."""

BATCH_SIZES = (4, 16, 32)


def sources(counts: Mapping[str, int], steps: Mapping[str, int]) -> tuple[Setting, ...]:
    """Return the cells of question 4: `counts` cells of each network, over ways of mixing and batch sizes."""
    return choose(every_source(steps), counts)


def every_source(steps: Mapping[str, int]) -> Iterator[Setting]:
    """Yield every cell that could be chosen."""
    return candidates("sources", FAMILIES, TREATMENTS, BATCH_SIZES, steps)
