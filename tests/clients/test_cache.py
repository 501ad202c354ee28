"""Plans kept across runs: found again for the same content, and not for another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assessor import Plan
from clients import AssessedLoader, RandomSampleWarning
from clients.cache import SAMPLES_READ

from .datasets import Pairs, two_sources

X, Y = two_sources()


class Counting(Pairs):
    """Counts what is read."""

    reads = 0

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.reads += 1
        return super().__getitem__(index)


def assessed(folder: Path, dataset: Any = None, batch_size: int = 8, **options: Any) -> tuple[Plan, int]:
    """The plan, and how many samples were read for it."""
    counting = Counting(X, Y) if dataset is None else dataset
    plan = AssessedLoader(counting, batch_size, cache=folder, **options).plan
    return plan, counting.reads


def test_a_kept_plan_costs_a_look_at_the_data(tmp_path: Path) -> None:
    x, y = two_sources(2000)
    first, reads = assessed(tmp_path, Counting(x, y))
    again, fewer = assessed(tmp_path, Counting(x, y))
    assert again.to_json() == first.to_json()
    assert reads > 2000
    assert fewer == SAMPLES_READ
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


OTHER = X.copy()
OTHER[77, 3] += 1


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": Counting(OTHER, Y)},
        {"dataset": Counting(X, Y + 1)},
        {"dataset": Counting(X[:89], Y[:89])},
        {"batch_size": 9},
        {"drop_last": True},
        {"seed": 1},
        {"shuffle": False},
        {"method": "published"},
        {"threshold": 0.5},
        {"method": "heterogeneity", "method_options": {"null": "normal"}},
        {"input_key": lambda sample: sample[0] * 2},
        {"label_key": 1},
        {"cache_key": "v2"},
        {"sampler": list(range(89, -1, -1))},
    ],
)
def test_what_assesses_again(change: dict[str, Any], tmp_path: Path) -> None:
    assessed(tmp_path)
    plan, _ = assessed(tmp_path, **change)
    arguments = {name: value for name, value in change.items() if name != "dataset"}
    size = arguments.pop("batch_size", 8)
    want = AssessedLoader(change.get("dataset", Pairs(X, Y)), size, cache=False, **arguments).plan
    assert plan.to_json() == want.to_json()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_sampler_finds_its_plan(tmp_path: Path) -> None:
    """The file holds the name of the ids, and the loader the ids."""
    ids = list(range(89, -1, -1))
    assessed(tmp_path, sampler=ids)
    loader = AssessedLoader(Counting(X, Y), 8, sampler=ids, cache=tmp_path)
    assert [decision for _, decision in loader.decisions()] == list(loader.plan)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_datasets_own_fingerprint_counts(tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        dataset: Any = Counting(X, Y)
        dataset._fingerprint = name  # as Hugging Face datasets have
        assessed(tmp_path, dataset)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_can_be_set_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMGAUGE_CACHE_DIR", str(tmp_path / "plans"))
    assert AssessedLoader(Pairs(X, Y), 8).plan
    assert AssessedLoader(Pairs(X, Y), 8, cache=False, seed=2).plan
    assert len(list((tmp_path / "plans").iterdir())) == 1
    monkeypatch.delenv("NORMGAUGE_CACHE_DIR")
    monkeypatch.chdir(tmp_path)
    assert AssessedLoader(Pairs(X, Y), 8, seed=3).plan
    assert [path.name for path in tmp_path.iterdir()] == ["plans"]


@pytest.mark.parametrize("content", ["", "{}", "no plan"])
def test_a_damaged_file_assesses_again(content: str, tmp_path: Path) -> None:
    first, _ = assessed(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(content, encoding="utf-8")
    again, reads = assessed(tmp_path)
    assert again.to_json() == first.to_json() == file.read_text(encoding="utf-8")
    assert reads > 90


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan itself is not lost: the pass over the data may have taken long."""

    def refuse(self: Plan) -> str:
        raise OSError("full")

    monkeypatch.setattr(Plan, "to_json", refuse)
    with pytest.warns(RuntimeWarning, match="could not be kept in .*: full"):
        assert len(assessed(tmp_path)[0]) == 12
    assert list(tmp_path.iterdir()) == []


def test_random_samples_never_find_a_plan(tmp_path: Path) -> None:
    class Augmented(Counting):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.x[index] + torch.randn(1), 0

    for _ in range(2):
        torch.rand(1)  # the generators are left as they were, so the next look would be the same
        with pytest.warns(RandomSampleWarning):
            assessed(tmp_path, Augmented(X, Y))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_generators_are_left_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    assessed(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.isfinite(X).all()
