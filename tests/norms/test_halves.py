"""The steps for half precision against float64: odd sizes, far from zero, both layouts, and where they give way."""

import copy
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor

from norms import OptionError, create, halves, names
from norms.dispatch import choose, use_kernel
from norms.pooled import cell_moments
from tests.norms.tolerances import TOLERANCE

C = 6
HALVES = [torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
TRAINED = [n for n in names() if n != "none"]
# The operators sum up to 2^14 values one after the other: 2^-24 times the root of that for each, and tenfold for luck.
SUMS = 1e-4


def data(
    dtype: torch.dtype, layout: torch.memory_format, shape: tuple[int, ...] = (5, C, 7, 3), mean: float = 2
) -> Tensor:
    return (torch.randn(shape) * 3 + mean).to(dtype).contiguous(memory_format=layout)


def cells(*shape: int) -> Tensor:
    return torch.randn(*shape, 1, 1)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "last"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_steps_are_those_of_float64(dtype: torch.dtype, layout: torch.memory_format, mean: float) -> None:
    x, g = data(dtype, layout, mean=mean), data(dtype, layout)
    wide, dims = x.double(), (2, 3)
    got, variance = halves.moments(x, True)
    assert got.dtype == variance.dtype == torch.float32
    second, first = torch.var_mean(wide, dims, correction=0, keepdim=True)
    torch.testing.assert_close(got.double(), first, rtol=SUMS, atol=SUMS)
    torch.testing.assert_close(variance.double(), second, rtol=SUMS, atol=0)
    torch.testing.assert_close(halves.means(x), got)
    zeros, square = halves.moments(x, False)
    assert not zeros.any()
    torch.testing.assert_close(square.double(), wide.square().mean(dims, keepdim=True), rtol=SUMS, atol=0)
    plain, along = halves.sums(g, x, got)
    torch.testing.assert_close(plain.double(), g.double().sum(dims, keepdim=True), rtol=SUMS, atol=SUMS)
    want = (g.double() * (wide - got.double())).sum(dims, keepdim=True)
    torch.testing.assert_close(along.double(), want, rtol=SUMS, atol=21 * SUMS)  # products of some units, 21 of them
    scale, shift = cells(5, C), cells(5, C)
    y = halves.apply(x, got, scale, shift)
    assert y.dtype == dtype
    assert y.stride() == x.stride()
    exact = scale.double() * (wide - got.double()) + shift.double()
    torch.testing.assert_close(y.double(), exact, rtol=TOLERANCE[dtype] / 8, atol=TOLERANCE[dtype] / 8)


def test_a_gradient_in_another_layout_and_one_that_is_expanded() -> None:
    x = data(torch.bfloat16, torch.contiguous_format)
    mean = cells(5, C)
    for g in (data(torch.bfloat16, torch.channels_last), torch.ones((), dtype=torch.bfloat16).expand_as(x)):
        plain, along = halves.sums(g, x, mean)
        want = (g.double() * (x.double() - mean.double())).sum((2, 3), keepdim=True)
        torch.testing.assert_close(plain.double(), g.double().sum((2, 3), keepdim=True), rtol=SUMS, atol=SUMS)
        torch.testing.assert_close(along.double(), want, rtol=SUMS, atol=21 * SUMS)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "last"])
def test_every_layer_is_the_plain_path_in_float64(name: str, layout: torch.memory_format) -> None:
    x, g = data(torch.bfloat16, layout, (4, C, 7, 3)), data(torch.bfloat16, layout, (4, C, 7, 3))
    options: dict[str, Any] = {"num_groups": 2} if name == "group" else {}
    norm = create(name, C, **options)
    wide = copy.deepcopy(norm).double()
    found = []
    for one, path, leaf in ((norm, "halves", x.clone()), (wide, "plain", x.double())):
        leaf.requires_grad_()
        with use_kernel(path):  # type: ignore[arg-type]  # two of its literals
            y = one(leaf)
            torch.autograd.backward(y, g.to(y.dtype))
        assert leaf.grad is not None
        dx = torch.zeros(()) if name == "topk_batch" else leaf.grad  # of equal distances any may be picked
        found.append([y.detach(), dx, *(p.grad for p in one.parameters()), *one.buffers()])
    for a, b in zip(*found, strict=True):
        assert a is not None
        assert b is not None
        bound = TOLERANCE[torch.bfloat16]
        torch.testing.assert_close(a.double(), b.double(), rtol=bound, atol=bound)


@pytest.mark.parametrize("name", ["batch", "mean_only", "l1_batch", "batch_layer"])
def test_a_large_channel_that_does_not_vary_is_beta(name: str) -> None:
    x = data(torch.bfloat16, torch.contiguous_format, (4, 2, 32, 32))
    x[:, 1] = 60000.0
    norm = create(name, 2)
    assert choose(x).path == "halves"
    if name == "batch_layer":  # whose other part sees both channels
        x = x[:1].clone()
        y = norm(x)
        want = copy.deepcopy(norm).double()(x.double())
        torch.testing.assert_close(y.double(), want, rtol=0, atol=TOLERANCE[torch.bfloat16])
        return
    assert not norm(x)[:, 1].any()


def test_which_inputs_take_them() -> None:
    large = (2, 64, 32, 32)
    for dtype in HALVES:
        for layout in LAYOUTS:
            x = torch.zeros(large, dtype=dtype).contiguous(memory_format=layout)
            assert choose(x) == ("halves", "CPU, half precision")
            assert choose(x, "blocks").path == "blocks"
            with use_kernel("plain"):
                assert choose(x).path == "plain"
    x = torch.zeros(large, dtype=torch.bfloat16)
    last = x.contiguous(memory_format=torch.channels_last)
    # float32, few positions, many in a row, few values a sample, gaps: blocks
    many = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16).expand(1, 8, 512, 513)
    for other in (x.float(), x[..., :8, :8].contiguous(), many.contiguous(), last[:, :32, ...].clone(), x[..., 1:]):
        assert choose(other).path == "blocks"
    volume = torch.zeros(1, 64, 8, 16, 16, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last_3d)
    assert choose(volume).path == "halves"
    torch.testing.assert_close(cell_moments(volume + 1)[0], torch.ones(1, 64, 1, 1, 1))


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 3, 4), torch.zeros(4, 6).half(), torch.zeros(2, 3, 4, 5).half()[..., ::2]]
)
def test_what_they_cannot_take_is_refused(x: Tensor) -> None:
    with pytest.raises(OptionError, match="expected float16 or bfloat16 of three axes or more on a CPU, contiguous or"):
        choose(x, "halves")


def test_a_compiled_layer_goes_the_plain_way() -> None:
    torch._dynamo.reset()
    norm = create("batch_layer", C)
    norm.kernel = "halves"  # type: ignore[assignment]  # a ChannelNorm
    x = data(torch.bfloat16, torch.contiguous_format)
    want = copy.deepcopy(norm)(x)
    torch.testing.assert_close(torch.compile(norm, backend="eager", fullgraph=True)(x), want)
