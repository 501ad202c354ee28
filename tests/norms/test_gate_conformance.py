"""What is asked of every layer, asked of gates: around batch statistics, sample statistics and both, told anything."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

from norms import AdaptiveNorm, InputError
from tests.norms.tolerances import TOLERANCE

C = 4
INNER = ["batch", "layer", "batch_layer", "l1_batch"]
DECISIONS: dict[str, Any] = {
    "yes": True,
    "no": False,
    "tensor yes": torch.tensor(True),
    "tensor no": torch.tensor(False),
}
EVALUATIONS: list[Any] = ["threshold", "running", "batch", "never"]


def gate(inner: str, decision: Any = None, **options: Any) -> AdaptiveNorm:
    made = AdaptiveNorm(inner, num_features=C, **options)
    made.decision = decision
    return made


def data(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (5, C, 3, 2)), generator=generator) * 3 + 2


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("told", DECISIONS)
def test_first_and_second_derivatives(inner: str, told: str) -> None:
    made = gate(inner, DECISIONS[told], **({} if inner == "layer" else {"momentum": 0.0})).double()
    x = data(4, C, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(made, (x,))
    assert torch.autograd.gradgradcheck(made, (x,))
    assert torch.autograd.gradcheck(made.eval(), (x,))


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("told", DECISIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(inner: str, told: str, dtype: torch.dtype) -> None:
    made = gate(inner, DECISIONS[told])
    x = data().to(dtype) * 0.5
    wide = copy.deepcopy(made).double()(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = copy.deepcopy(made)(x)
    for found in (y, made(x)):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), wide, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("told", DECISIONS)
def test_memory_format_is_kept(inner: str, told: str) -> None:
    x = data().contiguous(memory_format=torch.channels_last)
    made = gate(inner, DECISIONS[told])
    assert made(x).is_contiguous(memory_format=torch.channels_last)
    assert made.eval()(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("told", DECISIONS)
def test_activation_checkpoint_updates_once(told: str, reentrant: bool) -> None:
    plain, checked = gate("batch", DECISIONS[told]), gate("batch", DECISIONS[told])
    x = data().requires_grad_()
    (want,) = torch.autograd.grad(plain(x).square().sum(), x)
    torch.autograd.backward(checkpoint(checked, x, use_reentrant=reentrant).square().sum())
    torch.testing.assert_close(x.grad, want)
    for key, value in plain.state_dict().items():
        assert torch.equal(checked.state_dict()[key], value)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_export_functional_call_vmap_and_copies_in_evaluation(inner: str, evaluation: Any) -> None:
    made = gate(inner, True, evaluation=evaluation)
    made(data(seed=1))
    made.eval()
    x = data()
    want = made(x)
    tensors = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    torch.testing.assert_close(torch.export.export(made, (x,)).module()(x), want)
    torch.testing.assert_close(functional_call(made, tensors, (x,)), want)
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    for other in (copy.deepcopy(made), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), want)
    many = torch.stack([x, data(seed=2) / 4 - 0.5])  # the rule flags the first alone
    assert made.rule(many[0])
    assert not made.rule(many[1])
    torch.testing.assert_close(vmap(made)(many), torch.stack([made(batch) for batch in many]))


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("told", DECISIONS)
def test_odd_batches(inner: str, told: str) -> None:
    """One sample, constant channels, an infinity: nothing that is not finite reaches a buffer."""
    made = gate(inner, DECISIONS[told])
    infinite = data()
    infinite[0, 0] = torch.inf
    for x in (data(1, C, 3), torch.full((4, C, 2), 7.0), infinite):
        made.train()(x)
        assert all(b.isfinite().all() for b in made.buffers())
        made.eval()(x)
    if told == "no":
        assert made.train()(data(0, C)).shape == (0, C)  # skipped: nothing is computed
    elif told == "yes":
        with pytest.raises(InputError, match="at least one sample"):
            made.train()(data(0, C))


@pytest.mark.parametrize("inner", INNER)
def test_on_the_meta_device(inner: str) -> None:
    made = gate(inner, True, device="meta")
    assert made(torch.empty(5, C, 2, device="meta")).shape == (5, C, 2)
    made.decision = torch.tensor(True)
    assert made(torch.empty(5, C, 2, device="meta")).shape == (5, C, 2)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("told", [*DECISIONS, None])
def test_residual_and_relu_behind_a_gate(inner: str, told: str | None) -> None:
    made = gate(inner, DECISIONS.get(told or ""))
    twin = copy.deepcopy(made)
    x, residual = data(), data(seed=1)
    for mode in (True, False):
        y = made.train(mode)(x, residual=residual, relu=True)
        torch.testing.assert_close(y, (twin.train(mode)(x) + residual).relu())
    assert torch.equal(x, data())  # a skipped batch is the caller's, and a relu must not write into it
    with pytest.raises(InputError, match="residual of the input's shape"):
        made(x, residual=residual[:1])


# What a batch that is not flagged goes through; the norm of the gate beside it.
PATHS = [("batch", "population"), ("linf_batch", "population"), ("batch", "layer"), ("kalman", "batch_layer")]


@pytest.mark.parametrize(("inner", "skip"), PATHS)
@pytest.mark.parametrize("told", DECISIONS)
def test_other_skip_paths(inner: str, skip: str, told: str) -> None:
    made = gate(inner, DECISIONS[told], skip=skip)
    x = data()
    made.decision = True
    made(data(seed=1))  # running statistics that are not those of the start
    made.decision = DECISIONS[told]
    before = copy.deepcopy(made.state_dict())
    twin = copy.deepcopy(made).double()
    flagged = "yes" in told
    want = twin.norm(x.double()) if flagged else twin.norm.eval()(x.double()) if twin.skip is None else None
    y = made(x)
    if want is None:
        assert twin.skip is not None
        want = twin.skip(x.double())
    torch.testing.assert_close(y.double(), want, rtol=1e-4, atol=1e-4)
    moved = {key for key, b in made.named_buffers() if not torch.equal(b, before[key])}
    assert all(key.startswith("norm." if flagged else "skip.") for key in moved)
    assert bool(moved) is (flagged or skip == "batch_layer")
    for dtype in (torch.float16, torch.bfloat16):
        assert made(x.to(dtype) * 0.5).dtype == dtype
    last = x.contiguous(memory_format=torch.channels_last)
    assert made(last).is_contiguous(memory_format=torch.channels_last)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh = gate(inner, skip=skip)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    made.eval()
    fresh.eval()
    torch.testing.assert_close(fresh(x), made(x))
    torch.testing.assert_close(torch.export.export(made, (x,)).module()(x), made(x))
    many = torch.stack([x, data(seed=2) / 4 - 0.5])
    torch.testing.assert_close(vmap(made)(many), torch.stack([made(batch) for batch in many]))


@pytest.mark.parametrize(("inner", "skip"), PATHS)
@pytest.mark.parametrize("told", DECISIONS)
def test_derivatives_and_checkpoint_of_other_skip_paths(inner: str, skip: str, told: str) -> None:
    still = gate(inner, DECISIONS[told], skip=skip, momentum=0.0).double()
    if still.skip is not None:
        still.skip.momentum = 0.0  # type: ignore[assignment]  # without effect where there is none
    x = data(4, C, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(still, (x,))
    assert torch.autograd.gradgradcheck(still, (x,))
    for reentrant in (True, False):
        plain, checked = (gate(inner, DECISIONS[told], skip=skip) for _ in range(2))
        leaf = data().requires_grad_()
        torch.autograd.backward(plain(leaf).square().sum())
        torch.autograd.backward(checkpoint(checked, leaf, use_reentrant=reentrant).square().sum())
        torch.testing.assert_close(checked.state_dict(), plain.state_dict())
