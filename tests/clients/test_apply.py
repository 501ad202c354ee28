"""Gates follow the loader."""

import gc

import pytest
import torch
from torch import nn

import norms
from clients import AssessedLoader, LoaderError

from .datasets import Pairs, two_sources

X, Y = two_sources()
DATASET = Pairs(X, Y)


def model() -> nn.Module:
    return norms.adapt_input(nn.Linear(5, 2), 5)


def test_attach_sets_gates_and_the_rule() -> None:
    loader = AssessedLoader(DATASET, 8, shuffle=False, threshold=0.75)
    first, second = model(), nn.Sequential(norms.AdaptiveNorm("batch", num_features=5))
    loader.attach(first)
    loader.attach(second)
    for net in (first, second):
        assert all(gate.rule.cutoff == 0.75 for gate in norms.gates(net))
    for batch in loader:
        del batch
        assert loader.decision is not None
        for net in (first, second):
            assert all(gate.decision is loader.decision.normalize for gate in norms.gates(net))


def test_detached_models_are_let_be() -> None:
    loader = AssessedLoader(DATASET, 8)
    net = model()
    loader.attach(net)
    loader.detach(net)
    list(loader)
    assert all(gate.decision is None for gate in norms.gates(net))


def test_the_loader_keeps_no_model_alive() -> None:
    loader = AssessedLoader(DATASET, 8)
    loader.attach(model())
    gc.collect()
    assert len(list(loader)) == 12
    assert len(loader._models.following) == 0


def test_a_model_without_gates() -> None:
    with pytest.raises(LoaderError, match=r"at least one gate .*; Linear has none. Put one in front"):
        AssessedLoader(DATASET, 8).attach(nn.Linear(5, 2))


def test_evaluation_decides_as_the_plan() -> None:
    loader = AssessedLoader(DATASET, 8, shuffle="batches")
    net = norms.adapt_input(nn.Identity(), 5)
    loader.attach(net)
    net.eval()
    for (x, _), decision in loader.decisions():
        assert torch.equal(net(x), x) != decision.normalize


def test_training_under_the_plan() -> None:
    """A skipped batch passes the gate untouched; a flagged one leaves it standardized."""
    loader = AssessedLoader(DATASET, 8, shuffle="batches")
    net = norms.adapt_input(nn.Identity(), 5)
    loader.attach(net)
    verdicts = set()
    for x, _ in loader:
        assert loader.decision is not None
        verdicts.add(loader.decision.normalize)
        if loader.decision.normalize:
            torch.testing.assert_close(net(x).mean(0), torch.zeros(5), atol=1e-5, rtol=0)
        else:
            assert net(x) is x
    assert verdicts == {True, False}
