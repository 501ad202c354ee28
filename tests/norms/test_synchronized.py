"""Two processes over gloo that share statistics do what one process does with both their batches."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from norms import BatchLayerNorm, BatchNorm, LayerNorm, OptionError, convert, create, names, synchronize
from norms.base import RunningNorm
from tests.norms.synchronized_worker import outcome

ROOT = Path(__file__).parents[2]
WHOLE = {"examples_per_group": None}
# name, options, samples of the two ranks; of groups some lie on both.
LAYERS: list[tuple[str, dict[str, Any], list[int]]] = [
    ("batch", {}, [4, 4]),
    ("batch", {}, [1, 3]),
    ("batch", {"momentum": None}, [5, 2]),
    ("batch", {"track_running_stats": False}, [5, 2]),
    ("batch_layer", {}, [4, 4]),
    ("batch_layer", {"feature_dims": (1,)}, [1, 4]),
    ("ghost_batch", {"examples_per_group": 2}, [4, 3]),
    ("ghost_batch", {"examples_per_group": 2}, [3, 4]),
    ("ghost_batch", {"examples_per_group": 3}, [5, 2]),  # of (N, C) the seventh joins the group before it
    ("ghost_batch", {"examples_per_group": 16}, [1, 4]),
    ("batch_group", WHOLE | {"channels_per_group": 1}, [2, 5]),
    ("batch_group", WHOLE | {"channels_per_group": 2}, [2, 5]),
    ("batch_group", {"examples_per_group": 2}, [2, 5]),
    ("batch_group", {"examples_per_group": 4}, [3, 6]),
    ("batch_group", {"examples_per_group": 1}, [3, 2]),
    ("l1_batch", {}, [5, 2]),
    ("topk_batch", {"k": 3}, [5, 2]),
    ("topk_batch", {"k": 5}, [6, 1]),
    ("topk_batch", {"k": 100}, [1, 2]),
    ("linf_batch", {}, [2, 5]),
    ("mean_only", {}, [2, 5]),
    ("population", {}, [2, 5]),
    ("kalman", {}, [2, 5]),
    ("kalman", {"examples_per_group": 2}, [4, 3]),
    ("kalman", {"examples_per_group": 3}, [2, 5]),
    ("carried", {"gain": 0.3}, [2, 5]),
    ("carried", {"gain": 0.3, "examples_per_group": 2}, [4, 3]),
    ("carried", {"gain": 0.3, "examples_per_group": 3}, [4, 3]),
    ("carried", {"gain": 0.3, "learnable_gain": True, "examples_per_group": 3}, [1, 4]),
    ("drawn", {"gain": 0.3, "examples_per_group": 2}, [3, 4]),
    ("gated", {"flagged": True}, [2, 5]),
    ("gated", {"flagged": False}, [2, 5]),
]
CASES = {
    f"{name} {options} {sizes} rank {rank}": (name, options, sizes, rank)
    for name, options, sizes in LAYERS
    for rank in ((3,) if name in ("carried", "drawn") else (2, 4))
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The cases with their batches, and what each of the two processes found."""
    path = tmp_path_factory.mktemp("ranks")
    torch.manual_seed(0)
    cases = {}
    for key, (name, options, sizes, rank) in CASES.items():
        shape = (sum(sizes), 4, 3, 2)[:rank]
        cases[key] = name, options, sizes, [torch.randn(shape, dtype=torch.float64) * 2 + i for i in (1, 2)]
    torch.save(cases, path / "cases")
    arguments = [str(path / name) for name in ("rendezvous", "cases", "results")]
    command = [sys.executable, "-m", "tests.norms.synchronized_worker"]
    workers = [
        subprocess.Popen([*command, str(rank), *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=150)
        assert worker.returncode == 0, errors
    return cases, [torch.load(path / f"results.{rank}") for rank in range(2)]


@pytest.mark.parametrize("key", CASES)
def test_equal_to_one_process(key: str, shared: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    cases, found = shared
    name, options, _, batches = cases[key]
    parts = [results[key] for results in found]
    for entry, want in outcome(name, options, batches, shared=False).items():
        if entry in ("y", "first", "gradient"):
            got = torch.cat([part[entry] for part in parts])
        elif entry.startswith("gradient of"):
            got = parts[0][entry] + parts[1][entry]
        else:
            torch.testing.assert_close(parts[0][entry], parts[1][entry], rtol=0, atol=0)
            got = parts[0][entry]
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=f"{entry} of {key}")


def test_every_norm_with_running_statistics_is_among_the_cases() -> None:
    running = {name for name in names() if isinstance(create(name, 4), RunningNorm)}
    assert running == {name for name, _, _ in LAYERS} - {"carried", "drawn", "gated"}


def test_paths_and_undoing() -> None:
    model = nn.Sequential(BatchNorm(2), LayerNorm(2), nn.Sequential(BatchLayerNorm(2)))
    assert synchronize(model) == ("0", "2.0")
    assert all(norm.ranks is not None for norm in model.modules() if isinstance(norm, RunningNorm))
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert copied[0].ranks is not None
    synchronize(model, shared=False)
    assert all(norm.ranks is None for norm in model.modules() if isinstance(norm, RunningNorm))


def test_alone_it_is_the_plain_norm() -> None:
    x = torch.randn(5, 2)
    plain, alone = BatchNorm(2), BatchNorm(2)
    synchronize(alone)
    assert torch.equal(alone(x), plain(x))


def test_where_it_makes_no_sense() -> None:
    with pytest.raises(OptionError, match="got none: norms as layer, group, instance and rms are the same"):
        synchronize(nn.Sequential(LayerNorm(2), nn.Linear(2, 2)))
    with pytest.raises(
        OptionError, match=r"got torch's BatchNorm1d at 0: replace it by convert\(model, 'batch', own=True\)"
    ):
        synchronize(nn.Sequential(nn.BatchNorm1d(2)))
    with pytest.raises(OptionError, match="expected no authors=True; got it at the root"):
        synchronize(BatchLayerNorm(2, authors=True))
    assert synchronize(convert(nn.Sequential(nn.BatchNorm1d(2)), "batch", own=True).model) == ("0",)
