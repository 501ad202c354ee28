"""docs/cli.md: its examples run as written, and its table of exit statuses is the code's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from app import outcome
from tests.app.support import npy

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cli.md").read_text()


def examples() -> list[tuple[str, list[str]]]:
    """Return each command with the lines that stand below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def check_output(lines: list[str], out: str) -> None:
    """Check that the lines come in the output in this order; "..." stands for anything."""
    pattern = r"\s*".join(r".*?" if line == "..." else re.escape(line).replace(r"\.\.\.", "[^\n]*") for line in lines)
    assert re.fullmatch(pattern + r"\s*", out, re.S), (lines, out)


def test_examples(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(400, 24))
    x[200:] = x[200:] * 3 + 2
    (tmp_path / "train.npy").write_bytes(npy(x.astype(np.float32)))
    (tmp_path / "labels.csv").write_text("label\n" + "\n".join(str(i % 10) for i in range(400)))
    command = f'normgauge() {{ "{sys.executable}" -m app "$@"; }}\n'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # One shell for all, so that $? is that of the command before; a mark parts the outputs.
    script = command + "".join(f"( exit $status )\n{line}\nstatus=$?; echo ====\n" for line, _ in examples())
    done = subprocess.run(
        ["bash", "-c", "status=0\n" + script + "exit 0"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    outputs = done.stdout.split("====\n")[:-1]
    assert len(outputs) == len(examples()) > 15
    for (_, lines), out in zip(examples(), outputs, strict=True):
        check_output(lines, out)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"plan.json", "need-8.json", "published-16.json", "plan.jsonl", "train.profile", "report.html"} <= written
    assert {"report.png", "plan.html", "cutoff-fixed(0.5).json"} <= written
    assert not [name for name in written if name.endswith(".part")]


def test_statuses() -> None:
    documented = {int(status) for status in re.findall(r"^\| (\d+) \|", TEXT, re.M)}
    assert documented == {
        outcome.DONE,
        outcome.FAILED,
        outcome.USAGE,
        outcome.FLAGGED,
        outcome.UNDECIDED,
        outcome.INTERRUPTED,
    }
