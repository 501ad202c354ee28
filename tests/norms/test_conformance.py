"""What every registered norm must do, whatever it computes."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

from norms import InputError, create, names
from norms.registry import accepted
from tests.norms.tolerances import TOLERANCE

C = 6
SHAPES = {2: (5, C), 3: (5, C, 7), 4: (5, C, 4, 3), 5: (4, C, 3, 2, 2)}
RUNNING = [n for n in names() if hasattr(create(n, C), "running_mean")]
# A single value per channel leaves these nothing to normalize: they say so.
NEEDS_TWO = ("batch", "ghost_batch", "l1_batch", "topk_batch", "linf_batch", "mean_only", "kalman")


def cases(ranks: tuple[int, ...] = (2, 3, 4, 5)) -> list[Any]:
    return [(n, r) for n in names() for r in ranks if n != "instance" or r > 2]


def steady(name: str) -> Any:
    """A norm whose running statistics stay where they are."""
    return create(name, C, momentum=0.0) if "momentum" in accepted(name) else create(name, C)


def data(rank: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(SHAPES[rank]) * 3 + 2).to(dtype)


@pytest.mark.parametrize(("name", "rank"), cases())
def test_any_rank_keeps_shape_and_is_finite(name: str, rank: int) -> None:
    x = data(rank)
    norm = create(name, C)
    assert norm(x).shape == x.shape
    assert norm(x).isfinite().all()
    assert norm.eval()(x).isfinite().all()


@pytest.mark.parametrize(("name", "rank"), cases((2, 4)))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_has_float32_statistics(name: str, rank: int, dtype: torch.dtype, training: bool) -> None:
    if name == "instance" and rank == 2:
        pytest.skip("one value per channel")
    norm = create(name, C).train(training)
    x = data(rank, dtype) * 0.5
    wide = copy.deepcopy(norm).double()
    y = norm(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), wide(x.double()), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("name", "rank"), cases((2, 4)))
def test_mean_4096_std_1_in_float32(name: str, rank: int) -> None:
    x = torch.randn(SHAPES[rank], dtype=torch.float64).float() + 4096
    norm = create(name, C)
    wide = copy.deepcopy(norm).double()
    # x itself is exact to 2^-12 of its standard deviation; sums over it lose a few times that.
    torch.testing.assert_close(norm(x).double(), wide(x.double()), rtol=1e-6, atol=5e-3)


@pytest.mark.parametrize("name", names())
def test_gradcheck(name: str) -> None:
    norm = steady(name).double()
    # Of two positions instance norm makes 1 and -1 whatever they are.
    x = torch.randn(4, C, 3 if name == "instance" else 2, dtype=torch.float64, requires_grad=True)
    for mode in (True, False):
        norm.train(mode)
        assert torch.autograd.gradcheck(norm, (x,))
    norm.train()
    assert torch.autograd.gradgradcheck(norm, (x,))


@pytest.mark.parametrize(("name", "rank"), cases((2, 4)))
def test_batch_of_one(name: str, rank: int) -> None:
    norm = create(name, C)
    x = data(rank)[:1]
    if name in NEEDS_TWO and rank == 2:
        with pytest.raises(InputError, match=r"more than one value per \w+; got shape \(1, 6\)"):
            norm(x)
    else:
        assert norm(x).isfinite().all()
    assert all(b.isfinite().all() for b in norm.buffers())
    assert norm.eval()(x).isfinite().all()


@pytest.mark.parametrize(("name", "rank"), cases((2, 4)))
def test_constant_input_gives_no_nan(name: str, rank: int) -> None:
    norm = create(name, C)
    x = torch.full(SHAPES[rank], 7.0, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert norm.eval()(x).isfinite().all()
    assert all(b.isfinite().all() for b in norm.buffers())


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_running_statistics_stay_finite(name: str, bad: float) -> None:
    norm = create(name, C)
    x = data(4)
    x[0, 2, 0, 0] = bad
    norm(x)
    assert all(b.isfinite().all() for b in norm.buffers())


@pytest.mark.parametrize("name", [n for n in names() if n != "none"])
def test_wrong_inputs_are_refused(name: str) -> None:
    norm = create(name, C)
    with pytest.raises(InputError, match=r"expected an input \(N, 6, \*\); got shape \(5, 7\)"):
        norm(torch.randn(5, 7))
    with pytest.raises(InputError, match=r"got shape \(6,\): axis 1 must hold the channels"):
        norm(torch.randn(6))
    with pytest.raises(InputError, match=r"expected a floating-point input; got torch\.int64"):
        norm(torch.ones(5, C, 2, dtype=torch.long))
    with pytest.raises(InputError, match=r"expected at least one sample; got shape \(0, 6, 2\)"):
        norm(torch.randn(0, C, 2))


@pytest.mark.parametrize("name", names())
def test_eval_changes_no_buffer(name: str) -> None:
    norm = create(name, C)
    norm(data(4))
    before = copy.deepcopy(norm.state_dict())
    norm.eval()(data(4) * 5)
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", RUNNING)
def test_plain_average_of_all_batches(name: str) -> None:
    norm = create(name, C, momentum=None)
    batches = [data(4).double() + i for i in range(3)]
    norm.double()
    for x in batches:
        norm(x)
    want = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    torch.testing.assert_close(norm.get_buffer("running_mean"), want)
    assert int(norm.get_buffer("num_batches_tracked")) == 3


@pytest.mark.parametrize("name", RUNNING)
def test_without_running_statistics_inference_uses_its_own(name: str) -> None:
    if name == "population":
        pytest.skip("it has no statistics but running ones, and says so")
    norm = create(name, C, track_running_stats=False)
    assert list(norm.buffers()) == []
    x = data(4)
    trained = norm(x)
    torch.testing.assert_close(norm.eval()(x), trained)


@pytest.mark.parametrize("name", RUNNING)
def test_reset_forgets(name: str) -> None:
    norm = create(name, C)
    fresh = copy.deepcopy(norm.state_dict())
    norm(data(4))
    norm.reset_parameters()  # type: ignore[operator]
    for key, value in norm.state_dict().items():
        assert torch.equal(value, fresh[key])


@pytest.mark.parametrize("name", RUNNING)
def test_buffers_stay_where_they_are(name: str) -> None:
    """A CUDA graph writes into them, and DistributedDataParallel sends them, wherever they were at the start."""
    norm = create(name, C)
    places = [b.data_ptr() for b in norm.buffers()]
    norm(data(4))
    norm.eval()(data(4))
    norm.reset_running_stats()  # type: ignore[operator]  # of every norm with such
    assert [b.data_ptr() for b in norm.buffers()] == places


@pytest.mark.parametrize("name", names())
def test_copies_and_checkpoints_are_the_same_layer(name: str) -> None:
    norm = create(name, C)
    norm(data(4))
    file = io.BytesIO()
    torch.save(norm, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    fresh = create(name, C)
    fresh.load_state_dict(norm.state_dict(), strict=True)
    x = data(4)
    want = norm.eval()(x)
    for other in (copy.deepcopy(norm), loaded, fresh):
        assert torch.equal(other.eval()(x), want)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", names())
def test_memory_format_is_kept(name: str, training: bool) -> None:
    x = data(4)
    norm = create(name, C).train(training)
    want = copy.deepcopy(norm)(x)
    assert want.is_contiguous()
    y = norm(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, want, atol=1e-5, rtol=1e-5)
    deep = data(5).contiguous(memory_format=torch.channels_last_3d)
    assert norm(deep).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("name", [n for n in names() if n != "none"])
def test_gamma_and_beta_act_per_channel(name: str) -> None:
    norm = steady(name)
    x = data(4)
    plain = norm(x)
    gamma = torch.ones(C) if norm.weight is None else torch.arange(1.0, C + 1)
    with torch.no_grad():
        if norm.weight is not None:
            norm.weight.copy_(gamma)
        if norm.bias is not None:
            norm.bias.copy_(torch.arange(C) * 10.0)
    shift = torch.zeros(C) if norm.bias is None else torch.arange(C) * 10.0
    want = plain * gamma.view(1, C, 1, 1) + shift.view(1, C, 1, 1)
    torch.testing.assert_close(norm(x), want, atol=1e-4, rtol=1e-5)
    assert list(create(name, C, affine=False).parameters()) == []


@pytest.mark.parametrize("name", [n for n in names() if n != "none"])
def test_device_and_dtype_options(name: str) -> None:
    norm = create(name, C, device="meta", dtype=torch.float64)
    tensors = [t for t in (*norm.parameters(), *norm.buffers()) if t.is_floating_point()]
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.float64)}


@pytest.mark.parametrize("name", names())
def test_from_the_meta_device_to_a_real_one(name: str) -> None:
    norm = create(name, C, device="meta")
    for mode in (True, False):
        assert norm.train(mode)(torch.empty(SHAPES[4], device="meta")).shape == SHAPES[4]
    norm.to_empty(device="cpu")
    norm.reset_parameters()  # type: ignore[operator]  # of every norm
    x = data(4)
    torch.testing.assert_close(norm.train()(x), create(name, C)(x))


@pytest.mark.parametrize("name", names())
def test_autocast_keeps_float32_statistics(name: str) -> None:
    norm = create(name, C)
    x = data(4).bfloat16()
    wide = copy.deepcopy(norm)(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), wide, atol=TOLERANCE[torch.bfloat16], rtol=0)
    assert all(b.dtype == torch.float32 for b in norm.buffers() if b.is_floating_point())


@pytest.mark.parametrize("name", [n for n in names() if n != "none"])
def test_an_activation_in_place_may_follow(name: str) -> None:
    norm = create(name, C)
    x = data(4).requires_grad_()
    (want,) = torch.autograd.grad(copy.deepcopy(norm)(x).relu().square().sum(), x)
    (found,) = torch.autograd.grad(norm(x).relu_().square().sum(), x)
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", RUNNING)
def test_activation_checkpoint_updates_once(name: str, reentrant: bool) -> None:
    plain, checked = create(name, C), create(name, C)
    x = data(4).requires_grad_()
    torch.autograd.backward(plain(x).sum())
    y = checkpoint(checked, x, use_reentrant=reentrant)
    torch.autograd.backward(y.sum())
    for key, value in plain.state_dict().items():
        assert torch.equal(checked.state_dict()[key], value)


@pytest.mark.parametrize("name", names())
def test_functional_call_and_vmap(name: str) -> None:
    norm = create(name, C)
    norm(data(4))
    norm.eval()
    tensors = {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
    x = data(4)
    assert torch.equal(functional_call(norm, tensors, (x,)), norm(x))
    many = torch.stack([data(4), data(4)])
    torch.testing.assert_close(vmap(norm)(many), torch.stack([norm(batch) for batch in many]))


@pytest.mark.parametrize("name", names())
def test_gradients_of_a_functional_step_in_training(name: str) -> None:
    """As torch asks of functions that are transformed: the buffers go in, and come out as the batch leaves them."""
    norm, x = create(name, C), data(4)
    parameters: dict[str, Tensor] = dict(norm.named_parameters())
    before = dict(norm.named_buffers())

    def loss(x: Tensor, parameters: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        buffers = {key: b.clone() for key, b in before.items()}
        return (functional_call(norm, (parameters, buffers), (x,)) ** 3).sum(), buffers

    (dx, found), buffers = torch.func.grad(loss, argnums=(0, 1), has_aux=True)(x, parameters)
    x.requires_grad_()
    torch.autograd.backward((norm(x) ** 3).sum())
    torch.testing.assert_close(dx, x.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, {key: p.grad for key, p in parameters.items()}, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(buffers, dict(norm.named_buffers()))


@pytest.mark.parametrize("name", RUNNING)
def test_vmap_around_an_update_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no vmap around a norm that updates running statistics"):
        vmap(create(name, C))(torch.stack([data(4), data(4)]))


@pytest.mark.parametrize("name", RUNNING)
def test_frozen_norm_in_a_training_model(name: str) -> None:
    norm = create(name, C)
    norm(data(4))
    before = copy.deepcopy(norm.state_dict())
    norm.eval()
    x = data(4).requires_grad_()
    torch.autograd.backward(norm(x).square().sum())
    assert all(p.grad is not None for p in norm.parameters())
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("name", [n for n in names() if n != "none"])
def test_values_ten_thousand_standard_deviations_from_zero(name: str) -> None:
    x = torch.randn(SHAPES[4], dtype=torch.float64) * 1e-3 + 10
    norm = steady(name)
    y = norm(x.float())
    wide = copy.deepcopy(norm).double()
    # float32 holds x to 1e-6, a thousandth of its standard deviation; L-infinity and RMS see as much.
    torch.testing.assert_close(y.double(), wide(x.float().double()), atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("name", names())
def test_export_in_evaluation(name: str) -> None:
    norm = create(name, C)
    norm(data(4))
    norm.eval()
    x = data(4)
    exported = torch.export.export(norm, (x,)).module()
    torch.testing.assert_close(exported(x), norm(x))
