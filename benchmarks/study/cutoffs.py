"""Question 2: which cutoff, and which treatment of vanishing variances? Chosen on some families, judged on others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.study.curves import draw_cutoffs
from benchmarks.study.gathered import Gathered, best_of
from benchmarks.study.intervals import Estimate, Floats, Resampling, mean_of_seeds
from benchmarks.study.wording import Section, compared, interval, nats, number, points, table

OTHERS = "standard_divergence/"
"""Begins the names of need's scores under other treatments of vanishing variances, see vanishing.py."""
MAIN = ("standard_divergence", "spread_divergence", "gaussian_divergence")
"""Named in the answer, whatever was found."""
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
CANDIDATES = (-np.inf, 0.0, *(s * 10.0**e for e in range(-2, 3) for s in STEPS), np.inf)
"""Among them always and never."""

TODAY = {
    "standard_divergence": 1.0,
    "spread_divergence": 0.05,
    "gaussian_divergence": 0.1,
    "class_deviation": 1.2,
}
"""Fixed cutoffs of the methods need, heterogeneity, gaussian and published."""


@dataclass(frozen=True, eq=False)
class Cutoff:
    """What following one measure gets, by its cutoff: batch norm above it, none below.

    Attributes:
        measure: its name.
        today: the cutoff in use.
        curve: mean accuracy at each of CANDIDATES, percent.
        gains: the same less always batch norm.
        today_gain: that of the cutoff in use.
        best: the candidate of the highest mean, of equal ones the middle.
        alike: lowest and highest candidate that does not lose to the best beyond noise.
        by_family: what the other families choose for each family.
        held_out: mean accuracy, cutoffs chosen on the other families.
        at_today: mean accuracy with the cutoff in use.
        gain: the one less the other.
        best_less_today: mean accuracy at `best` less that at `today`, on the cells that chose it: optimistic.
        values: (cells, seeds) behind `held_out`.
    """

    measure: str
    today: float
    curve: Floats
    gains: tuple[Estimate, ...]
    today_gain: Estimate
    best: float
    alike: tuple[float, float]
    by_family: dict[str, float]
    held_out: Estimate
    at_today: Estimate
    gain: Estimate
    best_less_today: Estimate
    values: Floats


def choose(curve: Floats) -> int:
    """Return the index of the highest value; of equal ones the middle, so that neither neighbour is near an edge."""
    highest = np.flatnonzero(curve >= np.nanmax(curve) - 1e-9)
    return int(highest[(len(highest) - 1) // 2])


def follow_all(gathered: Gathered, measure: str, above: str = "batch", below: str = "none") -> Floats:
    """Return what following gets at each of CANDIDATES, (candidates, cells, seeds), percent."""
    scores, high, low = gathered.score(measure), gathered.accuracy(above), gathered.accuracy(below)
    return np.stack([gathered.follow(scores, c, above=high, below=low) for c in CANDIDATES])


def held_out(followed: Floats, families: NDArray[np.str_]) -> tuple[Floats, dict[str, float]]:
    """Return what each family gets with the cutoff that the others choose, (cells, seeds), and these cutoffs.

    A family with no others to choose gets NaN.
    """
    values = np.full(followed.shape[1:], np.nan)
    cutoffs = {}
    means = mean_of_seeds(followed)
    for family in np.unique(families):
        out = families == family
        if not out.all():
            index = choose(means[:, ~out].mean(1))
            cutoffs[str(family)] = CANDIDATES[index]
            values[out] = followed[index, out]
    return values, cutoffs


def judge(gathered: Gathered, measure: str, today: float) -> Cutoff:
    """Return what a measure's cutoffs get on the cells that have both batch norm and none."""
    followed = follow_all(gathered, measure)
    means = mean_of_seeds(followed).mean(1)
    best = choose(means)
    values, by_family = held_out(followed, gathered.datasets)
    resampling = Resampling.draw(*followed.shape[1:])
    at = gathered.follow(
        gathered.score(measure), today, above=gathered.accuracy("batch"), below=gathered.accuracy("none")
    )
    always = gathered.accuracy("batch")
    drawn = [resampling.mean(candidate - followed[best]) for candidate in followed]
    alike = [CANDIDATES[i] for i, less in enumerate(drawn) if not less.below]
    return Cutoff(
        measure,
        today,
        means,
        tuple(resampling.mean(candidate - always) for candidate in followed),
        resampling.mean(at - always),
        CANDIDATES[best],
        (min(alike), max(alike)),
        by_family,
        resampling.mean(values),
        resampling.mean(at),
        resampling.mean(values - at),
        resampling.mean(followed[best] - at),
        values,
    )


def judge_all(gathered: Gathered) -> tuple[Cutoff, ...]:
    """Return the cutoffs of all measures that a method uses, and of need's other treatments of vanishing variances."""
    cells = gathered.with_arms(("none", "batch"))
    others = [name for name in cells.scores if name.startswith(OTHERS)]
    wanted = {**TODAY, **dict.fromkeys(others, TODAY["standard_divergence"])}
    return tuple(judge(cells, name, today) for name, today in wanted.items() if name in cells.scores)


def treatments(cutoffs: Sequence[Cutoff]) -> list[tuple[Cutoff, Estimate]]:
    """Return need's other treatments of vanishing variances, each with its accuracy at today's cutoff less need's."""
    need = next((c for c in cutoffs if c.measure == "standard_divergence"), None)
    if need is None:
        return []
    resampling = Resampling.draw(*need.values.shape)
    return [(c, resampling.mean(c.values - need.values)) for c in cutoffs if c.measure.startswith(OTHERS)]


def one_sided(gathered: Gathered, measure: str, cutoff: float) -> float:
    """Return the share of the datasets whose batches all lie on one side of the cutoff, as far as they were kept.

    For these one decision for the dataset is what a plan decides.
    """
    sides = [
        len({score > cutoff for score in assessed.by_batch.get(measure, ()) if score is not None})
        for (setting, _), assessed in gathered.assessed.items()
        if setting in set(gathered.settings)
    ]
    known = [n for n in sides if n]
    return sum(n == 1 for n in known) / len(known) if known else float("nan")


def section(gathered: Gathered) -> Section | None:
    """Return the answer to question 2; None where nothing was run."""
    cells = gathered.with_arms(("none", "batch"))
    cutoffs = judge_all(gathered)
    if not cutoffs:
        return None
    none, batch = cells.accuracy("none"), cells.accuracy("batch")
    resampling = Resampling.draw(*none.shape)
    always, never, best = (resampling.mean(v) for v in (batch, none, best_of([none, batch])))
    against = [resampling.mean(v - batch) for v in (none, best_of([none, batch]))]
    lines = [
        "Following a measure: batch norm everywhere where the dataset's mean score is above the cutoff, no "
        f"normalization elsewhere. Mean test accuracy, percent, of {len(cells)} cells: always batch norm "
        f"{interval(always)}, never {interval(never)}, the better of the two in each cell (chosen on the other "
        f"seeds) {interval(best)}. Held out: the cutoff chosen for each family on all other families, by mean "
        f"accuracy, out of {len(CANDIDATES)} candidates from always and 0 over 0.01 to 700 to never. Alike: the "
        "candidates that do not lose to the best beyond noise. A plan decides batch by batch; that is the same "
        "where all batches lie on one side of the cutoff: for need in "
        f"{number(100 * one_sided(cells, 'standard_divergence', TODAY['standard_divergence']), 0)} % of the "
        "datasets.",
        "",
        *table(
            [
                "measure",
                "today",
                "best",
                "alike",
                "chosen by other families",
                "at today's",
                "held out",
                "held out less today's",
            ],
            [
                [
                    c.measure,
                    nats(c.today),
                    nats(c.best),
                    _span(*c.alike),
                    _span(min(c.by_family.values()), max(c.by_family.values())) if c.by_family else "-",
                    interval(c.at_today),
                    interval(c.held_out),
                    interval(c.gain, signed=True),
                ]
                for c in cutoffs
            ],
        ),
        *_by_batch_size(cells),
        "![Mean accuracy of following, by cutoff](evidence/cutoffs.png)",
        "",
        "The other treatments of variances that vanish within a batch: left out of the mean; the variance shrunk "
        "toward the dataset's with weight 1 / B. The assessor's: such a feature takes the log variance of an "
        "average such (batch, feature) pair.",
        "",
    ]
    drawn = {"cutoffs": (draw_cutoffs(cutoffs, CANDIDATES, *against), "mean accuracy of following by cutoff")}
    return Section("2. Which cutoff, and which treatment of vanishing variances?", _answer(cutoffs), lines, drawn)


def _span(low: float, high: float) -> str:
    return nats(low) if low == high else f"{nats(low)} to {nats(high)}"


def _by_batch_size(cells: Gathered) -> list[str]:
    rows = []
    for name, low, high in (("2 and 4", 2, 4), ("8 and 16", 8, 16), ("32 and more", 32, 1 << 30)):
        some = cells.where(lambda setting, low=low, high=high: low <= setting.batch_size <= high)  # type: ignore[misc]
        if not len(some) or "standard_divergence" not in some.scores:
            continue
        cutoff = judge(some, "standard_divergence", TODAY["standard_divergence"])
        rows.append(
            [
                name,
                str(len(some)),
                nats(cutoff.best),
                _span(*cutoff.alike),
                interval(cutoff.best_less_today, signed=True),
            ]
        )
    header = ["batch size", "cells", "need's best cutoff", "alike", "best less today's (optimistic)"]
    return ["Need's cutoff by batch size, on the cells that chose it:", "", *table(header, rows)] if rows else []


def keeps(cutoff: Cutoff) -> bool:
    """Return whether the cutoff in use loses to those that other families choose by no more than noise."""
    return not cutoff.gain.above


def _answer(cutoffs: Sequence[Cutoff]) -> str:
    said = []
    for c in cutoffs:
        if c.measure.startswith(OTHERS) or (keeps(c) and c.measure not in MAIN):
            continue
        if keeps(c):
            verdict = f"{nats(c.today)} stays, since a cutoff chosen on other families changes {points(c.gain)}"
        else:
            verdict = f"{nats(c.today)} loses to {nats(c.best)}, held out by {points(c.gain)}"
        said.append(f"`{c.measure}`: {verdict}; alike within noise are {_span(*c.alike)}.")
    other = treatments(cutoffs)
    if other:
        name, less = max(((c.measure, less) for c, less in other), key=lambda pair: pair[1].value)
        said.append(
            f"Of the other treatments of vanishing variances the best, {name.removeprefix(OTHERS)}, changes the "
            f"accuracy of following by {points(less)}: "
            + compared(less, "better than the assessor's beyond noise.", "worse beyond noise.", "within noise.")
        )
    return "\n".join(said)
