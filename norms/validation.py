"""Choose a setting of a trained model by its loss on validation data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from norms.errors import OptionError

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """The setting with the lowest validation loss.

    Attributes:
        best: the setting that the model has now.
        losses: every candidate and its mean loss, in the order tried.
    """

    best: T
    losses: tuple[tuple[T, float], ...]


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Batches, loss: Loss = F.cross_entropy) -> float:
    """Return the mean over samples of loss(model(x), y), in eval mode; the model's mode is restored.

    Args:
        model: called with x on the device of its first parameter.
        batches: pairs (x, y).
        loss: returns the mean over the samples of a batch.

    Raises:
        OptionError: no batch.
    """
    mode, total, count = model.training, 0.0, 0
    first = next(model.parameters(), None)
    model.eval()
    try:
        for x, y in batches:
            if first is not None:
                x, y = x.to(first.device), y.to(first.device)
            total += float(loss(model(x), y)) * len(x)
            count += len(x)
    finally:
        model.train(mode)
    if not count:
        raise OptionError("expected at least one batch of validation data; got none")
    return total / count


def choose(
    model: nn.Module,
    batches: Batches,
    candidates: Sequence[T],
    apply: Callable[[T], None],
    loss: Loss = F.cross_entropy,
) -> Choice[T]:
    """Return the candidate with the lowest validation loss, which is applied; the earliest of equals.

    A candidate whose loss is not a number comes last. Batches are iterated once a candidate, so a
    generator, which is used up after the first, is refused.

    Raises:
        OptionError: no candidate, or batches that can be iterated only once.
    """
    if not candidates:
        raise OptionError("expected at least one candidate; got none")
    if iter(batches) is batches:
        raise OptionError(
            "expected batches that can be iterated many times; got an iterator: pass a DataLoader or a list"
        )
    losses = []
    for candidate in candidates:
        apply(candidate)
        losses.append((candidate, mean_loss(model, batches, loss)))
    best = min(losses, key=lambda pair: (pair[1] != pair[1], pair[1]))[0]
    apply(best)
    return Choice(best, tuple(losses))
