from collections import Counter
from pathlib import Path

import pytest

from benchmarks.study import files, parts
from benchmarks.study.__main__ import main
from benchmarks.study.records import Assessed, Finished, Result, read_all
from benchmarks.study.running import path_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the quick study smaller still: one cell of the grid, two arms, five steps."""
    monkeypatch.setattr(parts, "QUICK_COUNTS", {"grid": {"mlp": 1}, "sources": {}})
    monkeypatch.setattr(parts, "QUICK_ARMS", ("none", "need/identity"))
    monkeypatch.setattr(parts, "QUICK_STEPS", 5)


@pytest.mark.usefixtures("small")
def test_a_small_study_from_the_command_line_to_its_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = tmp_path / "documents"
    options = ["--quick", "--part", "grid", "--results", str(tmp_path), "--documents", str(documents)]
    assert main([*options, "--jobs", "1"]) == 0
    assert "1 of 1 cells" in capsys.readouterr().out
    records = list(read_all(path_of(tmp_path, "grid")))
    assert Counter(type(record) for record in records) == {Assessed: 2, Result: 2, Finished: 1}
    assert {record.arm for record in records if isinstance(record, Result)} == {"none", "need/identity"}
    assert (documents / "evidence.md").stat().st_size > 0
    assert (documents / "advice.json").stat().st_size > 0

    (documents / "evidence.md").unlink()
    before = path_of(tmp_path, "grid").read_bytes()
    assert main([*options, "--documents-only"]) == 0
    assert (documents / "evidence.md").exists()
    assert path_of(tmp_path, "grid").read_bytes() == before


@pytest.mark.usefixtures("small")
def test_documents_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no records in .*: run `python -m benchmarks.study` first"):
        main(["--quick", "--documents-only", "--results", str(tmp_path), "--documents", str(tmp_path / "documents")])
    assert not (tmp_path / "documents").exists()


def test_the_list_names_every_cell_and_runs_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--results", str(tmp_path / "results")]) == 0
    said = capsys.readouterr().out
    expected = [cell for part in parts.NAMES for cell in parts.cells(part)]
    assert said.count("Setting(") == len(expected)
    assert f"{len(expected)} cells" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--jobs", "0"], "--jobs: expected 1 or more, got 0"), (["--part", "rest"], "invalid choice: 'rest'")],
)
def test_wrong_options_are_told(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_cells_of_all_parts_take_turns() -> None:
    chosen = {part: parts.cells(part) for part in parts.NAMES}
    order = parts.in_turn(chosen)
    assert Counter(cell.setting for cell in order) == Counter(c.setting for each in chosen.values() for c in each)
    for part, each in chosen.items():
        assert [cell for cell in order if cell.setting.part == part] == each
        half = sum(cell.setting.part == part for cell in order[: len(order) // 2])
        assert abs(half - len(each) / 2) <= 1


def test_quick_has_every_part_and_every_network_of_the_grid() -> None:
    quick = [cell for part in parts.NAMES for cell in parts.cells(part, quick=True)]
    assert {cell.setting.part for cell in quick} == set(parts.NAMES)
    assert {cell.setting.network for cell in quick if cell.setting.part == "grid"} == set(parts.STEPS)
    assert all(cell.setting.steps <= parts.QUICK_STEPS and cell.seeds == parts.QUICK_SEEDS for cell in quick)


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_data_folder_that_is_none_is_refused(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent")
    monkeypatch.setenv(files.VARIABLE, absent if way == "variable" else "")
    with pytest.raises(SystemExit) as ended:
        main(["--list", *(["--data", absent] if way == "option" else [])])
    assert ended.value.code == 2
    assert f"to name a folder, got {absent!r}: make it, or unset the variable" in capsys.readouterr().err
