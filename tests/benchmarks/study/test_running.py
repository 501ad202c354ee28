import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.study.records import Finished, Record, Result, read, read_all
from benchmarks.study.running import Cell, path_of, run
from tests.benchmarks.study import counting
from tests.benchmarks.study.counting import ARMS, OPEN, SEEDS, cells

ROOT = Path(__file__).resolve().parents[3]
EXACT = {"sin": 1 - math.cos(1), "cos": math.sin(1), "exp": math.e - 1}


def kept(folder: Path) -> list[Record | Finished]:
    return [record for part in ("grid", "sources") for record in read_all(path_of(folder, part))]


def check_whole(folder: Path, expected: list[Cell]) -> None:
    """Every cell once: each arm's result, then its end, and the numbers are those of the integrals."""
    results = [record for record in kept(folder) if isinstance(record, Result)]
    assert Counter((record.setting, record.arm) for record in results) == {
        (cell.setting, arm): 1 for cell in expected for arm in ARMS
    }
    finished = [record for record in kept(folder) if isinstance(record, Finished)]
    assert Counter(record.setting for record in finished) == {cell.setting: 1 for cell in expected}
    for result in results:
        assert [run.seed for run in result.runs] == list(SEEDS)
        assert result.runs[0].accuracy[""] == pytest.approx(EXACT[result.arm], rel=1e-5)  # six digits are kept


@contextmanager
def started(folder: Path, gate: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the small study in a process of its own, in a process group of its own, as a terminal does.

    It stands still with `OPEN` cells finished and two begun, until the gate is gone.
    """
    gate.touch()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.study.counting", str(folder), str(gate)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or count_finished(folder) == OPEN)
            assert process.poll() is None
            yield process
        finally:
            gate.unlink(missing_ok=True)
            process.kill()


def count_finished(folder: Path) -> int:
    return sum(isinstance(record, Finished) for record in kept(folder))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_cell_is_run_once_and_a_second_run_runs_none(tmp_path: Path) -> None:
    assert run(cells(), tmp_path) == []
    check_whole(tmp_path, cells())
    before = [path_of(tmp_path, part).read_bytes() for part in ("grid", "sources")]
    assert run(cells(), tmp_path) == []
    assert [path_of(tmp_path, part).read_bytes() for part in ("grid", "sources")] == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    gate = tmp_path / "gate"
    with started(tmp_path, gate) as process:
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # what Ctrl-C does: parent and workers get it
        else:
            process.kill()
        process.wait(120)
        gate.unlink()
        _, said = process.communicate()
    assert process.returncode == -how
    # The workers speak of their parent's Ctrl-C in no traceback of their own.
    assert said.count("Traceback") == (how == signal.SIGINT)
    assert count_finished(tmp_path) == OPEN
    wait_until(lambda: not alive(process.pid))  # workers end by themselves
    held = {part: path_of(tmp_path, part).read_text() for part in ("grid", "sources")}
    assert run(cells(), tmp_path) == []
    check_whole(tmp_path, cells())
    for part, text in held.items():
        assert path_of(tmp_path, part).read_text().startswith(text)  # what was kept was not run again


def test_a_torn_line_and_what_stands_before_it_are_run_again(tmp_path: Path) -> None:
    run(cells(2), tmp_path)
    whole = path_of(tmp_path, "grid").read_text()
    path_of(tmp_path, "grid").write_text(whole[:-40])
    assert run(cells(2), tmp_path) == []
    check_whole(tmp_path, cells(2))


def test_a_failing_cell_is_told_and_the_others_are_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = cells(5)
    mixed[0] = replace(mixed[0], work=counting.divide)
    mixed[1] = replace(mixed[1], work=counting.leave)
    mixed[2] = replace(mixed[2], work=counting.stray)
    failures = {failure.setting: failure.reason for failure in run(mixed, tmp_path, jobs=1)}
    assert set(failures) == {cell.setting for cell in mixed[:3]}
    assert "ZeroDivisionError: at batch size 1" in failures[mixed[0].setting]
    assert "exit code 7" in failures[mixed[1].setting]
    assert "expected records of" in failures[mixed[2].setting]
    check_whole(tmp_path, mixed[3:])
    told = (tmp_path / "failures.txt").read_text()
    assert all(reason in told for reason in failures.values())
    assert "ZeroDivisionError: at batch size 1" in capsys.readouterr().out

    assert run(cells(5), tmp_path) == []  # mended
    check_whole(tmp_path, cells(5))
    assert not (tmp_path / "failures.txt").exists()


@pytest.mark.parametrize("change", ["arms", "seeds", "steps"])
def test_a_changed_cell_is_run_again_and_its_old_records_go(tmp_path: Path, change: str) -> None:
    old = cells(3)
    if change == "arms":
        old[1] = replace(old[1], arms=("sin",))
    elif change == "seeds":
        old[1] = replace(old[1], seeds=(1,))
    else:
        old[1] = replace(old[1], setting=replace(old[1].setting, steps=7))
    run(old, tmp_path)
    untouched = path_of(tmp_path, "grid").read_bytes()
    run(cells(3), tmp_path)
    check_whole(tmp_path, cells(3))
    assert path_of(tmp_path, "grid").read_bytes() == untouched


def test_finished_cells_that_are_not_asked_for_stay(tmp_path: Path) -> None:
    run(cells(6), tmp_path)
    run(cells(2), tmp_path)
    check_whole(tmp_path, cells(6))


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with started(tmp_path, gate) as process:
        with pytest.raises(BlockingIOError, match="another run writes to"):
            run(cells(), tmp_path)
        gate.unlink()
        process.communicate()
    assert process.returncode == 0
    check_whole(tmp_path, cells())


def test_a_finished_cell_says_under_what(tmp_path: Path) -> None:
    run(cells(1), tmp_path)
    (finished,) = (record for record in kept(tmp_path) if isinstance(record, Finished))
    assert (finished.arms, finished.seeds, finished.device) == (ARMS, SEEDS, "cpu")
    assert set(finished.versions) == {"python", "torch"}
    assert finished.date.endswith("+00:00")
    assert len(list(read(path_of(tmp_path, "grid")))) == len(ARMS)
