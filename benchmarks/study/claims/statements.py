"""Claims of papers as statements on pairs of arms, and the rule that gives each a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["reproduced", "not reproduced", "undecided at this scale", "not testable here"]
Relation = Literal["above", "equal"]

REPRODUCED: Verdict = "reproduced"
NOT_REPRODUCED: Verdict = "not reproduced"
UNDECIDED: Verdict = "undecided at this scale"
NOT_TESTABLE: Verdict = "not testable here"

LEVEL = 0.95
LEAST_SEEDS = 5
GAIN = 0.01
"""A gain that counts: one point of accuracy."""
ALIKE = 0.02
"""Two arms are about equal within two points: the standard error of one test of 400 samples at .9 is 1.5 points."""
EXACT = 6
"""Up to so many pairs all resamples are enumerated (46,656), above 20,000 are drawn."""


@dataclass(frozen=True)
class Statement:
    """One comparison of a paper: `first` is above `second`, or the two are about equal.

    Attributes:
        cell: the key of the cell where it is tested.
        first, second: arms, or "arm@evaluation" for one evaluation of the arm.
        relation: "above" or "equal".
        paper: the paper's figures of first and second, as they are written; empty: none is at hand.
    """

    cell: str
    first: str
    second: str
    relation: Relation = "above"
    paper: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """What a paper says, and how it is tested here.

    Attributes:
        title: in a few words.
        source: paper and arXiv number.
        says: what the paper says, with its own setting.
        tested: how it is tested here, where a reader could think otherwise.
        statements: all must hold; none: not testable here, and `tested` says why.
    """

    title: str
    source: str
    says: str
    tested: str
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Interval:
    """Mean difference of pairs, and its ends; fractions of 1."""

    mean: float
    low: float
    high: float


def interval(differences: Sequence[float]) -> Interval:
    """Return the mean of paired differences and its bootstrap interval.

    The expanded percentile interval: resamples of few pairs are too much alike (their variance is that of the mean
    times (n - 1)/n, and normal quantiles are short for n pairs), so quantiles further out are taken, at
    Phi(-sqrt(n / (n - 1)) t). With 5 pairs that is 0.1 % instead of 2.5 %.

    Args:
        differences: one a seed, at least 2.

    Source: Hesterberg, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279, section 4.

    >>> interval([0.1, 0.1, 0.1])
    Interval(mean=0.1, low=0.1, high=0.1)
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n < 2:
        raise ValueError(f"expected at least 2 paired differences, one a seed; got {n}")
    picks = (
        np.array(list(product(range(n), repeat=n)))
        if n <= EXACT
        else np.random.default_rng(0).integers(0, n, (20_000, n))
    )
    tail = float(stats.norm.cdf(-((n / (n - 1)) ** 0.5) * stats.t.ppf((1 + LEVEL) / 2, n - 1)))
    means = values[picks].mean(1)
    low, high = np.quantile(means, [tail, 1 - tail])
    # A mean of equal values may be rounded: neither end passes the mean.
    mean = float(values.mean())
    return Interval(round(mean, 12), round(min(float(low), mean), 12), round(max(float(high), mean), 12))


def judge(differences: Sequence[float], relation: Relation) -> Verdict:
    """Return the verdict on one statement from the differences first - second, one a seed.

    "above": reproduced where the whole interval is above 0; else not reproduced where it excludes a gain of a point
    (GAIN). "equal": reproduced where the whole interval is within two points of 0 (ALIKE), not reproduced where all of
    it is further away. Else, and with fewer than 5 seeds, undecided.

    >>> judge([0.02, 0.03, 0.02, 0.04, 0.02], "above")
    'reproduced'
    """
    if len(differences) < LEAST_SEEDS:
        return UNDECIDED
    found = interval(differences)
    if relation == "above":
        if found.low > 0:
            return REPRODUCED
        return NOT_REPRODUCED if found.high < GAIN else UNDECIDED
    if found.low > -ALIKE and found.high < ALIKE:
        return REPRODUCED
    return NOT_REPRODUCED if found.low > ALIKE or found.high < -ALIKE else UNDECIDED


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a claim from those on its statements: the least favourable one; none: not testable.

    >>> together(["reproduced", "not reproduced"]), together([])
    ('not reproduced', 'not testable here')
    """
    order = (NOT_REPRODUCED, UNDECIDED, REPRODUCED)
    return next((verdict for verdict in order if verdict in verdicts), NOT_TESTABLE)
