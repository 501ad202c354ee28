"""The rule by which every arm's learning rate is tuned: a climb on validation data, so that no arm is starved."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

RATIO = 10**0.5
START = {"sgd": 0.03, "adam": 0.003}
MOST = 7


@dataclass(frozen=True)
class Score:
    """What a rate gave on validation data: accuracy (0 to 1; -1: diverged, or nothing learned) and mean loss."""

    accuracy: float
    loss: float


DIVERGED = Score(-1.0, inf)


@dataclass(frozen=True)
class Tuned:
    """The best rate and the accuracies of all that were tried, in order of the trials."""

    rate: float
    tried: dict[str, float]


def climb(score: Callable[[float], Score], start: float, most: int = MOST) -> Tuned:
    """Return the best learning rate found on the grid start * sqrt(10)^k.

    From the best rate so far the neighbours above and below are tried, until neither is better, or `most` were tried.
    The higher accuracy is better; equal ones are told apart by the lower loss, then by the lower rate, so that a climb
    among diverged trainings goes down.

    Args:
        score: of a rate; called once for each.
        start: the first rate.
        most: trials, at least 1.

    >>> climb(lambda rate: Score(-abs(rate - 0.3), 0.0), 0.03).rate
    0.3
    """
    scores: dict[int, Score] = {}

    def attempt(k: int) -> None:
        scores[k] = score(_rate(start, k))

    def best() -> int:
        return max(scores, key=lambda k: (scores[k].accuracy, -scores[k].loss, -k))

    attempt(0)
    while len(scores) < most:
        around = [k for k in (best() + 1, best() - 1) if k not in scores]
        if not around:
            break
        attempt(around[0])
    return Tuned(_rate(start, best()), {f"{_rate(start, k):.4g}": scores[k].accuracy for k in scores})


def _rate(start: float, k: int) -> float:
    """Return start * sqrt(10)^k to 12 digits, so that equal rates are equal numbers."""
    return float(f"{start * RATIO**k:.12g}")
