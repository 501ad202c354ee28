"""How far a run is: lines where standard error is no terminal, now and then."""

import re
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from app.progress import LINES_APART_S, Meter


class Clock:
    """Stands still until it is told a time."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_line_at_most_so_often(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    meter = Meter(show=True, clock=clock)
    meter.begin("looking", 40, 10, "sources")
    lines = []
    for passed_s, n in ((1, 5), (LINES_APART_S - 0.1, 5), (LINES_APART_S, 10), (LINES_APART_S + 1, 1)):
        clock.now_s = 1000 + passed_s
        meter.advance(n)
        lines.append(capsys.readouterr().err)
    assert lines == ["", "", "normgauge: looking: 30 sources of 40 sources (75%), 0.7 sources/s, 00:15 left\n", ""]
    # Of the next stretch the first line comes as long after the last one, whenever it begins.
    meter.begin("reading", 8 << 30, 2 << 30, "B")
    for passed_s in (LINES_APART_S + 2, 2 * LINES_APART_S - 0.1):
        clock.now_s = 1000 + passed_s
        meter.advance(1 << 30)
    assert capsys.readouterr().err == ""
    clock.now_s = 1000 + LINES_APART_S + 1 + 512
    meter.advance(0)
    assert capsys.readouterr().err == "normgauge: reading: 4.00GB of 8.00GB (50%), 4.00MB/s, 17:04 left\n"


def test_nothing_is_divided_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    meter = Meter(show=True, clock=clock)
    clock.now_s += LINES_APART_S
    meter.begin("reading", 0, 0, "B")
    meter.advance(0)
    assert capsys.readouterr().err == "normgauge: reading: 0.00B of 0.00B (100%), 0.00B/s, ? left\n"
    clock.now_s += LINES_APART_S
    meter.advance(2000)  # more than was expected
    assert "00:00 left" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["x.npy"], ["x.npy", "--engine", "serial"], ["x.npy", "--engine", "processes"]])
def test_commands_tell_it_in_lines(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((400, 3000)).astype(np.float32))
    arguments = ["assess", *command, "--batch-size", "8", "--json"]
    monkeypatch.setattr("app.progress.LINES_APART_S", float("inf"))
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("app.progress.LINES_APART_S", 0.0)
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(re.fullmatch(r"normgauge: (looking|reading): .* of .* \(\d+%\), .*/s, .* left", line) for line in lines)
    assert re.fullmatch(r"normgauge: reading: 4\.58MB of 4\.58MB \(100%\), .*", lines[-1])
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
