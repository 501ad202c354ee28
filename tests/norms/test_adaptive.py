"""The gate: what it does with each decision, and in each evaluation mode."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from norms import (
    AdaptiveNorm,
    BatchNorm,
    GateError,
    OptionError,
    RuleError,
    create,
    gates,
    set_decision,
    set_rule,
)
from norms.modes import looks_flagged

C = 4
WIDE = {"measure": "standard_divergence", "cutoff": 1.0}
NEVER = {"measure": "standard_divergence", "cutoff": 1e9}
ALWAYS = {"measure": "standard_divergence", "cutoff": -1e9}


def flagged_batch(n: int = 16) -> Tensor:
    return torch.randn(n, C) * 7 + 20


def plain_batch(n: int = 16) -> Tensor:
    return torch.randn(n, C)


def buffers(module: nn.Module) -> list[Tensor]:
    return [b.clone() for b in module.buffers()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_before_any_decision_it_is_the_norm() -> None:
    gate, norm = AdaptiveNorm("batch", num_features=C), create("batch", C)
    x = flagged_batch()
    assert torch.equal(gate(x), norm(x))
    assert same(buffers(gate), buffers(norm))


def test_skipped_is_the_very_same_tensor() -> None:
    gate = AdaptiveNorm("batch", num_features=C)
    before = buffers(gate)
    set_decision(gate, False)
    x = flagged_batch()
    assert gate(x) is x
    assert same(buffers(gate), before)


@pytest.mark.parametrize("name", ["batch", "batch_layer", "layer"])
def test_flagged_is_the_norm(name: str) -> None:
    gate, norm = AdaptiveNorm(name, num_features=C), create(name, C)
    set_decision(gate, True)
    x = flagged_batch()
    assert torch.equal(gate(x), norm(x))
    assert same(buffers(gate), buffers(norm))


def test_running_statistics_are_the_flagged_batches_only() -> None:
    gate = AdaptiveNorm("batch", num_features=C, momentum=None)
    seen = []
    for i, normalize in enumerate([True, False, True]):
        set_decision(gate, normalize)
        x = flagged_batch() + i
        gate(x)
        if normalize:
            seen.append(x.mean(0))
    torch.testing.assert_close(gate.norm.get_buffer("running_mean"), torch.stack(seen).mean(0))


def test_skip_population_uses_running_statistics_and_leaves_them() -> None:
    gate = AdaptiveNorm("batch", "population", num_features=C)
    gate(flagged_batch())
    before = buffers(gate)
    set_decision(gate, False)
    x = flagged_batch()
    want = copy.deepcopy(gate.norm).eval()(x)
    assert torch.equal(gate(x), want)
    assert same(buffers(gate), before)


def test_skip_by_another_norm() -> None:
    gate = AdaptiveNorm("batch", "batch_layer", num_features=C)
    set_decision(gate, False)
    x = flagged_batch()
    assert torch.equal(gate(x), create("batch_layer", C)(x))
    assert gate.norm.get_buffer("num_batches_tracked") == 0
    own = AdaptiveNorm(nn.BatchNorm1d(C), "layer")
    set_decision(own, False)
    assert torch.equal(own(x), create("layer", C)(x))


@pytest.mark.parametrize("skip", ["identity", "population", "batch_layer"])
@pytest.mark.parametrize("norm", ["batch", "torch"])
@pytest.mark.parametrize("normalize", [True, False])
def test_tensor_decision_is_the_bool_decision(skip: str, norm: str, normalize: bool) -> None:
    inner = nn.BatchNorm1d(C) if norm == "torch" else create("batch", C)
    by_bool = AdaptiveNorm(inner, skip)
    by_tensor = copy.deepcopy(by_bool)
    decision = torch.tensor(normalize)
    set_decision(by_bool, normalize)
    set_decision(by_tensor, decision)
    for _ in range(2):  # two forwards before one backward, as with shared layers
        x = flagged_batch()
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ya, yb = by_bool(a), by_tensor(b)
        torch.testing.assert_close(yb, ya, rtol=0, atol=0)
        again = by_tensor(b)
        by_bool(a)
        (ya**2).sum().backward()
        (yb**2).sum().backward()
        assert again.shape == yb.shape
        torch.testing.assert_close(b.grad, a.grad)
    for mine, theirs in zip(by_tensor.buffers(), by_bool.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_tensor_decision_may_be_rewritten_in_place() -> None:
    gate = AdaptiveNorm("batch", num_features=C)
    decision = torch.tensor(True)
    set_decision(gate, decision)
    x = flagged_batch()
    assert not torch.equal(gate(x), x)
    decision.fill_(False)
    assert torch.equal(gate(x), x)


@pytest.mark.parametrize("bad", [torch.inf, torch.nan, 1e38])
def test_tensor_decision_keeps_what_is_not_finite_out(bad: float) -> None:
    gate = AdaptiveNorm("batch", num_features=C)
    set_decision(gate, torch.tensor(False))
    x = plain_batch()
    x[0, 0] = bad
    x.requires_grad_()
    y = gate(x)
    assert torch.equal(y, x) or bad != bad
    (y[1:] * 2).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[1:], torch.full((15, C), 2.0))
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in gate.parameters())
    assert gate.norm.get_buffer("num_batches_tracked") == 0


@pytest.mark.parametrize("inner", ["batch", "torch", "batch_layer"])
def test_evaluation_threshold_uses_the_batchs_own_statistics(inner: str) -> None:
    norm = nn.BatchNorm1d(C) if inner == "torch" else create(inner, C)
    gate = AdaptiveNorm(norm, rule=WIDE)
    set_decision(gate, False)  # decides on training batches only
    gate.eval()
    before = buffers(gate)
    x = flagged_batch()
    reference = copy.deepcopy(norm).train()
    assert torch.equal(gate(x), reference(x))
    y = plain_batch()
    assert gate(y) is y
    assert same(buffers(gate), before)


def test_evaluation_running_batch_never() -> None:
    gate = AdaptiveNorm("batch", num_features=C, rule=WIDE)
    for _ in range(3):
        gate(flagged_batch())
    gate.eval()
    before = buffers(gate)
    for x in (flagged_batch(), plain_batch(), flagged_batch(1)):
        gate.evaluation = "running"
        assert torch.equal(gate(x), copy.deepcopy(gate.norm).eval()(x))
        gate.evaluation = "never"
        assert gate(x) is x
        if len(x) > 1:
            gate.evaluation = "batch"
            assert torch.equal(gate(x), BatchNorm(C)(x))
    assert same(buffers(gate), before)


def test_small_batches_are_compared_with_the_flagged_ones() -> None:
    gate = AdaptiveNorm("batch", num_features=C, rule=WIDE, momentum=None)
    x, y = flagged_batch(1), plain_batch(1)
    assert gate.eval()(x) is x  # nothing known of flagged batches yet
    gate.train()
    for _ in range(10):
        gate(flagged_batch())
    gate.eval()
    assert torch.equal(gate(x), copy.deepcopy(gate.norm).eval()(x))
    assert gate(y) is y
    gate.min_examples = 8
    assert gate(plain_batch(7)).shape == (7, C)
    x = flagged_batch(7)
    assert torch.equal(gate(x), copy.deepcopy(gate.norm).eval()(x))


def test_likelihood_ratio_by_hand() -> None:
    norm = BatchNorm(2, affine=False)
    norm.get_buffer("running_mean").copy_(torch.tensor([1.0, -2.0]))
    norm.get_buffer("running_var").copy_(torch.tensor([4.0, 0.25]))
    norm.get_buffer("num_batches_tracked").fill_(1)
    rng = np.random.default_rng(0)
    for x in rng.normal(0, 2, (50, 2)):
        logs = [
            -((v - m) ** 2) / (2 * s) - np.log(s) / 2 + v**2 / 2
            for v, m, s in zip(x, [1.0, -2.0], [4.0, 0.25], strict=True)
        ]
        assert bool(looks_flagged(norm, torch.tensor(x[None]))) == (sum(logs) / 2 > 0)


def test_likelihood_ratio_leaves_constant_features_out() -> None:
    norm = BatchNorm(2, affine=False, momentum=None)
    norm(torch.stack([torch.zeros(50), torch.randn(50) * 3], 1))
    assert bool(looks_flagged(norm, torch.tensor([[0.0, 9.0]])))
    assert not bool(looks_flagged(norm, torch.tensor([[0.0, 0.1]])))
    assert not bool(looks_flagged(norm, torch.tensor([[0.0, 9.0]]), constant=(1,)))


def test_norm_without_running_statistics_skips_small_batches() -> None:
    gate = AdaptiveNorm("layer", num_features=C, rule=ALWAYS).eval()
    x = flagged_batch(1)
    assert gate(x) is x
    gate.min_examples = 1
    y = flagged_batch()
    assert torch.equal(gate(y), create("layer", C)(y))


def test_verdict_as_tensor_is_the_verdict_as_bool() -> None:
    gate = AdaptiveNorm("batch", "population", num_features=C)
    gate(flagged_batch())
    gate.eval()
    for x in (flagged_batch(), plain_batch()):
        for verdict in (True, False):
            want = gate.apply_verdict(x, verdict)
            got = gate.apply_verdict(x, torch.tensor(verdict))
            torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_element_features() -> None:
    x = torch.randn(8, 3, 2, 2) * torch.arange(1, 13).view(3, 2, 2) + 5
    gate = AdaptiveNorm("batch", num_features=12, features="element")
    want = ((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()).detach()
    torch.testing.assert_close(gate(x), want)
    torch.testing.assert_close(gate.eval()(x), want)
    assert gate.evaluation == "threshold"
    set_decision(gate.train(), False)
    assert gate(x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_of_the_input_is_kept(dtype: torch.dtype) -> None:
    gate = AdaptiveNorm("batch", num_features=C)
    x = plain_batch().to(dtype)
    for decision in (True, False, torch.tensor(True), torch.tensor(False)):
        set_decision(gate.train(), decision)
        assert gate(x).dtype == dtype
        assert gate.eval()(x).dtype == dtype


def test_one_call_reaches_every_gate() -> None:
    model = nn.Sequential(AdaptiveNorm("batch", num_features=C), nn.Linear(C, C), AdaptiveNorm("layer", num_features=C))
    assert set_decision(model, np.bool_(False)) == 2  # type: ignore[arg-type]
    assert [gate.decision for gate in gates(model)] == [False, False]
    assert set_decision(model, None) == 2
    assert set_rule(model, NEVER) == 2
    assert {gate.rule.cutoff for gate in gates(model)} == {1e9}


def test_bare_norm_checkpoint_loads_into_the_gate() -> None:
    model = nn.Sequential(nn.Linear(C, C), nn.BatchNorm1d(C))
    model(flagged_batch())
    gated = nn.Sequential(nn.Linear(C, C), AdaptiveNorm("batch", num_features=C))
    gated.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(gated.get_buffer("1.norm.running_mean"), model.get_buffer("1.running_mean"))
    gated.load_state_dict(gated.state_dict(), strict=True)


def test_copies_and_checkpoints_are_the_same_gate() -> None:
    gate = AdaptiveNorm("batch", num_features=C, rule=WIDE)
    gate(flagged_batch())
    set_decision(gate, False)
    file = io.BytesIO()
    torch.save(gate, file)
    file.seek(0)
    for other in (copy.deepcopy(gate), torch.load(file, weights_only=False)):
        x = plain_batch()
        assert other.train()(x) is x
        assert torch.equal(other.eval()(flagged_batch() * 0 + x), gate.eval()(x))


def test_bad_use_is_refused() -> None:
    with pytest.raises(GateError, match="at least one gate; got Linear without any: use adapt_input"):
        set_decision(nn.Linear(2, 2), True)
    assert set_decision(nn.Linear(2, 2), True, strict=False) == 0
    with pytest.raises(GateError, match="at least one gate"):
        set_rule(nn.Linear(2, 2), NEVER)
    gate = AdaptiveNorm("batch", num_features=C)
    with pytest.raises(GateError, match="bool or a 0-d bool tensor as decision; got 1: pass plan"):
        set_decision(gate, 1)  # type: ignore[arg-type]
    with pytest.raises(GateError, match=r"a tensor of shape \(2,\), torch.bool"):
        set_decision(gate, torch.tensor([True, False]))
    with pytest.raises(RuleError, match="a Rule or the rule of a plan; got float"):
        set_rule(gate, 0.5)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="among: threshold, running, batch, never; got 'always'"):
        gate.evaluation = "always"  # type: ignore[assignment]
    with pytest.raises(OptionError, match="expected num_features with the name 'batch' as norm"):
        AdaptiveNorm("batch")
    with pytest.raises(OptionError, match="no options beside a module as norm; got eps"):
        AdaptiveNorm(nn.BatchNorm1d(C), eps=1e-3)
    with pytest.raises(OptionError, match="min_examples >= 1; got 0"):
        AdaptiveNorm("batch", num_features=C, min_examples=0)
    with pytest.raises(OptionError, match="features 'channel' or 'element'; got 'pixel'"):
        AdaptiveNorm("batch", num_features=C, features="pixel")  # type: ignore[arg-type]
    with pytest.raises(GateError, match="norm with running statistics for skip='population'; got Layer"):
        AdaptiveNorm("layer", "population", num_features=C)


def test_hooks_see_a_skipped_batch() -> None:
    gate = AdaptiveNorm("batch", num_features=2)
    set_decision(gate, False)
    x, seen = torch.randn(3, 2), []
    assert gate(x) is x
    handles = [
        gate.register_forward_hook(lambda *_: seen.append("after")),
        gate.register_forward_pre_hook(lambda *_: seen.append("before")),
        nn.modules.module.register_module_forward_hook(lambda *_: seen.append("global")),
    ]
    assert gate(x) is x
    assert sorted(seen) == ["after", "before", "global"]
    for handle in handles:
        handle.remove()
    gate(x)
    assert len(seen) == 3
