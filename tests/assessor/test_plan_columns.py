"""Plans in columns: what JSON holds, mapped; many processes share one file."""

import json
import multiprocessing
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor import Plan, PlanFormatError, SettingError, assess
from assessor.packed_bits import PackedBits
from assessor.plan_arrow import write_columns
from assessor.plan_file import describe_plan

X = np.random.default_rng(5).normal(size=(130, 6)) * np.repeat([1, 4, 1], [40, 50, 40])[:, None]
PLAN = assess(X, batch_size=4, threshold="otsu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    PLAN.save(tmp_path / "plan.arrow")
    return tmp_path / "plan.arrow"


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    method=st.sampled_from(["need", "heterogeneity", "published", "gaussian"]),
    drop_last=st.booleans(),
)
def test_a_plan_comes_back_as_it_was(
    n: int, batch_size: int, method: str, drop_last: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = assess(X[: max(n, batch_size)], batch_size=batch_size, method=method, drop_last=drop_last)
    path = tmp_path_factory.getbasetemp() / "any.arrow"
    plan.save(path)
    loaded = Plan.load(path)
    assert loaded == plan
    assert loaded.flagged_fraction == plan.flagged_fraction
    assert list(map(str, loaded)) == list(map(str, plan))


def test_decisions_are_bits_and_columns_are_the_files(file: Path) -> None:
    loaded = Plan.load(file)
    decisions: Any = loaded.normalize
    assert isinstance(decisions, PackedBits)
    assert decisions.nbytes == -(-len(PLAN) // 8)
    assert 0 < decisions.sum() < len(PLAN)
    assert not loaded.scores.flags.owndata
    assert not loaded.scores.flags.writeable
    assert loaded[7] == PLAN[7]
    assert not list(file.parent.glob("*.part"))


def test_cutoffs_that_differ_are_a_column(tmp_path: Path) -> None:
    cutoffs = np.linspace(-1, 3, len(PLAN))
    plan = replace(PLAN, cutoffs=cutoffs, normalize=PLAN.scores > cutoffs)
    plan.save(tmp_path / "varying.arrow")
    assert Plan.load(tmp_path / "varying.arrow") == plan


def test_any_arrow_reader_reads_it(file: Path) -> None:
    table = pa.ipc.open_file(file.read_bytes()).read_all()
    assert table["normalize"].to_pylist() == PLAN.normalize.tolist()
    np.testing.assert_array_equal(table["score"].to_numpy(), PLAN.scores)
    assert json.loads(table.schema.metadata[b"normgauge"])["fingerprint"] == PLAN.fingerprint


def _look_up(file: str, pickled: bytes, answers: Any) -> None:
    """Open the plan of a pickle; say whether its file is mapped into this process, and the decisions."""
    plan = pickle.loads(pickled)
    with open("/proc/self/maps") as maps:
        mapped = file in maps.read()
    answers.put((mapped, [plan[i].normalize for i in range(len(plan))]))


def test_a_loaded_plan_is_sent_to_other_processes_by_its_name(file: Path) -> None:
    loaded = Plan.load(file)
    pickled = pickle.dumps(loaded)
    assert len(pickled) < 500
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [context.Process(target=_look_up, args=(str(file), pickled, answers)) for _ in range(2)]
    for rank in ranks:
        rank.start()
    told = [answers.get(timeout=300) for _ in ranks]
    for rank in ranks:
        rank.join()
    assert told == [(True, PLAN.normalize.tolist())] * 2
    changed = replace(loaded, notes=("mine",))
    assert pickle.loads(pickle.dumps(changed)).notes == ("mine",)
    os.utime(file, ns=(1, 1))
    with pytest.raises(PlanFormatError, match="it was written over: open it again"):
        pickle.loads(pickled)


def _write(file: Path, description: dict[str, Any] | None = None, **columns: Any) -> None:
    given: dict[str, Any] = {"normalize": PackedBits.of(PLAN.normalize), "score": PLAN.scores, **PLAN.details} | columns
    told = describe_plan(PLAN) | {"cutoffs": [1.0]} | (description or {})
    write_columns(file, told, {name: column for name, column in given.items() if column is not None})


@pytest.mark.parametrize(
    ("description", "columns", "message"),
    [
        ({"schema": "normgauge.plan/9"}, {}, r"schema normgauge.plan/1; got 'normgauge.plan/9'"),
        ({"fingerprint": "sha256:0"}, {}, "says 'sha256:0': it was altered"),
        ({"n_rows": 5}, {}, "33 batches do not come from 5 rows"),
        ({"batch_size": True}, {}, "expected int; got True"),
        ({"order": {"kind": "odd"}}, {}, "expected a sample order"),
        ({"cutoffs": ["x"]}, {}, "could not convert"),
        ({"cutoffs": [1, 2]}, {}, "could not be broadcast|not broadcastable"),
        ({}, {"score": None}, "KeyError: 'score'"),
        ({}, {"normalize": PLAN.scores}, "column 'normalize' of type double, where bool"),
        ({}, {"feature": PackedBits.of(PLAN.normalize)}, "column 'feature' of type bool, where double"),
    ],
)
def test_what_is_no_such_plan(file: Path, description: dict[str, Any], columns: dict[str, Any], message: str) -> None:
    _write(file, description, **columns)
    with pytest.raises(PlanFormatError, match=message):
        Plan.load(file)


def test_other_arrow_files_and_cut_ones(file: Path) -> None:
    whole = file.read_bytes()
    for cut in (10, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(PlanFormatError, match="expected a plan in columns"):
            Plan.load(file)
    table = pa.ipc.open_file(whole).read_all()
    for chunk, compression, message in ((10, None, "record batches"), (None, "zstd", "compressed columns|cannot be")):
        options = pa.ipc.IpcWriteOptions(compression=compression)
        big = pa.concat_tables([table] * (1 if chunk else 20_000)).combine_chunks()
        with pa.ipc.new_file(file, table.schema, options=options) as writer:
            writer.write_table(big, max_chunksize=chunk)
        with pytest.raises(PlanFormatError, match=message):
            Plan.load(file)


def test_without_pyarrow(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingError, match=r"expected pyarrow for a plan in columns; run: pip install"):
        Plan.load(file)
    with pytest.raises(SettingError, match="expected pyarrow for a plan in columns"):
        PLAN.save(file)
