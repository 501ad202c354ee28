"""torch.compile: one graph a mode, whatever the batch size; at most two for a gated model in training."""

import copy

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
from torch import nn

from norms import AdaptiveNorm, adapt_input, create, names, set_decision
from norms.statistics import copied

RULE = {"measure": "standard_divergence", "cutoff": 1.0, "constant_log_variance": -1.0}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
@pytest.mark.parametrize("name", names())
def test_one_graph_a_mode(name: str) -> None:
    norm = create(name, 6)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(norm, backend=counter, fullgraph=True, dynamic=True)
    for mode in (True, False):
        norm.train(mode)
        for b in (8, 10, 16):  # even: a last group that is not full takes a graph of its own
            assert compiled(torch.randn(b, 6, 3)).shape == (b, 6, 3)
    assert counter.frame_count <= 2


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
@pytest.mark.parametrize("name", names())
def test_compiled_gradients_and_buffers_are_those_of_eager(name: str) -> None:
    norm = create(name, 6)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    eager = copy.deepcopy(norm)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        x = (torch.randn(8, 6, 5) * 2 + 1).requires_grad_()
        g = torch.randn_like(x)
        twin = x.detach().clone().requires_grad_()
        torch.autograd.backward(compiled(x), g)
        torch.autograd.backward(eager(twin), g)
        torch.testing.assert_close(x.grad, twin.grad)
    for p, q in zip(norm.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-4)  # sums of 80 values, some units each
    for a, b in zip(norm.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
@pytest.mark.parametrize("name", ["group", "batch_group"])
def test_groups_of_channels_in_channels_last_keep_cells_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("norms.pooled.LARGE_SAMPLE", 1)
    norm = create(name, 6)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    wide = copy.deepcopy(norm).double()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(norm, backend=counter, fullgraph=True)
    x = (torch.randn(8, 6, 5, 3) * 2 + 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    g = torch.randn_like(x)
    twin = x.detach().double().requires_grad_()
    torch.autograd.backward(compiled(x), g)
    torch.autograd.backward(wide(twin), g.double())
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), twin.grad, rtol=1e-5, atol=1e-5)
    for p, q in zip(norm.parameters(), wide.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad.double(), q.grad, rtol=1e-5, atol=1e-4)  # sums of 120 values, some units each
    assert counter.graphs[0].print_readable(print_output=False).count("normgauge.copied") == 4


def test_a_gated_model_has_two_graphs_in_training_and_one_in_evaluation() -> None:
    hidden = nn.Sequential(nn.Linear(6, 4), AdaptiveNorm("batch", num_features=4))
    model = adapt_input(hidden, 6, rule=RULE | {"constant_features": [0]})
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for normalize in (True, False, True, False):
        set_decision(model, normalize)
        for b in (8, 9, 16):
            compiled(torch.randn(b, 6))
    assert counter.frame_count == 2
    model.eval()
    for b in (8, 9, 16):
        for x in (torch.randn(b, 6), torch.randn(b, 6) * 3 + 9):
            torch.testing.assert_close(compiled(x), model(x))
    assert counter.frame_count == 3


def test_the_copy_that_a_compiler_cannot_see_through_is_an_operator_in_order() -> None:
    torch.library.opcheck(copied, (torch.randn(2, 3, requires_grad=True),))
