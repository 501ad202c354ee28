"""What is done beside a norm in the same readings: residual sum, relu and gate, on each path and compiled."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
from torch import Tensor, nn

from norms import AdaptiveNorm, InputError, create, names, set_decision
from norms.base import ChannelNorm
from norms.beside import Beside
from norms.dispatch import Path, use_kernel
from norms.distances import scaled_norm
from norms.kernels import cells as kernels
from tests.norms.tolerances import TOLERANCE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = (4, 6, 5, 3)
TRAINED = [n for n in names() if n != "none"]
# Each layer that calls the kernels in its own way; ghost, layer, instance and L-infinity norm inherit theirs.
OWN = ["batch", "batch_layer", "batch_group", "group", "rms", "l1_batch", "topk_batch", "population"]
SCALES = ("l1_batch", "topk_batch", "linf_batch")
DYNAMO = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
OPTIONS: dict[str, dict[str, Any]] = {"group": {"num_groups": 2}, "ghost_batch": {"examples_per_group": 2}}


def made(name: str, path: Path | None = None) -> ChannelNorm:
    norm = create(name, 6, **OPTIONS.get(name, {})).to(DEVICE)
    assert isinstance(norm, ChannelNorm)
    norm.kernel = path
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return norm


def data(dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(SHAPE, device=DEVICE) * 2 + 1).to(dtype)


def trained(norm: Callable[..., Any], x: Tensor, g: Tensor, of: nn.Module | None = None, **beside: Any) -> list[Tensor]:
    """Output, gradients and buffers (those `of` what was compiled) after one batch."""
    leaf = x.detach().clone().requires_grad_()
    y = norm(leaf, **beside)
    torch.autograd.backward(y, g.to(y.dtype))
    module = norm if of is None else of
    assert isinstance(module, nn.Module)
    found = [y, leaf.grad, *(p.grad for p in module.parameters()), *module.buffers()]
    return [t.detach().double() for t in found if t is not None]


def wide(norm: ChannelNorm) -> ChannelNorm:
    """A copy in float64 on the plain path."""
    twin = copy.deepcopy(norm).double()
    twin.kernel = "plain"
    return twin


def close(got: list[Tensor], want: list[Tensor], dtype: torch.dtype = torch.float32) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("name", "dtype"),
    # The kernels themselves are tested in both dtypes; of layers, those that do more in half precision than call them.
    [(n, torch.float32) for n in TRAINED] + [(n, torch.bfloat16) for n in (*SCALES, "population", "batch_layer")],
)
def test_layers_by_kernels_are_the_plain_path_in_float64(name: str, dtype: torch.dtype) -> None:
    last = torch.channels_last if dtype == torch.bfloat16 else torch.contiguous_format
    x, g = data(dtype).contiguous(memory_format=last), data(dtype).contiguous(memory_format=last)
    norm = made(name, "triton")
    want = trained(wide(norm), x.double(), g.double())
    got = trained(norm, x, g)
    if name == "topk_batch" and dtype == torch.bfloat16:
        got[1] = want[1]  # of equal distances any may be picked
    close(got, want, dtype)


@pytest.mark.parametrize(
    ("name", "path"),
    [(n, None) for n in names()] + [(n, "triton") for n in (*OWN, "mean_only", "kalman")],
)
def test_residual_and_relu(name: str, path: Path | None) -> None:
    x, g, residual = data(), data(), data().requires_grad_()
    norm = made(name, path)
    twin = wide(norm)
    other = residual.detach().double().requires_grad_()
    leaf = x.double().requires_grad_()
    y = (twin(leaf) + other).clamp(min=0)
    torch.autograd.backward(y, g.double())
    found = [y, leaf.grad, *(p.grad for p in twin.parameters()), *twin.buffers()]
    close(trained(norm, x, g, residual=residual, relu=True), [t.detach().double() for t in found if t is not None])
    assert residual.grad is not None
    assert other.grad is not None
    close([residual.grad.double()], [other.grad])
    norm.eval()
    twin.eval()
    close([norm(x, residual=x, relu=True).double()], [(twin(x.double()) + x.double()).clamp(min=0)])


@pytest.mark.parametrize("name", ["batch", "batch_layer", "l1_batch", "batch_group"])
def test_fused_checks_its_input_as_the_norm_does(name: str) -> None:
    with pytest.raises(InputError, match=r"expected an input \(N, 6, \*\); got shape \(4, 5\)"):
        made(name)(torch.ones(4, 5, device=DEVICE), relu=True)


@pytest.mark.parametrize("path", [None, "triton"])
def test_a_residual_has_the_shape_of_the_input_and_the_result_its_dtype(path: Path | None) -> None:
    x = data(torch.bfloat16)
    norm = made("batch_layer", path)
    # One sample has the strides of many: a kernel would read behind its end.
    with pytest.raises(
        InputError, match=r"expected a residual of the input's shape \(4, 6, 5, 3\); got \(1, 6, 5, 3\)"
    ):
        norm(x, residual=x[:1])
    residual = data()
    y = norm(x, residual=residual)
    assert y.dtype == torch.bfloat16
    close([y.double()], [wide(norm)(x.double()) + residual.double()], torch.bfloat16)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy, in the interpreter, at NaN
@pytest.mark.parametrize("name", [n for n in OWN if n != "topk_batch"])  # whose kernels read no gate
def test_the_kernels_read_the_gate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: Any) -> Tensor:
        raise AssertionError("both paths are computed")

    monkeypatch.setattr("norms.adaptive.update_where", refuse)
    norm = made(name, "triton")
    gate, twin = AdaptiveNorm(norm), wide(norm)
    decision = torch.tensor(True, device=DEVICE)
    set_decision(gate, decision)
    x, g = data(), data()
    close(trained(gate, x, g), trained(twin, x.double(), g.double()))
    decision.fill_(False)
    gate.zero_grad()
    x[0, 0] = torch.nan
    y, dx, *_ = trained(gate, x, g)
    torch.testing.assert_close(y, x.double(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(dx, g.double())
    assert all(p.grad is not None and not p.grad.any() for p in gate.parameters())
    close([b.double() for b in gate.buffers()], [b.double() for b in twin.buffers()])  # as the first batch left them


def test_a_gate_over_elements_and_in_evaluation() -> None:
    rule = {"measure": "standard_divergence", "cutoff": 1.0}
    norm = create("batch", 90).to(DEVICE)
    norm.kernel = "triton"  # type: ignore[assignment]  # a ChannelNorm
    gate = AdaptiveNorm(norm, features="element", rule=rule)
    set_decision(gate, torch.tensor(True, device=DEVICE))
    x = data()
    want = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(gate(x), want, rtol=1e-4, atol=1e-4)
    before = [b.clone() for b in gate.buffers()]
    gate.eval()
    for opened in (True, False):
        y = gate.apply_verdict(x, torch.tensor(opened, device=DEVICE))
        torch.testing.assert_close(y, want if opened else x, rtol=1e-4, atol=1e-4)
    gate.evaluation = "running"
    by_running = gate.apply_verdict(x, torch.tensor(True, device=DEVICE))
    torch.testing.assert_close(by_running, norm(x.flatten(1)).reshape(x.shape))
    assert all(torch.equal(a, b) for a, b in zip(before, gate.buffers(), strict=True))


def test_a_frozen_norm_in_a_gate_uses_its_running_statistics() -> None:
    norm = made("batch", "triton").eval()
    gate = AdaptiveNorm(norm).train()
    norm.eval()
    set_decision(gate, torch.tensor(True, device=DEVICE))
    x = data()
    torch.testing.assert_close(gate(x), norm(x))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy, in the interpreter, at NaN
def test_a_shut_gate_of_a_scale_leaks_nothing() -> None:
    x = data().requires_grad_()
    weight = torch.ones(6, device=DEVICE, requires_grad=True)
    beside = Beside(relu=True, gate=torch.tensor(False, device=DEVICE))
    y = scaled_norm(x, weight, None, factor=1.0, largest=None, eps=0.0, beside=beside, kernel="triton").y
    assert torch.equal(y, x.relu())
    torch.autograd.backward(y, torch.ones_like(y))
    assert torch.equal(x.grad, (x > 0).float())  # type: ignore[arg-type]  # it has one
    assert not weight.grad.any()  # type: ignore[union-attr]  # it has one


def test_the_operators_of_distances() -> None:
    x = data().flatten(2)[:2, :3].contiguous().requires_grad_()
    mean = torch.randn(2, 3, device=DEVICE, requires_grad=True)
    fixed = [x.detach(), *(torch.randn(2, 3, device=DEVICE) for _ in range(4))]
    torch.library.opcheck(kernels.cell_distances, (x, mean, torch.tensor(True, device=DEVICE)))
    torch.library.opcheck(kernels.cell_gradient, (x.detach(), *fixed, None, None, True))
    far, signs = kernels.cell_distances(x, mean)
    pair = [t.detach().double().requires_grad_() for t in (x, mean)]
    rest = pair[0] - pair[1][..., None]
    close([far.double(), signs.double()], [rest.abs().mean(2), rest.sign().sum(2)])
    g = torch.randn_like(far)
    got = torch.autograd.grad(far, (x, mean), g)
    close([t.double() for t in got], list(torch.autograd.grad(rest.abs().mean(2), pair, g.double())))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
def test_distances_in_parts(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("norms.kernels.launch.TILE", 32)
    monkeypatch.setattr("norms.kernels.launch.ROW", 8)
    x = torch.randn(2, 3, 10, 7, device=DEVICE).contiguous(memory_format=layout)
    mean = torch.randn(2, 3, 1, 1, device=DEVICE)
    rest = x.double() - mean.double()
    far, signs = kernels.distances(x, mean)
    close([far.double(), signs.double()], [rest.abs().mean((2, 3), True), rest.sign().sum((2, 3), True)])


@DYNAMO
@pytest.mark.parametrize("name", ["batch_layer", "topk_batch", "population"])  # batch and L1 below
def test_kernels_within_a_compiled_graph(name: str) -> None:
    """Under aot_eager, which runs the operators as they are; Inductor would compile what lies between."""
    torch._dynamo.reset()
    norm = made(name, "triton")
    x, g, residual = data(), data(), data()
    want = trained(wide(norm), x.double(), g.double(), residual=residual.double(), relu=True)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    got = trained(compiled, x, g, norm, residual=residual, relu=True)
    close(got, want)


@DYNAMO
def test_a_gate_within_one_compiled_graph() -> None:
    torch._dynamo.reset()
    gate = AdaptiveNorm(made("l1_batch", "triton"))
    eager = copy.deepcopy(gate)
    decision = torch.tensor(True, device=DEVICE)
    set_decision(gate, decision)
    set_decision(eager, decision)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(gate, backend=counter, fullgraph=True)
    for opened in (True, False):
        decision.fill_(opened)
        x, g = data(), data()
        gate.zero_grad()
        eager.zero_grad()
        close(trained(compiled, x, g, gate), trained(eager, x, g))
    assert counter.frame_count == 1


@DYNAMO
def test_use_kernel_reaches_a_compiled_layer() -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(made("batch"), backend=counter, fullgraph=True)
    with use_kernel("triton"):
        compiled(data())
    assert "cell_moments" in counter.graphs[0].print_readable(print_output=False)
