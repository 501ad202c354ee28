"""AssessedLoader on a plan in columns: each rank and each worker maps one file."""

from pathlib import Path

import numpy as np
import pytest

from assessor import assess
from assessor.plan_arrow import MappedPlan
from clients import AssessedLoader

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
