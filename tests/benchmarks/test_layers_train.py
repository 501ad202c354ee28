"""The table of what the layers learn: what is run, what is written, what counts as learned."""

import pytest
import torch
from torch.nn import functional as F

import norms
from benchmarks.layers_train import BATCH_SIZES, LOADERS, Run, accuracy, build, failures, load, runs, tables


@pytest.mark.parametrize("dataset", LOADERS)
@pytest.mark.parametrize("layer", norms.names())
def test_each_model_has_the_layer_and_a_gradient(dataset: str, layer: str) -> None:
    if layer == "instance" and dataset != "digits":
        assert Run(layer, dataset, 2, 0) not in set(runs(1, (layer,), (2,)))
        return
    x, y, _, _ = load(dataset, 0)
    model = build(Run(layer, dataset, 4, 0), x, int(y.max()) + 1)
    kind = norms.registry.get(layer)
    assert sum(isinstance(module, kind) for module in model.modules()) == (5 if dataset == "digits" else 2)
    torch.autograd.backward(F.cross_entropy(model(x[:4]), y[:4]))
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_all_is_run() -> None:
    planned = list(runs(5, norms.names(), BATCH_SIZES))
    assert len(planned) == len(set(planned)) == 5 * 4 * (3 * len(norms.names()) - 2)


def test_table_and_what_has_not_learned() -> None:
    results = {
        Run("batch", "wine", size, seed): value
        for size, both in ((2, (0.5, 0.6)), (8, (0.9, 1.0)))
        for seed, value in enumerate(both)
    }
    lines = tables(results).splitlines()
    assert "| layer | B = 2 | B = 8 |" in lines
    assert "| `batch` | 55.0 (50-60) | 95.0 (90-100) |" in lines
    assert failures(results) == []  # 71 of the 178 wines are of one class: 0.399 + 0.601 / 4 = 0.549 is enough
    assert failures({Run("batch", "wine", 2, 0): 0.54}) == ["batch on wine at B = 2: 0.540 < 0.549"]


def test_an_accuracy_is_of_the_test_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.layers_train.STEPS", {"wine": 60})
    assert accuracy(Run("layer", "wine", 8, 0)) > 0.8
    monkeypatch.setattr("benchmarks.layers_train.STEPS", {"wine": 0})
    assert accuracy(Run("layer", "wine", 8, 0)) < 0.8
