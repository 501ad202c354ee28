"""What the assessor says of one cell's training data."""

from math import isfinite

import numpy as np

from assessor import Profile, make_plan, measures, methods, profile_array
from benchmarks.study import vanishing
from benchmarks.study.records import Assessed, Data, Setting
from benchmarks.study.training import Bench

KEPT = 60
"""Batches whose scores are kept, evenly spread over the dataset: enough for shares, and the files stay small."""


def assess_cell(setting: Setting, seed: int, data: Data, bench: Bench) -> Assessed:
    """Return every measure's scores, the parts of `need`, the share that each method flags, and the action.

    Among the scores are those of `standard_divergence` under other treatments of vanishing variances (vanishing.py), as
    "standard_divergence/left_out" and "standard_divergence/shrunk".
    """
    profile = bench.profile(data)
    columns = {name: _scores(_profile_for(name, data, profile, setting), name) for name in measures.names()}
    others = vanishing.scores(data.x.cpu().numpy(), setting.batch_size)
    plan = bench.plan(data)
    chosen = np.unique(np.linspace(0, len(plan) - 1, min(KEPT, len(plan))).round().astype(int))
    return Assessed(
        setting=setting,
        seed=seed,
        scores={name: _number(_mean(column)) for name, column in (columns | others).items()},
        parts=dict(plan.decomposition or {}),
        flagged={name: bench.plan(data, name).flagged_fraction for name in methods.names()},
        action=plan.action,
        by_batch={name: [_number(value) for value in column[chosen]] for name, column in columns.items()},
    )


def _profile_for(measure: str, data: Data, profile: Profile, setting: Setting) -> Profile:
    """Return the profile that a measure reads: population_divergence needs one made with the population known."""
    if measure != "population_divergence":
        return profile
    return profile_array(data.x.cpu().numpy(), batch_sizes=[setting.batch_size], reference=profile)


def _scores(profile: Profile, measure: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.asarray(make_plan(profile, method=measure, threshold="fixed(0)", drop_last=True).scores)


def _mean(column: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    defined = column[~np.isnan(column)]
    return float(defined.mean()) if len(defined) else float("nan")


def _number(value: float) -> float | None:
    """Return a number of four digits, or None where it is undefined or infinite."""
    return float(f"{value:.4g}") if isfinite(value) else None
