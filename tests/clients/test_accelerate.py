"""accelerate's `prepare` with our loader: the real package."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clients import AssessedLoader

from .datasets import Pairs, two_sources
from .recording import Recorder, numbers_of_told

accelerate = pytest.importorskip("accelerate", reason="needs normgauge[training]")

X, Y = two_sources()
DATASET = Pairs(X, Y)
PLAN = AssessedLoader(DATASET, 8, shuffle="batches").plan


def make(**options: Any) -> AssessedLoader:
    return AssessedLoader(DATASET, 8, plan=PLAN, shuffle="batches", **options)


def epochs(count: int) -> list[int]:
    loader = make()
    return [decision.index for _ in range(count) for _, decision in loader.decisions()]


def prepared(loader: Any) -> Any:
    model = Recorder(X.shape[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    accelerator = accelerate.Accelerator(cpu=True)
    return (accelerator, *accelerator.prepare(model, optimizer, loader))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_passes_through(num_workers: int) -> None:
    loader = make(num_workers=num_workers)
    accelerator, model, optimizer, passed = prepared(loader)
    assert passed is loader
    loader.attach(model)
    for _ in range(2):
        for x, y in loader:
            loss = torch.nn.functional.cross_entropy(model(x.to(accelerator.device)), y.to(accelerator.device))
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
    assert numbers_of_told(model.told, X, PLAN) == epochs(2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_plain_dataloader_is_prepared(num_workers: int) -> None:
    """accelerate reads a batch ahead; the decision comes with the batch all the same."""
    loader = make(num_workers=num_workers)
    _, model, _, dataloader = prepared(loader.dataloader)
    assert dataloader is not loader.dataloader
    loader.attach(model)
    for _ in range(2):
        for (x, _), decision in dataloader:
            loader.apply(decision)
            model(x)
    assert numbers_of_told(model.told, X, PLAN) == epochs(2)


SCRIPT = """
import sys
import accelerate, torch
from assessor import Plan
from clients import AssessedLoader, LoaderError
from tests.clients.test_accelerate import DATASET, PLAN
from tests.clients.recording import Recorder, numbers_of_told
from tests.clients.datasets import two_sources
from tests.process_group import leave


def main():
    accelerator = accelerate.Accelerator(cpu=True)
    loader = AssessedLoader(DATASET, 8, plan=PLAN, shuffle="batches")
    try:
        accelerator.prepare(loader.dataloader)
    except LoaderError as error:
        assert "has dealt them to 2 ranks" in str(error), error
    else:
        raise AssertionError("dealt out twice")
    recorder = Recorder(5)
    model, passed = accelerator.prepare(recorder, loader)
    assert passed is loader
    loader.attach(model)
    for x, y in loader:
        torch.nn.functional.cross_entropy(model(x), y).backward()
    numbers = numbers_of_told(recorder.told, two_sources()[0], PLAN)
    gathered = accelerator.gather(torch.tensor(numbers)).tolist()
    assert sorted(gathered) == list(range(12)), gathered
    print("done")


main()
leave()
"""


def test_two_processes_share_the_batches(tmp_path: Path) -> None:
    """Real processes: no batch twice, none left out, and a second dealing out is refused."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [*command, str(tmp_path / "script.py")],
        capture_output=True,
        text=True,
        timeout=300,  # only so that one that hangs ends
        check=False,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("done") == 2
