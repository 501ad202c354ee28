"""Ranks agree on a step's decision where a layer synchronizes across them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import norms
from assessor import assess
from clients import AssessedLoader, LoaderError

from .datasets import Pairs, two_sources

X, Y = two_sources(96)
DATASET = Pairs(X, Y)
PLAN = assess(X, batch_size=8)
ROOT = Path(__file__).parents[2]


def test_real_processes() -> None:
    """Gates around a layer that all-reduces: nothing hangs, and both ranks are told the same."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*command, "-m", "tests.clients.two_ranks"],
        capture_output=True,
        text=True,
        timeout=300,  # only so that one that hangs ends
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert "rank 0 done" in result.stdout
    assert "rank 1 done" in result.stdout


def shares(world_size: int, **options: Any) -> list[list[Any]]:
    loaders = [AssessedLoader(DATASET, 8, plan=PLAN, rank=r, world_size=world_size, **options) for r in range(3)]
    return [[decision for _, decision in loader.decisions()] for loader in loaders]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_plan_tells_every_rank_the_steps_decision(num_workers: int) -> None:
    """Without a process group: each rank knows the others' batches from the plan."""
    own = shares(3, shuffle="batches")
    together = shares(3, shuffle="batches", agree=True, num_workers=num_workers)
    overruled = 0
    for own_step, step in zip(zip(*own, strict=True), zip(*together, strict=True), strict=True):
        flagged = any(decision.normalize for decision in own_step)
        for before, after in zip(own_step, step, strict=True):
            assert (after.index, after.score, after.normalize) == (before.index, before.score, flagged)
            if flagged and not before.normalize:
                assert after.reason.startswith(before.reason)
                assert "of the same step, on another rank, is flagged" in after.reason
                overruled += 1
    assert overruled > 0


@pytest.mark.parametrize("synchronized", [True, False])
def test_a_synchronizing_gate_is_recognized(synchronized: bool) -> None:
    norm = nn.SyncBatchNorm(5) if synchronized else nn.BatchNorm1d(5)
    loaders = [AssessedLoader(DATASET, 8, plan=PLAN, rank=r, world_size=2) for r in range(2)]
    model = nn.Sequential(norms.AdaptiveNorm(norm))
    verdicts = []
    for loader in loaders:
        loader.attach(model)
        verdicts.append([decision.normalize for _, decision in loader.decisions()])
    assert (verdicts[0] == verdicts[1]) == synchronized


def test_agreement_can_be_left_out() -> None:
    loaders = [AssessedLoader(DATASET, 8, plan=PLAN, rank=r, world_size=2, agree=False) for r in range(2)]
    verdicts = []
    model = nn.Sequential(norms.AdaptiveNorm(nn.SyncBatchNorm(5)))
    for loader in loaders:
        loader.attach(model)
        verdicts.append([decision.normalize for _, decision in loader.decisions()])
    assert verdicts[0] != verdicts[1]


def test_ranks_that_cannot_ask_each_other() -> None:
    loader = AssessedLoader(DATASET, 8, plan=PLAN, reshuffle="samples", rank=0, world_size=2, agree=True)
    with pytest.raises(LoaderError, match=r"expected an initialized process group.*init_process_group"):
        list(loader)


def test_one_process_agrees_with_itself() -> None:
    both: list[dict[str, Any]] = [{}, {"reshuffle": "samples"}]
    for options in both:
        loader = AssessedLoader(DATASET, 8, plan=PLAN, agree=True, **options)
        plain = AssessedLoader(DATASET, 8, plan=PLAN, **options)
        assert [d for _, d in loader.decisions()] == [d for _, d in plain.decisions()]
