"""The paths of a norm: which is chosen, that each can be forced, and that all say the same."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp, vmap
from torch.nn import functional as F

from norms import OptionError, create, names
from norms.blocks import blocks
from norms.dispatch import Path, choose, left_to_torch, use_kernel
from norms.distances import scaled_norm
from norms.pooled import cell_moments, pooled_norm
from norms.pools import Pool
from tests.norms.tolerances import TOLERANCE

C = 6
TRAINED = [n for n in names() if n != "none"]
BOTH = (Pool(None, 1, 0.75), Pool(1, None, 0.25))


def data(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (8, C, 5, 3)) -> Tensor:
    return (torch.randn(shape) * 3 + 2).to(dtype)


def trained(norm: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Output, gradients and buffers after one batch."""
    leaf = x.detach().clone().requires_grad_()
    y = norm(leaf)
    torch.autograd.backward(y, g.to(y.dtype))
    found = [y, leaf.grad, *(p.grad for p in norm.parameters()), *norm.buffers()]
    return [t.detach() for t in found if t is not None]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
def test_every_layer_says_the_same_on_every_path(
    name: str, dtype: torch.dtype, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("norms.blocks.BLOCK_BYTES", 3 * C * 15 * 4)  # three samples a block, two in the last
    layout = torch.channels_last if last else torch.contiguous_format
    x, g = data(dtype).to(memory_format=layout), torch.randn(8, C, 5, 3)
    options: dict[str, Any] = {"num_groups": 2} if name == "group" else {}
    norm = create(name, C, **options)
    wide = copy.deepcopy(norm).double()
    with use_kernel("plain"):
        want = trained(wide, x.double(), g.to(dtype).double())
    paths: tuple[Path, ...] = ("plain", "blocks")
    for path in paths:
        one = copy.deepcopy(norm)
        with use_kernel(path):
            got = trained(one, x, g.to(dtype))
        assert got[0].stride() == x.stride()
        tied = name == "topk_batch" and dtype == torch.bfloat16  # of equal distances any may be picked
        if tied:
            got[1] = want[1].to(dtype)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a.double(), b.double(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_blocks_cover_a_batch() -> None:
    x = torch.zeros(7, 3, 1000, 1000, device="meta")
    assert [i for s in blocks(x) for i in range(7)[s]] == list(range(7))
    assert len(list(blocks(x))) == 7


def test_pools_are_torchs_own_norms() -> None:
    x = data(torch.float64)
    weight, bias = torch.randn(C, dtype=torch.float64), torch.randn(C, dtype=torch.float64)
    for path in ("plain", "blocks"):
        batch = pooled_norm(x, weight, bias, (Pool(None, 1),), eps=1e-5, kernel=path).y
        torch.testing.assert_close(batch, F.batch_norm(x, None, None, weight, bias, True))
        group = pooled_norm(x, weight, bias, (Pool(1, 3),), eps=1e-5, kernel=path).y
        torch.testing.assert_close(group, F.group_norm(x, 2, weight, bias))
        rms = pooled_norm(x, None, None, (Pool(1, None),), eps=1e-5, centred=False, kernel=path).y
        torch.testing.assert_close(rms, F.rms_norm(x, x.shape[1:], eps=1e-5))
        rows = x[:, :, 0, 0]
        given = (torch.randn(C, dtype=torch.float64), torch.rand(C, dtype=torch.float64))
        y = pooled_norm(rows, weight, bias, BOTH, eps=1e-5, given=given, kernel=path).y
        mixed = 0.75 * F.batch_norm(rows, None, None, training=True) + 0.25 * F.layer_norm(rows, (C,))
        torch.testing.assert_close(y, (mixed + (rows - given[0]) * given[1]) * weight + bias)
        ghost = pooled_norm(rows, weight, None, (Pool(4, 1),), eps=1e-5, kernel=path).y
        halves = [F.batch_norm(part, None, None, weight, training=True) for part in torch.split(rows, 4)]
        torch.testing.assert_close(ghost, torch.cat(halves))
        rms = pooled_norm(rows, weight, None, (Pool(1, None),), eps=1e-5, centred=False, kernel=path).y
        torch.testing.assert_close(rms, F.rms_norm(rows, (C,), weight, eps=1e-5))


@pytest.mark.parametrize("centred", [False, True])
def test_gradients_of_the_closed_form(centred: bool) -> None:
    x = data(torch.float64, (4, C, 2, 2))
    inputs = [x, torch.randn(C, dtype=torch.float64), torch.randn(C, dtype=torch.float64)]
    m0, s0 = torch.randn(C, dtype=torch.float64), torch.rand(C, dtype=torch.float64)

    def norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return pooled_norm(x, w, b, BOTH, eps=1e-5, centred=centred, given=(m0, s0), kernel="blocks").y

    leaves = [t.requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(norm, leaves)
    assert torch.autograd.gradgradcheck(norm, leaves)


@pytest.mark.parametrize("largest", [None, 1, 4])
def test_gradients_of_scales(largest: int | None) -> None:
    leaves = [data(torch.float64, (4, C, 3)), torch.randn(C, dtype=torch.float64), torch.randn(C, dtype=torch.float64)]
    for leaf in leaves:
        leaf.requires_grad_()

    def norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return scaled_norm(x, w, b, factor=1.3, largest=largest, eps=1e-5, kernel="blocks").y

    assert torch.autograd.gradcheck(norm, leaves)
    assert torch.autograd.gradgradcheck(norm, leaves)


def test_of_equal_largest_distances_as_many_count_as_asked_for() -> None:
    # mean 0; two of three distances that are alike count
    x = torch.tensor([[3.0], [-3.0], [3.0], [-1.0], [-2.0]], requires_grad=True)
    y = scaled_norm(x, None, None, factor=1.0, largest=2, eps=0.0, kernel="blocks").y
    torch.autograd.backward(y, torch.tensor([[0.0], [0.0], [0.0], [0.0], [3.0]]))
    # s = 3; dy5/ds = 2/9; ds/dx_i = sign_i / 2 for those two, less the mean of all; times 3, and 1/3 - 1/5 directly
    directly = torch.tensor([-0.2, -0.2, -0.2, -0.2, 0.8]) / 3
    assert x.grad is not None
    matches = []
    for left_out in range(3):
        signs = torch.tensor([1.0, -1.0, 1.0, 0.0, 0.0]) / 2
        signs[left_out] = 0.0
        matches.append(torch.allclose(x.grad.flatten(), 3 * (directly + 2 / 9 * (signs - signs.mean()))))
    assert sum(matches) == 1


def test_what_is_chosen_can_be_asked() -> None:
    x = data()
    assert choose(x) == ("blocks", "CPU")
    assert choose(x, "plain") == ("plain", "asked for")
    assert choose(x[:, :, 0, 0], pools=True) == ("plain", "one value a cell")
    assert choose(x[:, :, 0, 0]).path == choose(x, pools=True).path == "blocks"
    assert choose(x.to("meta")) == ("plain", "meta: 'triton' is taken where it is asked for")
    assert choose(torch.zeros(2, 3, 0), "triton") == ("plain", "no values, which no kernel can be launched for")
    with use_kernel("plain"):
        assert choose(x).path == "plain"
        assert choose(x, "blocks").path == "blocks"
    assert choose(x).path == "blocks"


def test_the_argument_of_a_layer_beats_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def apply(x: Tensor, *unused: Any) -> Tensor:
        taken.append("blocks")
        return torch.empty_like(x)

    monkeypatch.setattr("norms.blocks.apply", apply)
    norm = create("batch", C)
    with use_kernel("plain"):
        norm(data())
        assert taken == []
        norm.kernel = "blocks"  # type: ignore[assignment]  # a ChannelNorm
        norm(data())
    assert taken == ["blocks"]


def test_torch_does_what_it_does_fastest() -> None:
    x, last = data(), data().to(memory_format=torch.channels_last)
    for batch in (True, False):
        assert left_to_torch(x, None, batch=batch)
        assert left_to_torch(last, None, batch=batch) == batch
        assert not left_to_torch(x.bfloat16(), None, batch=batch)
        assert not left_to_torch(x, "blocks", batch=batch)
        with use_kernel("plain"):
            assert not left_to_torch(x, None, batch=batch)
    assert not left_to_torch(data(shape=(8, C, 32, 32)).to(memory_format=torch.channels_last), None, batch=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
def test_batch_norm_of_many_values_far_from_zero(layout: torch.memory_format) -> None:
    x = (torch.randn(64, 4, 28, 28) + 100).contiguous(memory_format=layout)
    want = F.batch_norm(x.double(), None, None, training=True)
    # half a unit in the last place of 100 is 4e-6, in x and in its mean
    torch.testing.assert_close(create("batch", 4)(x).double(), want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["batch", "group", "layer", "instance"])
def test_torchs_operator_says_the_same_as_ours(name: str) -> None:
    x = data(torch.float64)
    g = torch.randn_like(x)
    norm = create(name, C).double()
    ours = copy.deepcopy(norm)
    ours.kernel = "blocks"  # type: ignore[assignment]  # a ChannelNorm
    for theirs, own in zip(trained(norm, x, g), trained(ours, x, g), strict=True):
        torch.testing.assert_close(theirs, own, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own jvp rules
def test_transforms_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMGAUGE_NORM_KERNEL", "blocks")
    x = data(torch.float64, (4, C, 3))
    norm = create("layer", C).double()
    many = torch.stack([x, x + 1])
    torch.testing.assert_close(vmap(norm)(many), torch.stack([norm(b) for b in many]))
    v = torch.randn_like(x)
    slope = jvp(norm, (x,), (v,))[1]
    h = 1e-6
    torch.testing.assert_close(slope, (norm(x + h * v) - norm(x - h * v)) / (2 * h), rtol=1e-6, atol=1e-6)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(OptionError, match="expected a path among: plain, blocks, halves, triton; got 'cuda'"):
        choose(data(), "cuda")
    with pytest.raises(OptionError, match="expected a CUDA tensor for the path 'triton'; got one on cpu"):
        choose(data(), "triton")


def test_cell_moments_have_no_gradient() -> None:
    x = data(torch.float64).requires_grad_()
    for path in ("plain", "blocks"):
        mean, variance = cell_moments(x, path)
        assert not mean.requires_grad
        torch.testing.assert_close(mean, x.detach().mean((2, 3), keepdim=True))
        torch.testing.assert_close(variance, x.detach().var((2, 3), correction=0, keepdim=True))
