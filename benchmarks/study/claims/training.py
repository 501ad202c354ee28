"""Trains one arm of a claim, with what only claims need: shuffled samples, added loss terms, decay and its stand-in."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import norms
from benchmarks.study.records import Data, Run, Setting

Batches = Sequence[tuple[Tensor, Tensor]]
Prepare = Callable[[nn.Module, Batches], object]


@dataclass(frozen=True)
class Arm:
    """What is compared: how its network is made, trained and prepared for the test.

    Attributes:
        build: makes the network, untrained, for this data.
        evaluations: by name, what is done to the trained network with batches of validation data before that test.
        at_batch_size: the test comes in batches of the training size; without it, where predictions do not depend
            on that, in large ones.
        penalty: made once for a network; called after each backward pass for a loss term of its own.
        weight_decay: of the weights in front of norms, each of which then is a parameter group; None: no groups.
        stands_in_for: a weight decay whose effect on the learning rate is put in its place (arXiv 1803.01814,
            section 3): the same training with that decay runs first, and each weight in front of a norm then learns at
            eta ||w||^2 / ||w_wd||^2.
        decide: the decision for each batch of the training data in order; batches are then fixed for all arms.
    """

    build: Callable[[Data, Setting], nn.Module]
    evaluations: Mapping[str, Prepare] = field(default_factory=dict)
    at_batch_size: bool = False
    penalty: Callable[[nn.Module, Setting], Callable[[], Tensor]] | None = None
    weight_decay: float | None = None
    stands_in_for: float = 0.0
    decide: Callable[[Data, Setting], Sequence[bool]] | None = None


@dataclass(frozen=True)
class Trained:
    """A run, and what the learning rate is chosen by: accuracy and loss on validation data, before any preparation."""

    run: Run
    validation_accuracy: float
    validation_loss: float

    @property
    def diverged(self) -> bool:
        """Whether the training loss, or the loss on validation data, was not finite."""
        return self.run.diverged or not isfinite(self.validation_loss)


def train(
    arm: Arm, data: Data, setting: Setting, rate: float, seed: int, *, fixed: bool = False, tested: bool = True
) -> Trained:
    """Return the run of one arm, with its test accuracy by evaluation.

    Args:
        arm: what to train.
        data: of this seed.
        setting: batch size, optimizer and steps.
        rate: learning rate, constant.
        seed: of initial weights and order; all arms see the same batches in the same order.
        fixed: batches are the rows i B to (i + 1) B - 1, in shuffled order, instead of shuffled samples.
        tested: without it the run has no accuracies: the choice of a rate sees no test data, and saves the time.
    """
    start = time.perf_counter()
    paces = norms_under_decay(arm, data, setting, rate, seed, fixed) if arm.stands_in_for else None
    model, reached, diverged, normalized = descend(arm, data, setting, rate, seed, fixed, paces=paces)
    seconds = time.perf_counter() - start
    model.eval()
    size = setting.batch_size if arm.at_batch_size else 512
    validation, test = _batches(data.validation, size), _batches(data.test, size)
    score, loss = _score(model, validation)
    accuracy = {"": _score(model, test)[0]} if tested else {}
    for name, prepare in arm.evaluations.items() if tested else ():
        prepare(model, validation)
        accuracy[name] = _score(model, test)[0]
    return Trained(Run(seed, accuracy, reached, diverged, round(seconds, 3), normalized), score, loss)


def descend(
    arm: Arm,
    data: Data,
    setting: Setting,
    rate: float,
    seed: int,
    fixed: bool,
    *,
    paces: Sequence[Sequence[float]] | None = None,
    watch: Callable[[nn.Module], None] | None = None,
) -> tuple[nn.Module, int | None, bool, float]:
    """Train; return the network, when its loss was reached, whether it diverged, the share of normalized batches.

    Args:
        paces: at each step, the norm that each weight in front of a norm has under weight decay.
        watch: called with the network before each step.
    """
    torch.manual_seed(seed)
    model = arm.build(data, setting).to(data.x.device).train()
    penalty = arm.penalty(model, setting) if arm.penalty else None
    optimizer = _optimizer(model, setting, rate, arm.weight_decay)
    decisions = arm.decide(data, setting) if arm.decide else None
    chosen = list(islice(order(len(data.x), setting.batch_size, seed, fixed), setting.steps))
    goal, smooth, reached, normalized = log(data.classes) / 2, None, None, 0
    for step, rows in enumerate(chosen):
        flagged = True if decisions is None else decisions[int(rows[0]) // setting.batch_size]
        normalized += flagged
        if decisions is not None:
            norms.set_decision(model, flagged)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data.x[rows]), data.y[rows])
        value = float(loss.detach())
        if not torch.isfinite(loss):
            return model, reached, True, normalized / (step + 1)
        torch.autograd.backward(loss)
        if penalty is not None:
            torch.autograd.backward(penalty())
        if watch is not None:
            watch(model)
        if paces is not None:
            for group, weight, under_decay in zip(
                optimizer.param_groups, weights_before_norms(model), paces[step], strict=False
            ):
                norm = float(weight.detach().norm())
                group["lr"] = norms.decayless_learning_rate(rate, norm=norm, norm_with_decay=under_decay)
        optimizer.step()
        smooth = value if smooth is None else smooth + 0.1 * (value - smooth)
        if reached is None and smooth < goal:
            reached = step + 1
    return model, reached, False, normalized / setting.steps


def norms_under_decay(arm: Arm, data: Data, setting: Setting, rate: float, seed: int, fixed: bool) -> list[list[float]]:
    """Return the norms of the weights in front of norms at each step of the same training with weight decay."""
    found: list[list[float]] = []

    def watch(model: nn.Module) -> None:
        found.append([float(weight.detach().norm()) for weight in weights_before_norms(model)])

    decayed = Arm(arm.build, weight_decay=arm.stands_in_for)
    descend(decayed, data, setting, rate, seed, fixed, watch=watch)
    # A training with decay that diverged leaves its last norms in force.
    return found + found[-1:] * (setting.steps - len(found))


def weights_before_norms(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights in front of norms: of all linear and convolution layers but the last."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return [layer.get_parameter("weight") for layer in layers[:-1]]


def _optimizer(model: nn.Module, setting: Setting, rate: float, weight_decay: float | None) -> torch.optim.Optimizer:
    """Return the optimizer; with a weight decay each weight in front of a norm has a group of its own, these first."""
    apart = [] if weight_decay is None else weights_before_norms(model)
    known = {id(parameter) for parameter in apart}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": [weight], "weight_decay": weight_decay} for weight in apart]
    groups.append({"params": rest})
    if setting.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9)


def order(samples: int, batch_size: int, seed: int, fixed: bool) -> Iterator[Tensor]:
    """Yield the rows of full batches without end, in an order that the seed alone decides."""
    generator = torch.Generator().manual_seed(seed)
    whole = samples // batch_size * batch_size
    if not whole:
        raise ValueError(f"expected at least one batch of {batch_size} samples; got {samples}: use a smaller batch")
    while True:
        if fixed:
            batches = torch.arange(whole).view(-1, batch_size)
            yield from batches[torch.randperm(len(batches), generator=generator)]
        else:
            yield from torch.randperm(samples, generator=generator)[:whole].view(-1, batch_size)


def _batches(parts: Sequence[tuple[Tensor, Tensor]], size: int) -> list[tuple[Tensor, Tensor]]:
    return [pair for x, y in parts for pair in zip(torch.split(x, size), torch.split(y, size), strict=True)]


@torch.no_grad()
def _score(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Return accuracy and mean loss."""
    right, loss, count = 0, 0.0, 0
    for x, y in batches:
        found = model(x)
        right += int((found.argmax(1) == y).sum())
        loss += float(F.cross_entropy(found, y, reduction="sum"))
        count += len(y)
    return right / count, loss / count
