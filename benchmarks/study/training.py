"""Trains an arm on one dataset and tests it. What two arms train alike is trained once."""

import math
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

import norms
from assessor import Plan, Profile, make_plan, profile_array
from benchmarks.study.arms import Arm, advised, get
from benchmarks.study.models import (
    Kind,
    Watch,
    depends_on_batch,
    flagged_moments,
    kind_of,
    make,
    make_evaluated,
)
from benchmarks.study.preparing import prepare
from benchmarks.study.records import Data, Run
from benchmarks.study.tuning import DIVERGED, START, Score, Tuned, climb

SMOOTHING = 0.9
"""Weight of the past in the running mean of the training loss."""

LEARNED = 0.02
"""How far a validation accuracy must be above the commonest class's share for a rate to count as one that learns."""

CALIBRATION = 64
"""Samples a batch, of four, from which population norm's first statistics come."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and how the training went."""

    kind: Kind
    model: nn.Module
    steps_to_loss: int | None
    diverged: bool
    seconds: float


@dataclass(frozen=True)
class Budget:
    """What all trainings of a cell share: network, samples a batch, "sgd" or "adam", steps, "cpu" or "cuda"."""

    network: str
    batch_size: int
    optimizer: str
    steps: int
    device: str = "cpu"


class Bench:
    """Trains and tests arms under one budget; remembers prepared data, plans and trainings.

    Two trainings are the same where data, seed, rate, network with norms, and decisions are: they are done once, and
    tested as each arm asks. Data is told apart by identity, so the same object must be handed in.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.trainings = 0
        self._kept: list[Data] = []
        self._data: dict[tuple[int, str], Data] = {}
        self._profiles: dict[int, Profile] = {}
        self._plans: dict[tuple[int, str, bool], Plan] = {}
        self._trained: dict[Hashable, Trained] = {}

    def prepared(self, data: Data, how: str) -> Data:
        """Return the data prepared, on the device of the budget."""
        key = (id(data), how)
        if key not in self._data:
            self._kept.append(data)
            self._data[key] = _to(prepare(data, how), self.budget.device)
        return self._data[key]

    def profile(self, data: Data) -> Profile:
        """Return the profile of the training samples, as they are."""
        if id(data) not in self._profiles:
            self._kept.append(data)
            labels = data.y.cpu().numpy()
            self._profiles[id(data)] = profile_array(
                data.x.cpu().numpy(), batch_sizes=[self.budget.batch_size], labels=labels
            )
        return self._profiles[id(data)]

    def plan(self, data: Data, method: str = "need", *, exact: bool = False) -> Plan:
        """Return the plan of the training batches, as they are; `exact`: the published rule as released."""
        key = (id(data), method, exact)
        if key not in self._plans:
            options: dict[str, Any] = {"published_exact": True} if exact else {}
            self._plans[key] = make_plan(self.profile(data), method=method, drop_last=True, **options)
        return self._plans[key]

    def flags(self, data: Data, arm: Arm) -> Tensor:
        """Return which training batches the arm normalizes, shape (batches,), bool."""
        if arm.method:
            return torch.from_numpy(self.plan(data, arm.method, exact=arm.exact).normalize.copy())
        return torch.full((len(data.x) // self.budget.batch_size,), arm.norm != "none")

    def settled(self, data: Data, arm: Arm) -> Arm:
        """Return the arm itself, or, where it does what the plan says of the whole dataset, what that comes to.

        Where the plan says to normalize, one decision for the dataset is batch norm at the input for every batch.
        """
        if arm.prepare != "action":
            return arm
        action = self.plan(data).action
        if action == "normalize":
            return replace(arm, prepare="nothing", norm="batch", where="input")
        return replace(get(advised(action)), name=arm.name)

    def train(self, data: Data, arm: Arm, rate: float, seed: int) -> Trained:
        """Return the arm's training: done now, or before."""
        settled = self.settled(data, arm)
        ready = self.prepared(data, settled.prepare)
        flags = self.flags(ready, settled)
        shape = tuple(ready.x.shape[1:])
        kind = kind_of(settled, self.budget.network, shape, ready.classes, self.budget.batch_size, flags)
        key = (id(ready), kind, flags.numpy().tobytes() if kind.gated else b"", rate, seed)
        if key not in self._trained:
            self.trainings += 1
            self._trained[key] = fit(ready, kind, flags, self.budget, rate, seed)
        return self._trained[key]

    def run(self, data: Data, arm: Arm, rate: float, seed: int, evaluations: Sequence[str] = ()) -> Run:
        """Return the training with its tests; one that diverged is tested as it was when it was stopped.

        Args:
            data: of one cell and seed, not prepared.
            arm: what is trained.
            rate: of learning.
            seed: of weights and order.
            evaluations: "mode/batch size" beside the arm's own, in batches of the training size; "B" is that size.
        """
        settled = self.settled(data, arm)
        trained = self.train(data, arm, rate, seed)
        parts = self.prepared(data, settled.prepare).test
        accuracy = {name: self._score(data, settled, trained, name, parts).accuracy for name in ("", *evaluations)}
        normalized = float(self.flags(self.prepared(data, settled.prepare), settled).float().mean())
        return Run(seed, accuracy, trained.steps_to_loss, trained.diverged, trained.seconds, normalized)

    def validate(self, data: Data, arm: Arm, rate: float, seed: int) -> Score:
        """Return the score on validation data, by the arm's own evaluation.

        A rate at which the network has collapsed, to about the share of the commonest class, counts as diverged: it is
        no maximum for a climb to stop at.
        """
        settled = self.settled(data, arm)
        trained = self.train(data, arm, rate, seed)
        parts = self.prepared(data, settled.prepare).validation
        if trained.diverged:
            return DIVERGED
        score = self._score(data, settled, trained, "", parts)
        commonest = max(float(torch.bincount(y).max()) / len(y) for _, y in parts)
        return score if score.accuracy > commonest + LEARNED else DIVERGED

    def tune(self, data: Data, arm: Arm, seed: int) -> Tuned:
        """Return the arm's learning rate, by tuning.climb."""
        return climb(lambda rate: self.validate(data, arm, rate, seed), START[self.budget.optimizer])

    def _score(
        self, data: Data, arm: Arm, trained: Trained, evaluation: str, parts: Sequence[tuple[Tensor, Tensor]]
    ) -> Score:
        mode, _, asked = evaluation.partition("/")
        size = int(asked) if asked.isdecimal() else self.budget.batch_size
        if not arm.method and (not mode or mode == "running" or arm.norm == "none"):
            return evaluate(trained.model.eval(), parts, size if depends_on_batch(arm) else None)
        ready = self.prepared(data, arm.prepare)
        rule = self.plan(ready, arm.method, exact=arm.exact).rule if arm.method else None
        state = trained.model.state_dict()
        model = make_evaluated(arm, trained.kind, state, rule, mode or arm.evaluation).to(self.budget.device)
        if arm.method and arm.where == "hidden":
            _fill(model, ready, self.flags(ready, arm), self.budget.batch_size)
        return evaluate(model, parts, size)


def train(
    data: Data,
    arm: Arm | str,
    network: str,
    batch_size: int,
    optimizer: str,
    rate: float,
    steps: int,
    seed: int,
    evaluations: Sequence[str] = (),
) -> Run:
    """Return one training of an arm with its tests; see Bench.run, which remembers what it trained."""
    bench = Bench(Budget(network, batch_size, optimizer, steps))
    return bench.run(data, get(arm) if isinstance(arm, str) else arm, rate, seed, evaluations)


def fit(data: Data, kind: Kind, flags: Tensor, budget: Budget, rate: float, seed: int) -> Trained:
    """Return a network trained on the data; stopped where the loss is not finite.

    Args:
        data: prepared; rows i B to (i + 1) B - 1 are batch i, and batches are shuffled anew each epoch.
        kind: of the network.
        flags: which batches gates normalize.
        budget: of the cell.
        rate: of learning.
        seed: of weights and order.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = make(kind).to(budget.device)
    if kind.norm == "population":
        norms.calibrate(model, torch.split(data.x, CALIBRATION)[:4])
    optimizer = _optimizer(model, budget.optimizer, rate)
    batches = len(data.x) // budget.batch_size
    xs, ys = torch.split(data.x, budget.batch_size), torch.split(data.y, budget.batch_size)
    decisions = flags.tolist()
    below, average, reached, told, diverged = math.log(data.classes) / 2, 0.0, None, None, False
    start = time.perf_counter()
    for step, i in enumerate(order(batches, budget.steps, seed)):
        if kind.gated and decisions[i] != told:
            told = decisions[i]
            norms.set_decision(model, told)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(xs[i]), ys[i])
        value = float(loss.detach())
        if not math.isfinite(value):
            diverged = True
            break
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        optimizer.step()
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        if reached is None and average / (1 - SMOOTHING ** (step + 1)) < below:
            reached = step + 1
    seconds = time.perf_counter() - start
    diverged = diverged or not all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return Trained(kind, model, reached, diverged, seconds)


def order(batches: int, steps: int, seed: int) -> Iterable[int]:
    """Yield the numbers of the batches to train on, all of them once in each epoch, shuffled anew.

    >>> sorted(order(3, 6, 0))
    [0, 0, 1, 1, 2, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(math.ceil(steps / batches)):
        yield from torch.randperm(batches, generator=generator).tolist()[: steps - epoch * batches]


@torch.no_grad()
def evaluate(model: nn.Module, parts: Sequence[tuple[Tensor, Tensor]], size: int | None) -> Score:
    """Return accuracy and mean loss, each the mean over the parts; a loss that is not finite counts as infinite.

    Args:
        model: in evaluation mode.
        parts: samples and classes of each source.
        size: samples a batch, of one source; a single sample left at the end joins the batch before. None: all at once.
    """
    accuracies, losses = [], []
    for x, y in parts:
        outputs = model(x) if size is None else torch.cat([model(batch) for batch in _batches(x, size)])
        accuracies.append(float((outputs.argmax(1) == y).float().mean()))
        losses.append(float(F.cross_entropy(outputs, y)))
    loss = sum(losses) / len(losses)
    return Score(sum(accuracies) / len(accuracies), loss if math.isfinite(loss) else math.inf)


def _batches(x: Tensor, size: int) -> list[Tensor]:
    batches = list(torch.split(x, size))
    if size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [x[-size - 1 :]]
    return batches


def _fill(model: nn.Module, data: Data, flags: Tensor, batch_size: int) -> None:
    """Give the gate at the input the statistics of the flagged training batches, which it only watches."""
    for module in model.modules():
        if isinstance(module, Watch) and module.running_mean is not None:
            assert module.running_var is not None
            assert module.num_batches_tracked is not None
            mean, variance, count = flagged_moments(data.x, flags.to(data.x.device), batch_size)
            module.running_mean.copy_(mean)
            module.running_var.copy_(variance)
            module.num_batches_tracked.fill_(count)


def _optimizer(model: nn.Module, name: str, rate: float) -> Optimizer:
    if name == "sgd":
        made = SGD(model.parameters(), lr=rate, momentum=0.9, fused=True)
        # Fused SGD fails where one parameter has a momentum and another, behind a gate, has had no gradient yet. Zeros
        # start the momentum at the first gradient, as without them.
        for parameter in model.parameters():
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return made
    if name == "adam":
        return Adam(model.parameters(), lr=rate, fused=True)
    raise ValueError(f"expected the optimizer 'sgd' or 'adam'; got {name!r}")


def _to(data: Data, device: str) -> Data:
    if device == "cpu":
        return data
    parts = [tuple((x.to(device), y.to(device)) for x, y in part) for part in (data.validation, data.test)]
    return replace(data, x=data.x.to(device), y=data.y.to(device), validation=parts[0], test=parts[1])
