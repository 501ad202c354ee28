"""Every snippet of docs/training.md runs, in order, as one program."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from assessor import Plan
from clients import AssessedLoader

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "training.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)


def is_script(snippet: str) -> bool:
    return snippet.startswith("# train.py")


# what Lightning and torchdata say of torch's deprecations, and of the few workers that suffice here
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec.*:FutureWarning", "ignore:'set_vital' is deprecated")
@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning", "ignore::DeprecationWarning:lightning.*")
def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, object] = {"__name__": "training"}
    plain = [snippet for snippet in SNIPPETS if not is_script(snippet)]
    assert len(plain) >= 17
    for snippet in plain:
        exec(compile(snippet, str(DOCUMENT), "exec"), names)
    assert isinstance(names["loader"], AssessedLoader)


def test_script_runs_on_two_ranks(tmp_path: Path) -> None:
    """Real processes: the plan is made here, as the text says, and each rank loads it."""
    (script,) = [snippet for snippet in SNIPPETS if is_script(snippet)]
    ending = "from tests.process_group import check_ended\ncheck_ended()\n"
    (tmp_path / "train.py").write_text(script + ending, encoding="utf-8")
    names: dict[str, object] = {}
    data = textwrap.dedent(script.split("def main() -> None:\n")[1].split("\n\n")[0])
    exec("import torch\nfrom torch.utils.data import TensorDataset\n" + data, names)
    plan = AssessedLoader(names["dataset"], 16, shuffle="batches").plan
    assert isinstance(plan, Plan)
    plan.save(tmp_path / "plan.json")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*command, str(tmp_path / "train.py"), str(tmp_path / "plan.json")],
        capture_output=True,
        text=True,
        timeout=300,  # only so that one that hangs ends
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    # the ranks' lines may run into each other
    assert sorted(re.findall(r"rank (\d) of 2: 37 steps", result.stdout)) == ["0", "1"]
