"""AssessedLoader on a plan in columns: each rank and each worker maps one file."""

from pathlib import Path

import numpy as np
import pytest

from assessor import assess
from assessor.execution import profile_sources
from assessor.plan_arrow import MappedPlan
from clients import AssessedLoader
from clients.epochs import batch_order

from .datasets import Pairs, two_sources

X, Y = two_sources()


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("rank", [0, 1])
def test_decisions_come_from_the_file(tmp_path: Path, num_workers: int, rank: int) -> None:
    plan = assess(X, batch_size=8, labels=Y, threshold="otsu")
    assert 0 < plan.flagged_fraction < 1
    plan.save(tmp_path / "plan.arrow")
    loader = AssessedLoader(
        Pairs(X, Y),
        8,
        plan=tmp_path / "plan.arrow",
        shuffle="batches",
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        rank=rank,
        world_size=2,
    )
    assert isinstance(loader.plan, MappedPlan)
    seen = 0
    for (x, _), decision in loader.decisions():
        members = slice(decision.index * 8, decision.index * 8 + 8)
        np.testing.assert_array_equal(x.numpy(), X[members])
        assert decision == plan[decision.index]
        seen += 1
    assert seen == len(loader)
    state = loader.state_dict()
    loader.load_state_dict(state)


@pytest.mark.parametrize("name", ["plan.json", "plan.arrow"])
def test_a_plan_of_several_sources_is_taken_for_the_rows_in_their_order(tmp_path: Path, name: str) -> None:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", X[number * 30 : number * 30 + 30])
    plan = profile_sources([f"{tmp_path}/*.npy"], batch_sizes=[8], engine="serial").plan(threshold="otsu")
    assert plan.source_order is not None
    plan.save(tmp_path / name)
    loader = AssessedLoader(Pairs(X, Y), plan=tmp_path / name, shuffle="batches")
    assert [d.normalize for _, d in loader.decisions()] == [
        plan.normalize[i] for i in batch_order(len(plan), seed=0, epoch=0).tolist()
    ]
    loader.load_state_dict(loader.state_dict())
