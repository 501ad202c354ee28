"""Gates under DistributedDataParallel: what docs/norms.md says about decisions."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from norms import AdaptiveNorm, set_decision

WORKER = "tests.norms.distributed_worker"
ROOT = Path(__file__).parents[2]


def run(path: Path) -> list[dict[str, list[float]]]:
    """Return what the two workers printed."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", WORKER, str(rank), str(path / "rendezvous")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = []
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err
        printed.append(json.loads(out))
    return printed


def gradient() -> torch.Tensor:
    """The mean over the ranks of the gradient of the last batch, in one process."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), AdaptiveNorm("batch", num_features=4), nn.Linear(4, 1))
    set_decision(model, False)
    batches = torch.arange(32.0).reshape(2, 4, 4).sin()
    losses = torch.stack([model(x).square().mean() for x in batches])
    torch.autograd.backward(losses.mean())
    found = model.get_parameter("0.weight").grad
    assert found is not None
    return found.flatten()


def test_ranks_may_disagree(tmp_path: Path) -> None:
    """With a tensor, or with a bool and no gamma and beta, which a skipping rank would leave without gradient."""
    for found in run(tmp_path):
        for kind in ("tensor", "bool"):
            torch.testing.assert_close(torch.tensor(found[kind]), gradient())
