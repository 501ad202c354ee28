"""Question 4: mixed sources: batch by batch, one decision, layer norm, or each source by itself?"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.study import across
from benchmarks.study.gathered import Gathered
from benchmarks.study.intervals import Estimate, Floats, Resampling, mean_of_seeds
from benchmarks.study.plots import draw_groups, draw_table
from benchmarks.study.records import Setting
from benchmarks.study.wording import Section, cell_name, compared, interval, number, points, table

GATE = "need/identity@input"
"""The use to offer first, FORMULAS 6."""
RIVALS: Mapping[str, str] = {
    "one_decision": "one decision for the dataset",
    "layer": "layer norm",
    "per_source": "per-source standardization",
    "batch": "always batch norm",
    "none": "no normalization",
}
COMPARED = (
    "standardize",
    "need/identity@input+layer",
    "need/identity",
    "need/identity@hidden",
    "need/population@input",
    "need/batch_layer@input",
    "heterogeneity/identity@input",
)
"""Drawn beside the rivals."""
MODES = ("threshold/B", "threshold/1", "running/B", "running/1", "batch/B", "never/B")
_MIXED = re.compile(r"mixed\((\d+),(between|within)(?:,([\d.]+))?\)")


def mixture(setting: Setting) -> tuple[int, str, float]:
    """Return a cell's number of sources, "between" or "within", and the share of all sources but the first.

    The share is that of equal ones where the treatment names none; (1, "", 1) where nothing is mixed.
    """
    found = _MIXED.fullmatch(setting.treatment.replace(" ", ""))
    if not found:
        return 1, "", 1.0
    k = int(found[1])
    return k, found[2], float(found[3]) if found[3] else 1 / k


def kinds() -> dict[str, Callable[[Setting], bool]]:
    """Return the kinds of cells that are told apart, by name."""
    chosen: dict[str, Callable[[Setting], bool]] = {
        "all": lambda setting: True,
        "between": lambda setting: mixture(setting)[1] == "between",
        "within": lambda setting: mixture(setting)[1] == "within",
    }
    for k in (2, 4, 8):
        chosen[f"{k} sources"] = lambda setting, k=k: mixture(setting)[0] == k  # type: ignore[misc]
    chosen["unequal"] = lambda setting: mixture(setting)[2] < 1 / mixture(setting)[0]
    for size in (4, 16, 32):
        chosen[f"B = {size}"] = lambda setting, size=size: setting.batch_size == size  # type: ignore[misc]
    return chosen


def difference(cells: Gathered, arm: str, other: str, mode: str = "", other_mode: str = "") -> Estimate:
    """Return the mean accuracy of an arm less that of another, in points, over the cells with both."""
    both = cells.with_arms((arm, other))
    values = both.accuracy(arm, mode) - both.accuracy(other, other_mode)
    return Resampling.draw(*values.shape).mean(values)


def by_kind(cells: Gathered, arms: Sequence[str]) -> tuple[list[str], Floats]:
    """Return the kinds that have cells, and the mean accuracy of each arm in each, (arms, kinds)."""
    there = {name: cells.where(chosen) for name, chosen in kinds().items()}
    there = {name: some for name, some in there.items() if len(some)}
    values = np.array(
        [[float(np.nanmean(mean_of_seeds(some.accuracy(arm)))) for some in there.values()] for arm in arms]
    )
    return [f"{name}\n{len(some)} cells" for name, some in there.items()], values


def section(gathered: Gathered) -> Section | None:
    """Return the answer to question 4; None where nothing was run."""
    if not len(gathered) or GATE not in gathered.arms:
        return None
    arms = sorted(gathered.everywhere, key=lambda arm: -float(np.nanmean(gathered.accuracy(arm))))
    gates = [arm for arm in arms if "/" in arm]
    rivals = [arm for arm in RIVALS if arm in gathered.everywhere]
    names, values = by_kind(gathered, arms)
    lines = [
        f"{len(gathered)} cells of two to eight sources, each with a scale, a shift and a spread of features of its "
        "own; `between`: each batch from one source, `within`: all in each batch; `unequal`: all sources but the "
        "first have a known share of 0.1. Tests take each source by itself, as it would deliver; the accuracy is "
        "the mean over sources. `a/b@c`: the plan of method a decides batch by batch, other batches take skip path "
        "b, gates at c (no @: at the input and in hidden layers; `@hidden`: there alone). `one_decision`: the data "
        "as a whole is prepared as the plan's action says, by the rule in use when the study ran. `per_source`: "
        "each source standardized with known membership, in tests too.",
        "",
        *table(
            ["arm", "accuracy, %", "worst cell", *(f"less {rival}" for rival in rivals)], _rows(gathered, arms, rivals)
        ),
        "![Mean accuracy of every arm by kind of mixture](evidence/mixing.png)",
        "",
        f"![`{GATE}` less its rivals, by kind of mixture, with intervals](evidence/sources.png)",
        "",
        *across.lines(
            gathered.datasets,
            [(f"{GATE} less {rival}", gathered.accuracy(GATE) - gathered.accuracy(rival)) for rival in rivals]
            + [(f"{GATE} less batch with the batch's own statistics in tests", _less_own(gathered))],
        ),
        *_places(gathered),
        *_evaluations(gathered, gates),
    ]
    drawn = {
        "mixing": (
            draw_table(arms, names, values, "", "mean test accuracy (%) on mixed sources, by kind of cell"),
            "mean accuracy of every arm by kind of mixture",
        ),
        "sources": (_draw_rivals(gathered, [*rivals, *COMPARED]), "the gate at the input less its rivals"),
    }
    return Section("4. Mixed sources", _answer(gathered, gates, rivals), lines, drawn)


def _draw_rivals(gathered: Gathered, rivals: Sequence[str]) -> Figure:
    """Draw the gate at the input less its rivals, in all cells and by how sources are mixed."""
    rivals = [rival for rival in rivals if rival in gathered.everywhere]
    there = {name: gathered.where(kinds()[name]) for name in ("all", "between", "within")}
    groups = {
        f"{name}: {len(some)} cells": [difference(some, GATE, rival) for rival in rivals]
        for name, some in there.items()
        if len(some)
    }
    return draw_groups(rivals, groups, f"accuracy of {GATE} less that of (points; blue, red: beyond noise)")


def _less_own(gathered: Gathered) -> Floats:
    """Return the gate less always batch norm where that too is tested by the batch's own statistics, (cells, seeds)."""
    return gathered.accuracy(GATE) - gathered.accuracy("batch", "batch/B")


def _rows(gathered: Gathered, arms: Sequence[str], rivals: Sequence[str]) -> list[list[str]]:
    resampling = Resampling.draw(len(gathered), len(gathered.seeds))
    rows = []
    for arm in arms:
        accuracy = gathered.accuracy(arm)
        worst = int(mean_of_seeds(accuracy).argmin())
        name = cell_name(gathered.settings[worst])
        less = ["-" if arm == rival else interval(difference(gathered, arm, rival), 1, signed=True) for rival in rivals]
        rows.append(
            [
                arm,
                interval(resampling.mean(accuracy), 1),
                f"{number(mean_of_seeds(accuracy)[worst], 1)} ({name})",
                *less,
            ]
        )
    return rows


def _places(gathered: Gathered) -> list[str]:
    """Return the table of `need`'s gates by place and skip path: accuracy, and less the gate at the input."""
    rows = []
    for skip in ("identity", "population", "batch_layer"):
        cells = []
        for place in ("@input", "@hidden", ""):
            arm = f"need/{skip}{place}"
            if arm not in gathered.everywhere:
                cells += ["-", "-"]
                continue
            mean = Resampling.draw(len(gathered), len(gathered.seeds)).mean(gathered.accuracy(arm))
            less = "-" if arm == GATE else interval(difference(gathered, arm, GATE), 1, signed=True)
            cells += [number(mean.value, 1), less]
        rows.append([skip, *cells])
    header = ["skip path", "input", "less today's", "hidden", "less today's", "both", "less today's"]
    return [
        f"Where the gate sits and what skipped batches take, `need`; today's is `{GATE}`:",
        "",
        *table(header, rows),
    ]


def _evaluations(gathered: Gathered, gates: Sequence[str]) -> list[str]:
    """Return the table of evaluation modes by gate, mean accuracy, and less the mode threshold in full batches."""
    rows = []
    for arm in [gate for gate in gates if gate.startswith("need/")] + [
        a for a in ("one_decision", "batch", "batch_layer") if a in gathered.arms
    ]:
        row = [arm]
        for mode in MODES:
            mean = Resampling.draw(len(gathered), len(gathered.seeds)).mean(gathered.accuracy(arm, mode))
            row.append(number(mean.value, 1))
        rows.append(row)
    if not rows:
        return []
    less = [
        "difference, " + GATE,
        *(
            "" if m == MODES[0] else interval(difference(gathered, GATE, GATE, m, MODES[0]), 1, signed=True)
            for m in MODES
        ),
    ]
    return [
        "Evaluation: mean accuracy by mode and by samples in an evaluation batch (B: as in training; 1: one). "
        "`threshold`: the rule decides on the incoming batch; `running`: always running statistics; `batch`: always "
        "the batch's own; `never`: always the skip path.",
        "",
        *table(["arm", *MODES], [*rows, less]),
    ]


def _answer(gathered: Gathered, gates: Sequence[str], rivals: Sequence[str]) -> str:
    mean = Resampling.draw(len(gathered), len(gathered.seeds)).mean(gathered.accuracy(GATE))
    said = [f"Deciding batch by batch at the input (`{GATE}`) gets {interval(mean, 1)} % over {len(gathered)} cells:"]
    against = []
    for rival in rivals:
        less = difference(gathered, GATE, rival)
        verdict = compared(less, "better than", "worse than", "within noise of")
        against.append(f"{verdict} {RIVALS[rival]} ({points(less)})")
    said = [f"{said[0]} {'; '.join(against)}."]
    for kind in ("between", "within"):
        some = gathered.where(kinds()[kind])
        if len(some) > 1 and "layer" in rivals:
            less = difference(some, GATE, "layer")
            name = "Where each batch has one source" if kind == "between" else "Where sources mix within batches"
            said.append(
                f"{name} it is {compared(less, 'better than', 'worse than', 'within noise of')} layer norm "
                f"({points(less)})."
            )
    if gates:
        best = gates[0]
        said.append(
            f"The best gate is `{best}`"
            + (
                "."
                if best == GATE
                else f" ({points(difference(gathered, best, GATE))} against `{GATE}`, chosen among {len(gates)}, so "
                "flattered)."
            )
        )
    one = difference(gathered, GATE, GATE, "threshold/1", "threshold/B")
    running = difference(gathered, GATE, GATE, "running/B", "threshold/B")
    if not np.isnan(one.value):
        said.append(
            f"Evaluation batches of one sample change it by {points(one)}; running statistics instead of the rule by "
            f"{points(running)}."
        )
    if "layer" in rivals and not np.isnan(one.value):
        alone = difference(gathered, GATE, "layer", "threshold/1")
        said.append(
            "In evaluation batches of one sample it is "
            f"{compared(alone, 'better than', 'worse than', 'within noise of')} layer norm ({points(alone)})."
        )
    return "\n".join(said)
