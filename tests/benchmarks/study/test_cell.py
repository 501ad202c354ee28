from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from assessor import assess, measures, methods
from benchmarks.study import arms
from benchmarks.study.cell import run_cell
from benchmarks.study.families import load
from benchmarks.study.records import Assessed, Result, Setting, append, line, read

SETTING = Setting("grid", "wine", "scales(1)", "mlp", 8, "sgd", 30)


def test_a_cell_yields_what_the_assessor_says_and_every_arm() -> None:
    names = ("none", "batch", "instance", "published_exact", "need/identity", "gaussian/batch_layer")
    found = list(run_cell(SETTING, names, (1, 2)))
    assessed = [record for record in found if isinstance(record, Assessed)]
    results = [record for record in found if isinstance(record, Result)]
    assert [record.seed for record in assessed] == [1, 2]
    # Wine's samples have no positions and no rows and columns.
    assert [record.arm for record in results] == ["none", "batch", "need/identity", "gaussian/batch_layer"]
    for result in results:
        assert [run.seed for run in result.runs] == [1, 2]
        assert 3 <= len(result.tried) <= 7
        assert f"{result.rate:.4g}" in result.tried
        assert result.tried[f"{result.rate:.4g}"] == max(result.tried.values())


def test_the_records_of_a_cell_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    found = list(run_cell(SETTING, ("none",), (1,)))
    append(path, *found)
    assert [line(record) for record in read(path)] == [line(record) for record in found]


def test_the_assessment_is_the_assessors() -> None:
    (assessed, *_) = run_cell(SETTING, (), (3,))
    assert isinstance(assessed, Assessed)
    data = load("wine", "scales(1)", 3, 8)
    x, y = data.x.numpy(), data.y.numpy()
    assert set(measures.names()) <= set(assessed.scores)
    for method in methods.names():
        plan = assess(x, batch_size=8, labels=y, method=method, drop_last=True)
        assert assessed.flagged[method] == plan.flagged_fraction
        assert assessed.scores[plan.measure] == pytest.approx(np.nanmean(plan.scores), rel=1e-3)
    need = assess(x, batch_size=8, drop_last=True)
    assert assessed.action == need.action
    assert assessed.parts == dict(need.decomposition or {})
    parts = assessed.parts["global"] + assessed.parts["feature"] + assessed.parts["drift"]
    assert assessed.scores["standard_divergence"] == pytest.approx(parts, rel=1e-3)
    lengths = {len(column) for column in assessed.by_batch.values()}
    assert lengths == {min(60, len(need))}


def test_arms_of_sources_are_tested_by_further_evaluations() -> None:
    setting = Setting("sources", "wine", "mixed(2,between)", "mlp", 8, "adam", 20)
    results = [r for r in run_cell(setting, ("batch", "need/identity@hidden"), (1,)) if isinstance(r, Result)]
    for result in results:
        assert set(result.runs[0].accuracy) == {"", *arms.evaluations(result.arm, "sources")}


def test_the_seed_that_tunes_is_not_reported() -> None:
    with pytest.raises(ValueError, match="seeds other than 0"):
        next(iter(run_cell(SETTING, ("none",), (0, 1))))


def test_names_of_arms_are_unlike_and_every_action_has_an_arm() -> None:
    for part in ("grid", "sources"):
        assert all(first != second for first, second in pairwise(sorted(arms.names(part))))
    assert {arms.advised(action) for action in ("nothing", "scale", "standardize", "normalize", "unknown")} <= set(
        arms.names("grid")
    )
