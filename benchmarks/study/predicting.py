"""Question 1: which measure predicts where normalization helps, and by how much?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression

from benchmarks.study.arms import EVERYWHERE
from benchmarks.study.curves import draw_gains
from benchmarks.study.gathered import PARTS, Gathered, best_of
from benchmarks.study.intervals import Estimate, Floats, Resampling, mean_of_seeds, paired
from benchmarks.study.plots import draw_predictions
from benchmarks.study.wording import Section, compared, interval, listed, number, table

HELPS = 1.0
"""Points of test accuracy beyond which normalization counts as helping."""
DEFAULT = "standard_divergence"
SIZE = "batch size"
OTHERS = (*(f"need: {part}" for part in PARTS), SIZE)
ENOUGH = 6
"""Cells below which nothing is said of a measure."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one measure predicts.

    Attributes:
        name: of the measure.
        cells: in which it is defined.
        auc: area under the ROC curve for "batch norm gains more than HELPS points over none".
        without: the same leaving one family out, by that family.
        rank: Spearman's correlation with the gain of batch norm.
        rank_best: the same with the gain of the best norm of the registry.
        explained: share of the gain's variance that a monotone curve through the other families explains on a family
            left out; below 0: worse than the other families' mean gain.
        less: area under the curve less that of the default measure, on the cells that both have.
    """

    name: str
    cells: int
    auc: Estimate
    without: dict[str, float]
    rank: Estimate
    rank_best: Estimate
    explained: Estimate
    less: Estimate


def roc_area(scores: Floats, gains: Floats) -> Floats:
    """Return the area under the ROC curve of the scores for gains > HELPS: (n, cells) twice -> (n,).

    The share of pairs, one cell with and one without gain, that the score orders rightly; ties count half. NaN where
    all cells are of one kind.
    """
    helps = gains > HELPS
    ranks = rankdata(scores, axis=1)
    n_helps = helps.sum(1)
    pairs = n_helps * (helps.shape[1] - n_helps)
    above = (ranks * helps).sum(1) - n_helps * (n_helps + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def rank_correlation(scores: Floats, gains: Floats) -> Floats:
    """Return Spearman's correlation, ties at their mean rank: (n, cells) twice -> (n,)."""
    a, b = (r - r.mean(1, keepdims=True) for r in (rankdata(scores, axis=1), rankdata(gains, axis=1)))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.where(scale > 0, (a * b).sum(1) / np.where(scale > 0, scale, 1.0), np.nan)


def held_out(scores: Floats, gains: Floats, families: Sequence[str]) -> tuple[Floats, Floats]:
    """Return each cell's gain as the other families predict it: by an increasing curve of the score, and by their mean.

    Args:
        scores, gains: (cells,), defined.
        families: of the cells.
    """
    labels = np.asarray(families)
    curve, constant = np.empty(len(gains)), np.empty(len(gains))
    for family in np.unique(labels):
        out = labels == family
        if out.all():
            return np.full(len(gains), np.nan), np.full(len(gains), np.nan)
        fit = IsotonicRegression(out_of_bounds="clip").fit(scores[~out], gains[~out])
        curve[out], constant[out] = fit.predict(scores[out]), gains[~out].mean()
    return curve, constant


def predict(gathered: Gathered) -> tuple[Prediction, ...]:
    """Return what every measure predicts, the best area under the curve first."""
    cells = gathered.with_arms(("none", "batch"))
    predictions = [_predict(cells, name) for name in (*cells.scores, *OTHERS)]
    kept = [p for p in predictions if p is not None]
    return tuple(sorted(kept, key=lambda p: -np.nan_to_num(p.auc.value, nan=-1.0)))


def _predict(cells: Gathered, name: str) -> Prediction | None:
    defined = dict(zip(cells.settings, ~np.isnan(mean_of_seeds(cells.score(name))), strict=True))
    cells = cells.where(lambda setting: bool(defined[setting]))
    if len(cells) < ENOUGH:
        return None
    scores = cells.score(name)
    none = cells.accuracy("none")
    gain = cells.accuracy("batch") - none
    best = best_of([cells.accuracy(arm) for arm in EVERYWHERE if arm in cells.arms]) - none
    resampling = Resampling.draw(*gain.shape)
    families = cells.datasets
    curve, constant = held_out(mean_of_seeds(scores), mean_of_seeds(gain), families.tolist())

    def explained(gain: Floats, curve: Floats, constant: Floats) -> Floats:
        scale = ((gain - constant) ** 2).sum(1)
        return np.asarray(1 - ((gain - curve) ** 2).sum(1) / np.where(scale > 0, scale, np.nan))

    def wide(values: Floats) -> Floats:
        return np.repeat(values[:, None], gain.shape[1], 1)

    without = {
        str(f): float(roc_area(mean_of_seeds(scores[families != f])[None], mean_of_seeds(gain[families != f])[None])[0])
        for f in np.unique(families)
        if (families != f).any()
    }
    default = cells.score(DEFAULT)
    both = ~np.isnan(mean_of_seeds(default))
    less = Resampling.draw(int(both.sum()), gain.shape[1]).estimate(
        lambda score, default, gain: roc_area(score, gain) - roc_area(default, gain),
        scores[both],
        default[both],
        gain[both],
    )
    return Prediction(
        name,
        len(cells),
        resampling.estimate(roc_area, scores, gain),
        without,
        resampling.estimate(rank_correlation, scores, gain),
        resampling.estimate(rank_correlation, scores, best),
        resampling.estimate(explained, gain, wide(curve), wide(constant)),
        less,
    )


def section(gathered: Gathered) -> Section | None:
    """Return the answer to question 1; None where nothing was run."""
    predictions = predict(gathered)
    if not predictions:
        return None
    cells = gathered.with_arms(("none", "batch"))
    difference = cells.accuracy("batch") - cells.accuracy("none")
    gain = mean_of_seeds(difference)
    helps, hurts = int((gain > HELPS).sum()), int((gain < -HELPS).sum())
    rows = [
        [
            p.name,
            str(p.cells),
            interval(p.auc),
            _range(p.without),
            number(p.less.value, signed=True) if p.name == DEFAULT else interval(p.less, signed=True),
            interval(p.rank),
            interval(p.rank_best),
            interval(p.explained),
        ]
        for p in predictions
    ]
    header = [
        "measure", "cells", "ROC area", "leaving a family out", "less the default's", "rank, batch norm",
        "rank, best norm", "explained on held-out families",
    ]  # fmt: skip
    lines = [
        f"Gain: test accuracy with batch norm everywhere less that without normalization. Of {len(cells)} cells it "
        f"is above {HELPS:g} point in {helps}, below -{HELPS:g} in {hurts}, in between in "
        f"{len(cells) - helps - hurts}. ROC area: how often a cell in which batch norm helps by more than a point "
        "scores above one in which it does not (.5: by chance). Rank: Spearman's correlation of score and gain, of "
        "batch norm and of the best norm of the registry (chosen on the other seeds). Explained: share of the "
        "gain's variance that an increasing curve, fitted to the other families, explains on a family that it has "
        "not seen.",
        "",
        *table(header, rows),
        "![ROC areas and rank correlations by measure](evidence/predicting.png)",
        "",
        "![Gain of batch norm by score and by batch size, cell by cell](evidence/gains.png)",
        "",
    ]
    drawn = {
        "predicting": (draw_predictions(predictions), "ROC areas and rank correlations by measure, with intervals"),
        "gains": (
            draw_gains(cells, paired(difference), DEFAULT),
            "gain of batch norm by score and batch size, a dot a cell",
        ),
    }
    return Section("1. Which measure predicts where normalization helps?", _answer(predictions), lines, drawn)


def _range(without: dict[str, float]) -> str:
    known = {family: area for family, area in without.items() if not np.isnan(area)}
    if not known:
        return "-"
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return f"{number(known[low])} (no {low}) to {number(known[high])} (no {high})"


def _answer(predictions: Sequence[Prediction]) -> str:
    # The batch size is no measure of the data; it stands in the table for comparison.
    measures = [p for p in predictions if p.name != SIZE]
    best = measures[0]
    default = next((p for p in measures if p.name == DEFAULT), None)
    text = (
        f"`{best.name}` tells best where batch norm helps by more than a point: ROC area {interval(best.auc)}, rank "
        f"correlation with the gain {interval(best.rank)}."
    )
    if default and default is not best:
        text += f" `{DEFAULT}` (need, the default) reaches {interval(default.auc)}; " + compared(
            best.less, "it loses beyond noise.", "it wins beyond noise.", "the difference is within noise."
        )
    if default and default is best and len(measures) > 1:
        second = measures[1]
        text += f" The next, `{second.name}`, reaches {interval(second.auc)}, " + compared(
            second.less, "better beyond noise.", "worse beyond noise.", "within noise of it."
        )
    by_how_much = compared(
        best.explained,
        f"how much it helps is told in part: {interval(best.explained)} of the variance on held-out families.",
        "how much it helps it does not tell on families that it has not seen.",
        f"how much it helps is not told beyond noise on families that it has not seen ({interval(best.explained)} of "
        "the variance).",
    )
    said = [f"{text} By its score, {by_how_much}"]
    size = next((p for p in predictions if p.name == SIZE), None)
    if size and default:
        said.append(
            f"The batch size alone, which is no measure of the data, reaches {interval(size.auc)}, "
            + compared(size.less, "better than", "worse than", "within noise of")
            + f" the default; rank correlation {interval(size.rank)}."
        )
    other_way = [f"`{p.name}` {interval(p.auc)}" for p in measures if p.auc.high < 0.5]
    if other_way:
        said.append(f"Beyond noise the other way, high where batch norm does not help: {listed(other_way)}.")
    return "\n".join(said)
