from dataclasses import replace

import numpy as np
import pytest
import torch

import norms
from assessor import assess
from benchmarks.study import arms
from benchmarks.study.families import load
from benchmarks.study.models import Kind, kind_of, make
from benchmarks.study.records import Run
from benchmarks.study.training import Bench, Budget, order, train
from benchmarks.study.tuning import DIVERGED
from tests.benchmarks.study.tiny import SHAPES, tiny

STEPS = 48
MIXED = tiny((12,), spread=60.0, sources=2)
EVALUATIONS = ("threshold/B", "threshold/1", "running/B", "running/1", "batch/B", "never/B")


def same(first: Run, second: Run) -> bool:
    return replace(first, seconds=0.0) == replace(second, seconds=0.0)


@pytest.mark.parametrize("network", SHAPES)
def test_every_arm_learns_better_than_chance(network: str) -> None:
    data = tiny(SHAPES[network])
    bench = Bench(Budget(network, 8, "adam", 32))
    # A gate is built alike for every method; all of them are tried on the fastest network.
    names = [name for name in arms.names("grid") if network == "mlp" or arms.get(name).method in ("", "need")]
    names += arms.names("sources") if network == "mlp" else []
    for name in dict.fromkeys(names):
        if arms.applies(name, network, SHAPES[network]):
            asked = arms.evaluations(name, "sources") if network == "mlp" else ()
            run = bench.run(data, arms.get(name), 0.01, 1, asked)
            # Guessing among 3 classes: a third, and 0.06 of standard error on 61 samples.
            assert run.accuracy[""] > 0.6, name
            assert not run.diverged
            assert set(run.accuracy) == {"", *asked}


def test_the_decisions_are_those_of_the_plan_on_the_prepared_data() -> None:
    bench = Bench(Budget("mlp", 8, "sgd", STEPS))
    for method in arms.METHODS:
        plan = assess(MIXED.x.numpy(), batch_size=8, labels=MIXED.y.numpy(), method=method)
        flags = bench.flags(MIXED, arms.gate(method, "identity"))
        np.testing.assert_array_equal(flags, plan.normalize)
    need = bench.flags(MIXED, arms.gate("need", "identity"))
    assert need.tolist() == [False, True] * 6
    assert bench.run(MIXED, arms.get("need/identity"), 0.01, 1).normalized == 0.5
    rescaled = bench.prepared(MIXED, "per_source")
    assert not bench.flags(rescaled, arms.gate("need", "identity")).any()


@pytest.mark.parametrize("spread", [1.0, 60.0])
def test_what_is_remembered_gives_what_a_training_of_its_own_gives(spread: float) -> None:
    data = tiny((12,), spread=spread, sources=2)
    bench = Bench(Budget("mlp", 8, "sgd", 24))
    for other in ("none", "batch", "batch_layer", "heterogeneity/identity", "gaussian/batch_layer"):
        bench.train(data, arms.get(other), 0.02, 3)
    for name in ("need/identity", "need/population", "need/batch_layer", "need/identity@hidden"):
        remembered = bench.run(data, arms.get(name), 0.02, 3, EVALUATIONS)
        alone = train(data, name, "mlp", 8, "sgd", 0.02, 24, 3, EVALUATIONS)
        assert same(remembered, alone), name


def test_gates_that_never_switch_are_trained_as_what_they_are() -> None:
    bench = Bench(Budget("mlp", 8, "sgd", STEPS))
    quiet, loud = tiny((12,)), replace(MIXED, x=MIXED.x * 100)
    for data, name, plain in [
        (quiet, "need/identity", "none"),
        (quiet, "need/batch_layer", "batch_layer"),
        (loud, "need/population", "batch"),
        (loud, "need/identity", "batch"),
    ]:
        assert bench.train(data, arms.get(name), 0.01, 1) is bench.train(data, arms.get(plain), 0.01, 1)
    assert bench.trainings == 3


@pytest.mark.parametrize("skip", ["identity", "batch_layer"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_gate_that_never_switches_has_the_weights_that_gates_told_so_get(skip: str, scale: float) -> None:
    """The short cut of training without gates, against the gates themselves, told at every step."""
    data = replace(tiny((12,)), x=tiny((12,)).x * scale)
    bench = Bench(Budget("mlp", 8, "sgd", STEPS))
    arm = arms.gate("need", skip)
    flags = bench.flags(data, arm)
    assert flags.all() if scale > 1 else not flags.any()
    trained = bench.train(data, arm, 0.01, 5)
    assert trained.kind == kind_of(arm, "mlp", (12,), 3, 8, flags)
    torch.manual_seed(5)
    model = make(Kind("mlp", (12,), 3, 8, "batch", "both", skip, True, False))
    norms.set_decision(model, bool(flags.all()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for i in order(12, STEPS, 5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(data.x[i * 8 : i * 8 + 8]), data.y[i * 8 : i * 8 + 8])
        torch.autograd.backward(loss)
        optimizer.step()
    expected = model.state_dict()
    for name in ("model.1.weight", "model.4.weight", "model.7.bias"):
        torch.testing.assert_close(trained.model.state_dict()[name], expected[name], rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    first, second, other = (
        train(MIXED, "need/population", "mlp", 8, "adam", 0.01, STEPS, seed, ("running/1",)) for seed in (1, 1, 2)
    )
    assert same(first, second)
    assert first.accuracy != other.accuracy or first.steps_to_loss != other.steps_to_loss


def test_divergence_is_recorded() -> None:
    run = train(tiny((12,)), "none", "mlp", 8, "sgd", 1e9, STEPS, 1)
    assert run.diverged
    assert run.steps_to_loss is None
    bench = Bench(Budget("mlp", 8, "sgd", STEPS))
    assert bench.validate(tiny((12,)), arms.get("none"), 1e9, 1).accuracy == -1
    assert not train(tiny((12,)), "none", "mlp", 8, "sgd", 0.01, STEPS, 1).diverged


def test_tuning_avoids_rates_that_diverge_or_do_not_move() -> None:
    bench = Bench(Budget("mlp", 8, "sgd", STEPS))
    tuned = bench.tune(tiny((12,)), arms.get("none"), 0)
    assert 0.003 <= tuned.rate <= 0.3
    assert max(tuned.tried.values()) > 0.8


def test_one_decision_for_the_dataset_does_what_the_plan_says_of_it() -> None:
    bench = Bench(Budget("mlp", 8, "sgd", STEPS))
    arm = arms.get("one_decision")
    assert bench.plan(MIXED).action == "normalize"
    assert bench.settled(MIXED, arm) == replace(arm, prepare="nothing", norm="batch", where="input")
    shifted = replace(tiny((12,)), x=tiny((12,)).x * 0.01 + 50)
    action = bench.plan(shifted).action
    assert action in ("scale", "standardize")
    assert bench.settled(shifted, arm).prepare == action
    quiet = tiny((12,))
    assert bench.plan(quiet).action == "nothing"
    assert bench.settled(quiet, arm).prepare == "nothing"
    assert bench.settled(quiet, arm).norm == "none"


def test_evaluations_of_one_gate_differ_as_they_say() -> None:
    run = train(MIXED, "need/identity", "mlp", 8, "sgd", 0.02, 96, 1, EVALUATIONS)
    assert run.accuracy[""] == run.accuracy["threshold/B"]
    # Never normalizing leaves the second source far off; the running statistics are its own, not the first one's.
    assert run.accuracy["threshold/B"] > 0.8
    assert run.accuracy["never/B"] < run.accuracy["threshold/B"]
    assert run.accuracy["running/1"] == run.accuracy["running/B"] < run.accuracy["threshold/B"]


def test_a_gate_in_hidden_layers_alone_knows_flagged_samples_one_by_one() -> None:
    run = train(MIXED, "need/identity@hidden", "mlp", 8, "sgd", 0.02, 96, 1, ("threshold/1", "never/1", "running/1"))
    # The verdict on single samples of two sources sixtyfold apart is neither always nor never.
    assert run.accuracy["threshold/1"] > max(run.accuracy["never/1"], run.accuracy["running/1"])


def test_batches_come_in_another_order_in_every_epoch() -> None:
    seen = list(order(50, 120, 7))
    assert sorted(seen[:50]) == sorted(seen[50:100]) == list(range(50))
    assert seen[:50] != seen[50:100]
    assert len(seen) == 120
    assert seen == list(order(50, 120, 7)) != list(order(50, 120, 8))


def test_an_unknown_arm_optimizer_or_evaluation_is_refused() -> None:
    with pytest.raises(KeyError, match="expected an arm among: none, scale"):
        train(MIXED, "bath", "mlp", 8, "sgd", 0.1, 1, 1)
    with pytest.raises(ValueError, match="'sgd' or 'adam'; got 'lion'"):
        train(MIXED, "none", "mlp", 8, "lion", 0.1, 1, 1)
    with pytest.raises(ValueError, match="an evaluation among: threshold, running, batch, never; got 'mean'"):
        train(MIXED, "batch", "mlp", 8, "sgd", 0.1, 1, 1, ("mean/B",))
    with pytest.raises(ValueError, match=r"got 'convnet' with samples of shape \(12,\)"):
        train(MIXED, "none", "convnet", 8, "sgd", 0.1, 1, 1)


def test_a_rate_at_which_nothing_is_learned_counts_as_diverged() -> None:
    data = load("digits", "standardized", 1, 32)
    blank = [tuple((x * 0, y) for x, y in part) for part in (data.validation, data.test)]
    nothing = replace(data, x=data.x * 0, validation=blank[0], test=blank[1])
    bench = Bench(Budget("mlp", 32, "sgd", 60))
    assert bench.validate(nothing, arms.get("none"), 0.03, 0) == DIVERGED
    assert bench.validate(data, arms.get("none"), 0.03, 0) != DIVERGED


@pytest.mark.parametrize(
    ("name", "flags", "inside"),
    [
        ("standardize+layer", [True, True], [0, 2, 0]),
        ("standardize+batch", [True, True], [2, 0, 0]),
        ("need/identity@input+layer", [True, False], [1, 2, 1]),
        ("need/identity@input+batch", [True, False], [3, 0, 1]),
        ("need/identity@input+batch", [False, False], [2, 0, 0]),
    ],
)
def test_norms_sit_in_hidden_layers_whatever_the_gate_does(name: str, flags: list[bool], inside: list[int]) -> None:
    model = make(kind_of(arms.get(name), "mlp", (4,), 3, 8, torch.tensor(flags)))
    kinds = (norms.BatchNorm, norms.LayerNorm, norms.AdaptiveNorm)
    assert [sum(isinstance(module, kind) for module in model.modules()) for kind in kinds] == inside
