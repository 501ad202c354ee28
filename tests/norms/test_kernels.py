"""Triton kernels, in Triton's interpreter where there is no CUDA device, against the plain path in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from norms import InputError
from norms.beside import ALONE, Beside
from norms.distances import scaled_norm
from norms.kernels import cells as kernels
from norms.kernels.launch import launch, view
from norms.pooled import pooled_norm
from norms.pools import Pool
from tests.norms.tolerances import TOLERANCE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Odd sizes, so that every mask has something to hide; 5 x 3 positions in a tile of 16, 70 in parts.
SHAPE = (4, 6, 5, 3)
POOLS = {
    "batch": (Pool(None, 1),),
    "layer": (Pool(1, None),),
    "batch group": (Pool(2, 3),),
    "batch layer": (Pool(None, 1, 0.75), Pool(1, None, 0.25)),
}


def data(dtype: torch.dtype, layout: torch.memory_format, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return (torch.randn(shape, device=DEVICE) * 2 + 1).to(dtype).to(memory_format=layout)


def gradients(
    x: Tensor, others: list[Tensor], pools: tuple[Pool, ...], kernel: str, centred: bool, relu: bool
) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in (x, *others)]
    beside = Beside(leaves[3], relu) if kernel == "triton" else ALONE
    y = pooled_norm(leaves[0], leaves[1], leaves[2], pools, eps=1e-5, centred=centred, beside=beside, kernel=kernel).y
    if kernel == "plain":
        y = y + leaves[3]
        y = y.clamp(min=0) if relu else y
    weights = torch.linspace(-1, 1, y.numel(), device=y.device).reshape(y.shape)
    torch.autograd.backward(y, weights.to(y.dtype))
    return [y.detach(), *(t.grad for t in leaves if t.grad is not None)]


@pytest.mark.parametrize("pools", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("centred", "relu"), [(True, False), (True, True), (False, False)])
def test_forward_and_backward_are_those_of_the_plain_path_in_float64(
    pools: tuple[Pool, ...], layout: torch.memory_format, dtype: torch.dtype, centred: bool, relu: bool
) -> None:
    x, residual = data(dtype, layout), data(dtype, layout)
    others = [torch.randn(6, device=DEVICE), torch.randn(6, device=DEVICE), residual]
    got = gradients(x, others, pools, "triton", centred, relu)
    want = gradients(x.double(), [t.double() for t in others], pools, "plain", centred, relu)
    assert len(got) == 5
    assert got[0].stride() == x.stride()
    for a, b in zip(got, want, strict=True):
        # gamma's gradient sums 60 values, a few units each
        torch.testing.assert_close(a.double(), b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("part", ["channels", "channels last", "positions", "expanded"])
def test_an_input_with_gaps_in_memory(part: str) -> None:
    whole = data(
        torch.float32, torch.channels_last if part == "channels last" else torch.contiguous_format, (4, 12, 5, 4)
    )
    x = {
        "positions": whole.flatten(2)[:, :6, ::2],
        "expanded": whole[:1, :6].expand(4, -1, -1, -1),
    }.get(part, whole[:, 3:9])
    assert not x.is_contiguous()
    others = [torch.randn(6, device=DEVICE), torch.randn(6, device=DEVICE), torch.randn_like(x)]

    def results(x: Tensor, others: list[Tensor], kernel: str) -> list[Tensor]:
        x, others = x.requires_grad_(), [t.requires_grad_() for t in others]
        beside = Beside(others[2], relu=True) if kernel == "triton" else ALONE
        y = pooled_norm(x, others[0], others[1], POOLS["batch layer"], eps=1e-5, beside=beside, kernel=kernel).y
        y = y if kernel == "triton" else (y + others[2]).clamp(min=0)
        return [y, *torch.autograd.grad(y.square().sum(), (x, *others))]

    got = results(x.detach(), others, "triton")
    want = results(x.detach().double(), [t.detach().double() for t in others], "plain")
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
def test_cells_in_parts_far_from_zero(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("norms.kernels.launch.TILE", 32)  # 70 positions in several tiles and parts
    monkeypatch.setattr("norms.kernels.launch.ROW", 8)
    x = (data(torch.float32, layout, (2, 3, 10, 7)) + 4096).contiguous(memory_format=layout)
    seen = view(x)
    assert seen is not None
    assert launch(seen).splits > 1
    mean, variance = kernels.moments(x, True)
    want = torch.var_mean(x.double(), (2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(mean.double(), want[1], rtol=3e-7, atol=0)  # two units in the last place
    torch.testing.assert_close(variance.double(), want[0], rtol=1e-4, atol=0)
    g = data(torch.float32, layout, (2, 3, 10, 7))
    plain, along = kernels.sums(g, x, mean, None)
    torch.testing.assert_close(plain.double(), g.double().sum((2, 3), keepdim=True), rtol=1e-5, atol=1e-5)
    wide = (g.double() * (x.double() - mean.double())).sum((2, 3), keepdim=True)
    torch.testing.assert_close(along.double(), wide, rtol=1e-5, atol=1e-4)


def test_against_torch_itself() -> None:
    x = data(torch.float32, torch.contiguous_format)
    weight, bias = torch.randn(6, device=DEVICE), torch.randn(6, device=DEVICE)
    y = pooled_norm(x, weight, bias, POOLS["batch"], eps=1e-5, kernel="triton").y
    want = F.batch_norm(x.double(), None, None, weight.double(), bias.double(), True, 0.0, 1e-5)
    torch.testing.assert_close(y.double(), want, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy, in the interpreter, at NaN
@pytest.mark.parametrize("opened", [True, False])
def test_a_shut_gate_sums_nothing_and_passes_on(opened: bool) -> None:
    gate = torch.tensor(opened, device=DEVICE)
    x = data(torch.float32, torch.contiguous_format)
    if not opened:
        x[0, 0, 0, 0] = torch.nan
    leaf = x.clone().requires_grad_()
    weight = torch.full((6,), 2.0, device=DEVICE, requires_grad=True)
    bias = torch.ones(6, device=DEVICE, requires_grad=True)
    found = pooled_norm(leaf, weight, bias, POOLS["batch"], eps=0.0, beside=Beside(gate=gate), kernel="triton")
    g = torch.randn_like(x)
    torch.autograd.backward(found.y, g)
    assert weight.grad is not None
    assert bias.grad is not None
    if opened:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        want = (x - mean) / variance.sqrt() * 2 + 1
        torch.testing.assert_close(found.y, want, rtol=0, atol=1e-5)
        assert weight.grad.abs().sum() > 0
    else:
        assert torch.equal(found.y[1:], x[1:])
        assert torch.equal(leaf.grad, g)  # type: ignore[arg-type]  # it has one
        assert not found.mean.any()
        assert not weight.grad.any()
        assert not bias.grad.any()


@pytest.mark.parametrize("largest", [None, 2, 0], ids=["L1", "top k", "pools"])
def test_gradients_of_gradients_where_one_tensor_is_input_and_residual(largest: int | None) -> None:
    def gradient(x: Tensor, weight: Tensor, kernel: str) -> Tensor:
        beside = Beside(x, relu=True) if kernel == "triton" else ALONE
        if largest == 0:
            y = pooled_norm(x, weight, None, POOLS["batch layer"], eps=1e-5, beside=beside, kernel=kernel).y
        else:
            y = scaled_norm(x, weight, None, factor=1.0, largest=largest, eps=1e-5, beside=beside, kernel=kernel).y
        y = y if kernel == "triton" else (y + x).clamp(min=0)
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first * first).sum(), x)
        return second

    x, weight = data(torch.float32, torch.contiguous_format).requires_grad_(), torch.rand(6, device=DEVICE)
    want = gradient(x.detach().double().requires_grad_(), weight.double(), "plain")
    got = gradient(x, weight, "triton").double()
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * want.abs().max().item())


def test_operators_are_what_they_say() -> None:
    x = data(torch.float32, torch.contiguous_format, (2, 3, 5)).requires_grad_()
    g = data(torch.float32, torch.contiguous_format, (2, 3, 5))
    mean, scale, shift = (torch.randn(2, 3, device=DEVICE, requires_grad=True) for _ in range(3))
    fixed = [t.detach() for t in (mean, scale, shift, shift)]
    torch.library.opcheck(kernels.cell_moments, (x, True, None))
    torch.library.opcheck(kernels.cell_apply, (x, mean, scale, shift, g, True, None))
    torch.library.opcheck(kernels.cell_sums, (g, x.detach(), fixed[0], g, None))
    torch.library.opcheck(kernels.cell_gradient, (g, x.detach(), *fixed, g, None))


@pytest.mark.parametrize("relu", [True, False])
def test_gradients_of_the_single_operators(relu: bool) -> None:
    x = data(torch.float32, torch.contiguous_format, (2, 3, 5)).requires_grad_()
    mean, scale, shift = (torch.randn(2, 3, device=DEVICE, requires_grad=True) for _ in range(3))
    leaves = (x, mean, scale, shift)
    y = kernels.cell_apply(x, mean, scale, shift, None, relu)
    found = kernels.cell_moments(x, True)
    got = torch.autograd.grad((y * y).sum() + (found[0] * 3 + found[1]).sum(), leaves)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    z = (wide[0] - wide[1][..., None]) * wide[2][..., None] + wide[3][..., None]
    z = z.relu() if relu else z
    loss = (z * z).sum() + (wide[0].mean(2) * 3 + wide[0].var(2, correction=0)).sum()
    for a, b in zip(got, torch.autograd.grad(loss, wide), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_strides_that_are_no_view_are_refused() -> None:
    x = torch.zeros(2, 3, 4, 6, device=DEVICE)[..., ::2].transpose(2, 3)[..., :3]
    assert view(x) is None
    with pytest.raises(
        InputError, match=r"expected an input whose positions have one stride; got shape \(2, 3, 3, 3\)"
    ):
        kernels.moments(x, True)
