"""The document: of planted records, of some parts only, of none."""

import re
from pathlib import Path

import pytest

from benchmarks.study import document
from benchmarks.study.records import Record, Setting
from tests.benchmarks.study import synthetic


def test_all_plots_that_are_shown_are_there_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "old.png").write_bytes(b"")
    document.write([*synthetic.grid(), *synthetic.sources()], tmp_path, quick=False)
    text = (tmp_path / "evidence.md").read_text()
    shown = set(re.findall(r"\(evidence/(\w+\.png)\)", text))
    assert shown == {path.name for path in (tmp_path / "evidence").glob("*")}
    assert all((tmp_path / "evidence" / name).read_bytes().startswith(b"\x89PNG") for name in shown)
    assert "change to standardize" in text
    assert "The cells of grid are a choice out of " in text
    assert "batch size 2: 12, 4: 12, 16: 8, 32: 8" in text
    assert text.count("Not run yet.") == 1
    assert "nan" not in text.lower().replace("finance", "")
    for line in text.splitlines():
        if line.startswith("|--"):
            assert set(line) <= set("|-:")


@pytest.mark.parametrize("quick", [True, False])
def test_what_was_not_run_is_said(tmp_path: Path, quick: bool) -> None:
    document.write([], tmp_path, quick=quick)
    text = (tmp_path / "evidence.md").read_text()
    assert text.count("Not run yet.") == 8
    assert ("A quick run" in text) == quick


def test_a_few_cells_and_seeds_are_enough_to_write(tmp_path: Path) -> None:
    cell = Setting("grid", "wine", "raw", "mlp", 4, "sgd", 10)
    records: list[Record] = [synthetic.assessed(cell, 1, 3.0)]
    records += [synthetic.result(cell, arm, {1: 70.0}) for arm in ("none", "batch", "need/identity")]
    document.write(records, tmp_path, quick=True)
    assert "3. Does following the plan help?" in (tmp_path / "evidence.md").read_text()
