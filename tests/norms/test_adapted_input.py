"""A gate in front of a model, and gates inside that follow it."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from norms import (
    AdaptedInput,
    AdaptiveNorm,
    OptionError,
    adapt_input,
    deciding_gates,
    gates,
    set_decision,
    set_rule,
)

ALWAYS = {"measure": "standard_divergence", "cutoff": -1e9}
NEVER = {"measure": "standard_divergence", "cutoff": 1e9}


class Spy(nn.Module):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor | None = None

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.seen = x
        return x * scale


def hidden() -> Any:
    # A hidden gate whose own rule always flags: whether it skips shows whom it follows.
    return nn.Sequential(Spy(), nn.Linear(6, 4), AdaptiveNorm("batch", num_features=4, rule=ALWAYS))


def far(n: int = 8) -> Tensor:
    return torch.randn(n, 6) * 9 + 30


def test_front_gate_normalizes_each_element() -> None:
    spy = Spy()
    model = adapt_input(spy, (3, 2))
    x = far().reshape(8, 3, 2)
    y = model(x, scale=2.0)
    want = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(y, want * 2)
    assert list(model.gate.parameters()) == []
    set_decision(model, False)
    model(x)
    assert spy.seen is x


def test_front_gate_by_channel() -> None:
    model = adapt_input(Spy(), (3, 2), features="channel", affine=True)
    x = far().reshape(8, 3, 2)
    mean, var = x.mean((0, 2), keepdim=True), x.var((0, 2), correction=0, keepdim=True)
    torch.testing.assert_close(model(x), (x - mean) / (var + 1e-5).sqrt())
    assert len(list(model.gate.parameters())) == 2


def test_front_gate_averages_all_flagged_batches() -> None:
    model = adapt_input(Spy(), 6)
    batches = [far() + i for i in range(3)]
    for x in batches:
        model(x)
    want = torch.stack([x.mean(0) for x in batches]).mean(0)
    torch.testing.assert_close(model.gate.norm.get_buffer("running_mean"), want)
    assert adapt_input(Spy(), 6, momentum=0.3).gate.norm.momentum == 0.3


def test_hidden_gates_follow_the_front_in_evaluation() -> None:
    model = adapt_input(hidden(), 6, rule=NEVER).eval()
    inner: Any = model.model
    x = far()
    assert torch.equal(model(x), inner[1](x))
    set_rule(model, ALWAYS)
    norm = copy.deepcopy(inner[2].norm).train()
    z = inner[1](model.gate(x))
    assert torch.equal(model(x), norm(z))


def test_without_the_front_the_gate_decides_again() -> None:
    model = adapt_input(hidden(), 6, rule=NEVER).eval()
    inner: Any = model.model
    x = far()
    model(x)
    norm = copy.deepcopy(inner[2].norm).train()
    assert torch.equal(inner(x), norm(inner[1](x)))  # its own rule, ALWAYS


def test_a_failing_call_leaves_no_verdict_behind() -> None:
    model = adapt_input(nn.Sequential(hidden(), nn.Linear(99, 1)), 6, rule=NEVER).eval()
    with pytest.raises(RuntimeError):
        model(far())
    assert [gate.followed for gate in gates(model)] == [None, None]


def test_small_batches_follow_too() -> None:
    model = adapt_input(hidden(), 6, rule={"measure": "standard_divergence", "cutoff": 1.0})
    for _ in range(5):
        model(far())
    model.eval()
    inner: Any = model.model
    x = far(1)
    y = (x - model.gate.norm.get_buffer("running_mean")) / (model.gate.norm.get_buffer("running_var") + 1e-5).sqrt()
    torch.testing.assert_close(model(x), copy.deepcopy(inner[2].norm).eval()(inner[1](y)))
    plain = torch.randn(1, 6)
    assert torch.equal(model(plain), inner[1](plain))


def test_training_decisions_reach_all_gates() -> None:
    inner = hidden()
    model = adapt_input(inner, 6)
    assert set_decision(model, False) == 2
    x = far()
    assert torch.equal(model(x), inner[1](x))


def test_rules_go_to_the_gates_that_decide() -> None:
    model = nn.ModuleList([adapt_input(hidden(), 6), AdaptiveNorm("batch", num_features=2)])
    assert len(list(gates(model))) == 3
    assert len(list(deciding_gates(model))) == 2
    assert set_rule(model, NEVER) == 2
    front = model[0]
    assert isinstance(front, AdaptedInput)
    assert front.gate.rule.cutoff == 1e9
    inner: Any = front.model
    assert inner[2].rule.cutoff == -1e9


def test_copies_and_checkpoints_keep_the_link() -> None:
    model = adapt_input(hidden(), 6, rule=NEVER)
    model(far())
    model.eval()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    fresh = adapt_input(hidden(), 6, rule=NEVER).eval()
    fresh.load_state_dict(model.state_dict(), strict=True)
    x = far()
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False), fresh):
        assert torch.equal(other(x), model(x))
        set_rule(other, ALWAYS)
        assert not torch.equal(other(x), model(x))


def test_gates_given_other_norms() -> None:
    x = far()
    for norm in ("layer", "none", "batch_layer", "rms"):
        assert adapt_input(Spy(), 6, norm=norm)(x).shape == x.shape


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(OptionError, match=r"shape of a sample, e.g. .*; got \(\): leave the batch axis"):
        adapt_input(Spy(), ())
    with pytest.raises(OptionError, match=r"got \(-1, 3\)"):
        adapt_input(Spy(), (-1, 3))


def test_a_shape_may_be_any_integer() -> None:
    shape: Any = np.prod((2, 3))
    assert adapt_input(nn.Linear(6, 2), shape).gate.norm.num_features == 6
