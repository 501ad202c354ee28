import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import erf
from torch import Tensor, nn

from norms import (
    ConversionError,
    InputError,
    KalmanNorm,
    OptionError,
    adapt_input,
    carry_priors,
    convert,
    create,
    parameter_groups,
)
from norms.kalman_state import State, add, settle, through
from tests.norms.reference import Floats

C = 3


def fused(
    x: Floats, size: int, p: float, m_pre: Floats | None, v_pre: Floats | None, guard: float = 100
) -> tuple[Floats, Floats, Floats]:
    """The released filter, group by group; x of shape (N, C, positions), priors (groups, C)."""
    groups = [x[i : i + size] for i in range(0, len(x), size)]
    mean = np.stack([g.mean((0, 2)) for g in groups])
    var = np.stack([g.var((0, 2)) for g in groups])
    if m_pre is not None and v_pre is not None and (v_pre / var).mean() < guard:
        var = p * v_pre + (1 - p) * var + p * (1 - p) * (mean - m_pre) ** 2
        mean = p * m_pre + (1 - p) * mean
    done = [(g - m[:, None]) / np.sqrt(v[:, None] + 1e-5) for g, m, v in zip(groups, mean, var, strict=True)]
    return np.concatenate(done), mean, var


def prior(groups: int, scale: float = 2.0) -> tuple[State, Floats, Floats]:
    rng = np.random.default_rng(7)
    mean, var = rng.normal(0, 2, (groups, C)), rng.lognormal(0, 0.5, (groups, C)) * scale
    return State(torch.tensor(mean), torch.tensor(var)), mean, var


@pytest.mark.parametrize(("n", "size"), [(8, 2), (7, 3), (6, 6), (5, 8)])
@pytest.mark.parametrize("p", [0.9, 0.05])
def test_filter_is_the_released_one(n: int, size: int, p: float) -> None:
    x = np.random.default_rng(0).normal(2, 3, (n, C, 5))
    state, m_pre, v_pre = prior(-(-n // size))
    norm = KalmanNorm(C, gain=p, examples_per_group=size).double()
    y, after = norm(torch.tensor(x), state, with_state=True)
    want, mean, var = fused(x, size, p, m_pre, v_pre)
    np.testing.assert_allclose(y.detach().numpy(), want, atol=1e-12)
    np.testing.assert_allclose(after.mean.detach().numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(after.variance.detach().numpy(), var, atol=1e-12)
    share = np.array([min(size, n - i) for i in range(0, n, size)])[:, None] / n
    running = 0.1 * (share * mean).sum(0)
    np.testing.assert_allclose(norm.get_buffer("running_mean").numpy(), running, atol=1e-12)
    running = 0.9 + 0.1 * (share * var).sum(0)
    np.testing.assert_allclose(norm.get_buffer("running_var").numpy(), running, atol=1e-12)


def test_without_a_prior_it_is_batch_norm() -> None:
    x = torch.randn(6, C, 4)
    torch.testing.assert_close(KalmanNorm(C)(x), nn.BatchNorm1d(C)(x))


def test_the_guard_ignores_a_prior_that_is_far_too_wide() -> None:
    x = np.random.default_rng(0).normal(2, 1, (4, C, 50))
    for scale, trusted in ((1.0, True), (1e4, False)):
        state, m_pre, v_pre = prior(1, scale)
        got = KalmanNorm(C).double()(torch.tensor(x), state)
        want = fused(x, 4, 0.9, m_pre, v_pre)[0]
        np.testing.assert_allclose(got.detach().numpy(), want, atol=1e-12)
        free = fused(x, 4, 0.9, None, None)[0]
        assert np.allclose(want, free) is not trusted
    constant = torch.ones(4, C, 5, dtype=torch.float64)
    assert not KalmanNorm(C).double()(constant, prior(1)[0]).any()


def test_inference_has_no_prior_and_hands_none_on() -> None:
    norm = KalmanNorm(C)
    norm(torch.randn(8, C))
    x = torch.randn(4, C)
    y, state = norm.eval()(x, prior(1)[0], with_state=True)
    assert state is None
    want = (x - norm.get_buffer("running_mean")) / (norm.get_buffer("running_var") + 1e-5).sqrt()
    torch.testing.assert_close(y, want)


def test_learnable_gain() -> None:
    fixed, learned = KalmanNorm(C, gain=0.3), KalmanNorm(C, gain=0.3, learnable_gain=True)
    x, state = torch.randn(4, C, 5), State(torch.zeros(1, C), torch.ones(1, C))
    torch.testing.assert_close(learned(x, state), fixed(x, state))
    torch.autograd.backward(learned(x, state).pow(3).sum())
    assert learned.gain_logit is not None
    assert learned.gain_logit.grad is not None
    assert learned.gain_logit.grad != 0
    groups = parameter_groups(learned, weight_decay=1.0, beta_decay=1.0)
    assert groups[-1]["params"][0] is learned.gain_logit
    assert groups[-1]["weight_decay"] == 0


REAL: dict[str, Callable[[float], float]] = {
    "relu": lambda v: max(v, 0.0),
    "gelu": lambda v: float(v * (1 + erf(v / np.sqrt(2))) / 2),
    "silu": lambda v: float(v / (1 + np.exp(-v))),
    "tanh": lambda v: float(np.tanh(v)),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(("mean", "var"), [(0.0, 1.0), (1.5, 0.3), (-2.0, 4.0), (-1.0, 0.01)])
def test_moments_behind_an_activation(name: str, mean: float, var: float) -> None:
    def expect(f: Callable[[float], float]) -> float:
        def weighed(z: float) -> float:
            return f(REAL[name](mean + np.sqrt(var) * z)) * float(np.exp(-z * z / 2) / np.sqrt(2 * np.pi))

        kink = -mean / np.sqrt(var)
        points = [kink] if abs(kink) < 12 else None
        return float(quad(weighed, -12, 12, points=points, epsabs=1e-12, limit=200)[0])

    first = expect(lambda v: v)
    second = expect(lambda v: (v - first) ** 2)
    got = settle(State(torch.tensor([[mean]]).double(), torch.tensor([[var]]).double(), name))
    tolerance = 1e-6 if name == "relu" else 1e-3  # closed form; 32 nodes
    assert got.mean.item() == pytest.approx(first, abs=tolerance)
    assert got.variance.item() == pytest.approx(second, abs=tolerance)


LAYERS = [
    (nn.Conv2d(C, 4, 3, padding=1, stride=2), (6, 7)),
    (nn.Conv1d(C, 6, 4, groups=3, dilation=2, bias=False), (12,)),
    (nn.Linear(C, 5), ()),
]


@pytest.mark.parametrize(("layer", "positions"), LAYERS)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("sampled", [False, True])
def test_moments_behind_a_layer(layer: Any, positions: tuple[int, ...], activation: str | None, sampled: bool) -> None:
    layer = copy.deepcopy(layer).double()
    state = State(torch.randn(2, C).double(), torch.rand(2, C).double() + 0.5, activation)
    names = ("stride", "padding", "dilation", "groups")
    options = {k: getattr(layer, k) for k in names} if positions else None
    x = torch.zeros(2, C, *positions, dtype=torch.float64)
    draws = 20000 if sampled else 1
    repeats = draws // 20 or 1
    wide = State(state.mean.repeat(repeats, 1), state.variance.repeat(repeats, 1), activation)
    got = through(wide, x, layer.weight, layer.bias, options, sampled)
    assert got is not None
    # Independent reference: many images through the layer, moments over draws and positions.
    shape = (40000, C, *positions)
    for group in range(2):
        mean = state.mean[group].reshape(1, C, *(1 for _ in positions))
        std = state.variance[group].sqrt().reshape(mean.shape)
        values = mean + std * torch.randn(shape, dtype=torch.float64)
        out = layer(values.relu() if activation else values).detach().transpose(0, 1).flatten(1)
        picked = slice(group, None, 2)
        if sampled:
            # Each draw gives moments of one image: its variance lacks that of the image's own mean.
            torch.testing.assert_close(got.mean[picked].mean(0), out.mean(1), atol=0.05, rtol=0.05)
            spread = got.mean[picked].var(0) + got.variance[picked].mean(0)
            torch.testing.assert_close(spread, out.var(1), atol=0.05, rtol=0.05)
        else:
            torch.testing.assert_close(got.mean[group], out.mean(1), atol=0.02, rtol=0.02)
            torch.testing.assert_close(got.variance[group], out.var(1), atol=0.02, rtol=0.02)


def test_residual_sums_add_moments() -> None:
    a, b = prior(2)[0], prior(2, 5.0)[0]
    total = add(a, b)
    assert total is not None
    torch.testing.assert_close(total.mean, a.mean + b.mean)
    torch.testing.assert_close(total.variance, a.variance + b.variance)
    assert add(a, None) is None
    assert add(None, b) is None
    assert through(None, torch.zeros(1, C), torch.zeros(2, C), None, None, False) is None


class Residual(nn.Module):
    """conv - norm - relu - conv - norm, added to its input, relu."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(2, C, 3, padding=1), nn.BatchNorm2d(C)
        self.conv1, self.norm1 = nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)
        self.conv2, self.norm2 = nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)
        self.norm3, self.head = nn.BatchNorm2d(C), nn.Linear(C, 2)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.norm0(self.conv0(x)))
        y = self.norm2(self.conv2(nn.functional.relu(self.norm1(self.conv1(stem)))))
        y = self.norm3(stem + y)
        out: Tensor = self.head(y.mean((2, 3)))
        return out


def kalman(**options: Any) -> Any:
    return convert(Residual(), "kalman", examples_per_group=2, **options).model


def test_priors_follow_the_traced_structure() -> None:
    model = kalman()
    carried = carry_priors(model, prior="moments")
    assert [(row.path, row.changed, row.reason) for row in carried.report] == [
        ("norm0", False, "no norm before it"),
        ("norm1", True, "prior from norm0, relu, conv1"),
        ("norm2", True, "prior from norm1, relu, conv2"),
        ("norm3", True, "prior from (norm0, relu) + (norm2)"),
    ]
    twin = copy.deepcopy(model)
    x = torch.randn(6, 2, 5, 5)
    got = carried.model(x)

    def conv(layer: Any, state: State, at: Tensor) -> State | None:
        options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
        return through(state._replace(activation="relu"), at, layer.weight, layer.bias, options, False)

    y0, s0 = twin.norm0(twin.conv0(x), with_state=True)
    y1, s1 = twin.norm1(twin.conv1(y0.relu()), conv(twin.conv1, s0, x), with_state=True)
    y2, s2 = twin.norm2(twin.conv2(y1.relu()), conv(twin.conv2, s1, x), with_state=True)
    rectified = settle(s0._replace(activation="relu"))
    last = State(rectified.mean + s2.mean, rectified.variance + s2.variance)
    y3 = twin.norm3(y0.relu() + y2, last)
    torch.testing.assert_close(got, twin.head(y3.mean((2, 3))))
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(carried.model.state_dict()[key], value)


@pytest.mark.parametrize("kind", ["sampled", "moments"])
def test_a_carried_model_trains_and_infers(kind: str) -> None:
    model = kalman(learnable_gain=True)
    carried = carry_priors(model, prior=kind).model
    assert sorted(carried.state_dict()) == sorted(model.state_dict())
    optimizer = torch.optim.SGD(carried.parameters(), lr=0.02)
    x, y = torch.randn(16, 2, 5, 5), torch.arange(16) % 2
    x[::2] += 1.0
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(carried(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    without = [name for name, p in carried.named_parameters() if p.grad is None]
    assert without == ["norm0.gain_logit"]  # the first norm has no prior to weigh
    assert all(p.grad.isfinite().all() for p in carried.parameters() if p.grad is not None)
    # The layers are shared, and inference needs no prior: both models infer the same.
    torch.testing.assert_close(carried.eval()(x), model.eval()(x))


def test_convert_takes_the_prior_too() -> None:
    model = Residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    conversion = convert(model, "kalman", examples_per_group=2, prior="moments", inplace=True, optimizer=optimizer)
    carried = conversion.model
    assert [row.reason.split("; ")[-1] for row in conversion.report] == [
        "no norm before it",
        "prior from norm0, relu, conv1",
        "prior from norm1, relu, conv2",
        "prior from (norm0, relu) + (norm2)",
    ]
    x = torch.randn(6, 2, 5, 5)
    plain = copy.deepcopy(model)  # the layers are the carried model's
    torch.testing.assert_close(carried(x), carry_priors(plain).model(x))
    assert {id(p) for p in carried.parameters()} == {id(p) for p in optimizer.param_groups[0]["params"]}
    again = convert(carried, "kalman", examples_per_group=2, prior="moments")
    assert not again.changed
    torch.testing.assert_close(again.model(x), copy.deepcopy(carried)(x))
    with pytest.raises(ConversionError, match="carries no priors yet"):
        convert(carried, "kalman", prior="sampled")
    assert conversion.revert() is model
    assert isinstance(model.norm1, nn.BatchNorm2d)
    assert conversion.revert() is model
    model(x)


def test_a_norm_may_name_its_prior() -> None:
    last = KalmanNorm(2)
    model = nn.Sequential(create("kalman", 2, prior="moments"), nn.ReLU(), nn.Linear(2, 2), last)
    x = torch.randn(8, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        want = copy.deepcopy(carry_priors(model, prior="moments").model)(x)
    torch.testing.assert_close(carry_priors(model).model(x), want)
    assert "prior=moments" in repr(model[0])
    assert convert(nn.BatchNorm1d(2), "kalman", prior="sampled").model.prior == "sampled"
    last.prior = "sampled"
    with pytest.raises(OptionError, match="made with moments and sampled: pass prior="):
        carry_priors(model)
    with pytest.raises(OptionError, match="prior 'sampled' or 'moments'; got 'none'"):
        KalmanNorm(2, prior="none")


def test_a_model_that_cannot_be_traced_is_left_as_it_was() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(x) if x.sum() > 0 else x
            return out

    model = Branching()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConversionError, match=r"expected a model that torch\.fx can trace"):
        convert(model, "kalman", prior="sampled", learnable_gain=True, inplace=True, optimizer=optimizer)
    assert type(model.norm) is nn.BatchNorm1d
    assert len(optimizer.param_groups[0]["params"]) == 2


@pytest.mark.parametrize("gated", [lambda m: convert(m, "kalman", adaptive=True).model, lambda m: adapt_input(m, 2)])
def test_a_gate_is_not_traced_away(gated: Callable[[nn.Module], nn.Module]) -> None:
    model = gated(nn.Sequential(KalmanNorm(2), nn.ReLU(), nn.Linear(2, 2), KalmanNorm(2)))
    with pytest.raises(ConversionError, match="expected a model without gates"):
        carry_priors(model)


def test_copies_of_a_carried_model() -> None:
    carried = carry_priors(kalman(), prior="moments").model
    file = io.BytesIO()
    torch.save(carried, file)
    file.seek(0)
    x = torch.randn(6, 2, 5, 5)
    want = copy.deepcopy(carried)(x)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), want)


class Joined(nn.Module):
    """The residual block whose last sum and relu are left to the norm, or not."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.norm0, self.conv1, self.norm1 = KalmanNorm(C), nn.Conv1d(C, C, 3, padding=1), KalmanNorm(C)
        self.conv2, self.norm2 = nn.Conv1d(C, C, 1), KalmanNorm(C)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.norm0(x))
        inner = self.conv1(stem)
        y = self.norm1(inner, residual=stem, relu=True) if self.fused else torch.relu(self.norm1(inner) + stem)
        out: Tensor = self.norm2(self.conv2(y))
        return out


def test_a_norm_that_does_the_residual_sum_hands_on_what_is_behind_it() -> None:
    apart, fused = Joined(fused=False), Joined(fused=True)
    fused.load_state_dict(apart.state_dict())
    models = [carry_priors(model, prior="moments") for model in (fused, apart)]
    assert [row.reason for row in models[0].report] == [
        "no norm before it",
        "prior from norm0, relu, conv1",
        "prior from (norm1) + (norm0, relu), relu, conv2",
    ]
    x = torch.randn(6, C, 5)
    torch.testing.assert_close(*(model.model(x) for model in models))
    torch.testing.assert_close(*(model.model.state_dict() for model in models))
    torch.testing.assert_close(*(model.model.eval()(x) for model in models))


def test_a_residual_without_a_state_ends_the_prior() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm0, self.conv, self.norm1 = KalmanNorm(2), nn.Conv1d(2, 2, 1), KalmanNorm(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm1(self.conv(self.norm0(x, residual=x)))
            return out

    carried = carry_priors(Bare())
    assert carried.report[1].reason == "ends at norm0: its residual has no state"
    assert carried.model(torch.randn(4, 2, 6)).shape == (4, 2, 6)


def test_what_ends_a_prior_is_reported() -> None:
    model = nn.Sequential(
        KalmanNorm(2),
        nn.Dropout(0.0),
        nn.Conv1d(2, 2, 1),
        nn.Sigmoid(),
        KalmanNorm(2),
        nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"),
        KalmanNorm(2),
    )
    carried = carry_priors(model)
    assert [row.reason for row in carried.report] == ["no norm before it", "ends at 3", "ends at 5"]
    assert "KalmanNorm  no       ends at 5" in str(carried)
    assert carried.model(torch.randn(4, 2, 6)).shape == (4, 2, 6)


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = KalmanNorm(2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.norm(x) if x.sum() > 0 else x
            return y

    with pytest.raises(ConversionError, match=r"torch\.fx can trace; Branching gave TraceError: .*branches"):
        carry_priors(Branching())


def test_bad_use_is_refused() -> None:
    with pytest.raises(OptionError, match="prior 'sampled' or 'moments'; got 'none'"):
        carry_priors(nn.Sequential(KalmanNorm(2)), prior="none")
    with pytest.raises(OptionError, match="model with KalmanNorm layers; got Linear without any"):
        carry_priors(nn.Linear(2, 2))
    with pytest.raises(OptionError, match=r"gain in \[0, 1\], inside it if learnable; got 1.0"):
        KalmanNorm(C, gain=1.0, learnable_gain=True)
    with pytest.raises(OptionError, match="examples_per_group >= 1 or None; got 0"):
        KalmanNorm(C, examples_per_group=0)
    with pytest.raises(OptionError, match="guard > 0; got 0"):
        KalmanNorm(C, guard=0)
    with pytest.raises(InputError, match=r"prior of shape \(2, 3\), \(groups, channels\); got \(1, 3\)"):
        KalmanNorm(C, examples_per_group=2)(torch.randn(4, C), prior(1)[0])


class ByName(nn.Module):
    """Calls its norm with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(input=self.first(x))
        return y


def test_a_conversion_with_prior_that_fails_leaves_the_model_alone() -> None:
    model = ByName()
    with pytest.raises(ConversionError, match="the norm norm to be called with its input as the first argument"):
        convert(model, "kalman", prior="moments", inplace=True)
    assert type(model.norm) is nn.BatchNorm1d


def test_carrying_priors_keeps_each_layer_in_its_mode() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = nn.Sequential(inner, nn.ReLU(), nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    inner.eval()
    done = convert(model, "kalman", prior="moments", inplace=True)
    modes = {path: module.training for path, module in done.model.named_modules()}
    assert modes[""]
    assert modes["3"]
    assert not any(modes[path] for path in ("0", "0.0", "0.1"))
    done.revert()
    assert not inner[1].training
    assert model.training


def test_the_prior_asked_for_goes_before_those_of_norms_left_out() -> None:
    model = nn.Sequential(KalmanNorm(2, prior="sampled"), nn.ReLU(), nn.Linear(2, 2), nn.BatchNorm1d(2))
    done = convert(model, "kalman", prior="moments", where=lambda path, _: path == "3")
    assert "prior from 0" in str(done)


def test_a_model_that_carries_priors_is_not_converted_to_another_norm() -> None:
    model = convert(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "kalman", prior="moments").model
    for name, adaptive in (("batch", False), ("kalman", True)):
        with pytest.raises(ConversionError, match=r"hand their states on: convert the model that it was made of"):
            convert(model, name, adaptive=adaptive)
