"""Records of a planted truth: what batch norm gains is known, and what the scores know of it."""

from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.study.arms import evaluations
from benchmarks.study.records import Assessed, Record, Result, Run, Setting

FAMILIES = ("digits", "wine", "textures", "waves")
SEEDS = (1, 2, 3, 4, 5)
GRID_ARMS = (
    "none", "scale", "standardize", "batch", "layer", "batch_layer", "need/identity", "need/population",
    "need/batch_layer", "heterogeneity/identity", "need/identity@input",
)  # fmt: skip
SKIPS, PLACES = ("identity", "population", "batch_layer"), ("", "@input", "@hidden")
SOURCE_ARMS = (
    "none", "batch", "layer", "batch_layer", "standardize", "per_source", "one_decision",
    *(f"need/{skip}{place}" for skip in SKIPS for place in PLACES),
)  # fmt: skip


def result(setting: Setting, arm: str, accuracies: Mapping[int, float], **others: float) -> Result:
    """Return a result of these test accuracies by seed, in percent, and of other evaluations."""
    runs = tuple(
        Run(seed, {"": a / 100, **{mode: v / 100 for mode, v in others.items()}}, 40, False, 0.5, 1.0)
        for seed, a in accuracies.items()
    )
    return Result(setting, arm, 0.03, {"0.03": 0.9}, runs)


def assessed(setting: Setting, seed: int, score: float, other: float = 0.0) -> Assessed:
    """Return an assessment with this need, and another measure that may know nothing."""
    return Assessed(
        setting,
        seed,
        {"standard_divergence": score, "spread_divergence": other, "standard_divergence/left_out": score},
        {"global": 0.0, "feature": score, "drift": 0.0, "noise": 0.1},
        {"need": float(score > 1), "heterogeneity": float(other > 0.05)},
        "standardize" if score > 1 else "nothing",
        {"standard_divergence": [score, score]},
    )


def grid(cells: int = 40, *, cutoff: float = 2.0, gain: float = 10.0, noise: float = 0.5) -> Iterator[Record]:
    """Yield cells in which batch norm gains `gain` points where need is above `cutoff`, and loses as much elsewhere.

    The plan takes batch norm where need is above 1, `standardize` is worth 1 point more than the better of both.
    """
    rng = np.random.default_rng(0)
    for i in range(cells):
        setting = Setting("grid", FAMILIES[i % 4], f"scales({i})", "mlp", (2, 4, 16, 32)[i // 4 % 4], "sgd", 100)
        need = float(10 ** rng.uniform(-1.5, 2))
        unknowing = float(10 ** rng.uniform(-2, 0))
        for seed in SEEDS:
            yield assessed(setting, seed, need, unknowing)
        norm = 80 + (gain if need > cutoff else -gain)
        truth = dict.fromkeys(GRID_ARMS, 75.0) | {"none": 80.0, "batch": norm, "standardize": max(norm, 80.0) + 1}
        plan = norm if need > 1 else 80.0
        truth |= {"need/identity": plan, "need/identity@input": plan, "need/batch_layer": plan - 3}
        for arm, value in truth.items():
            yield result(setting, arm, {seed: value + rng.normal(0, noise) for seed in SEEDS})


def sources(*, noise: float = 0.3) -> Iterator[Record]:
    """Yield cells of mixed sources: the gate at the input gets 90, layer norm 85, the others 80; `running` loses 20."""
    rng = np.random.default_rng(1)
    treatments = ("mixed(2,between)", "mixed(4,within)", "mixed(8,between)", "mixed(2,between,0.1)")
    for i in range(12):
        setting = Setting("sources", FAMILIES[i % 2], treatments[i % 4], "mlp", (4, 16, 32)[i % 3], "adam", 100)
        for seed in SEEDS:
            yield assessed(setting, seed, 3.0)
        for arm in SOURCE_ARMS:
            value = {"need/identity@input": 90.0, "layer": 85.0}.get(arm, 80.0)
            own = {mode: value - 20 * mode.startswith("running") for mode in evaluations(arm, "sources")}
            yield result(setting, arm, {seed: value + rng.normal(0, noise) for seed in SEEDS}, **own)
