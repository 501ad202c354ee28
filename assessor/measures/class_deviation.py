"""`class_deviation`: the published threshold rule (Alsobhi, Alafif, Zong & Abdel-Hakim, arXiv 2211.02050).

a_s is the mean of all elements of sample s, T_c the mean of a_s over the samples of class c. A batch's score is
max_s |a_s - T_c| / |T_c|; it needs normalization when the score is above p = 1.20 (FORMULAS 2.1). The rule is neither
shift- nor scale-invariant. For T_c < 0 the published interval [T_c - p T_c, T_c + p T_c] is empty; the score takes
|T_c| instead. For T_c = 0 the deviation is 0 where a_s = 0 and infinite elsewhere.
"""

from collections.abc import Mapping

import numpy as np

from assessor.errors import SettingError
from assessor.measures.scores import Measure, Scores, measures
from assessor.view import BatchView


def class_deviation(view: BatchView, *, published_exact: bool = False) -> Scores:
    """Return the largest relative deviation of a sample's mean from its class's mean, per batch; a ratio.

    Args:
        published_exact: as the released code: the interval of a class of negative mean is empty (the score is
            infinite), and the last row and the last column of each image (the last two axes) are not averaged.

    Without labels all samples form one class.

    Raises:
        SettingError: published_exact on samples that are not images (fewer than two axes of at least 2).
    """
    table = view.profile.rows
    means = table.means
    if published_exact:
        if table.border_means is None:
            raise SettingError(
                "expected images (samples with two axes or more) for published_exact, which leaves out their last "
                f"row and column; got samples of shape {view.profile.sample_shape}: use published_exact=False"
            )
        means = table.border_means
    if table.labels is None:
        classes, member = np.array([0]), np.zeros(len(means), np.int64)
    else:
        classes, member = np.unique(table.labels, return_inverse=True)
    kept = ~np.isnan(means)  # rows left out have no mean, and a class of such rows none
    n_kept = np.bincount(member[kept], minlength=len(classes))
    class_means = np.bincount(member[kept], weights=means[kept], minlength=len(classes)) / np.maximum(n_kept, 1)
    target = class_means[member]
    scale = np.abs(target)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        deviation = np.abs(means - target) / scale
    deviation = np.where(scale == 0, np.where(means == 0, 0.0, np.inf), deviation)
    if published_exact:
        deviation = np.where(target < 0, np.inf, deviation)

    deviation = np.where(kept, deviation, -np.inf)
    starts = np.concatenate([[0], np.cumsum(view.sizes)[:-1]]).astype(np.int64)
    used = int(view.sizes.sum())
    values = np.maximum.reduceat(deviation[:used], starts)
    batch_of = np.repeat(np.arange(len(starts)), view.sizes)
    at_worst = np.flatnonzero(deviation[:used] == values[batch_of])
    worst = at_worst[np.searchsorted(batch_of[at_worst], np.arange(len(starts)))]
    class_means = class_means[n_kept > 0]
    notes = []
    if table.labels is None:
        notes.append("no labels came: all samples form one class")
    if (class_means < 0).any():
        notes.append(
            f"{int((class_means < 0).sum())} classes have a negative mean; "
            + ("their interval is empty" if published_exact else "|T_c| is taken")
        )
    return Scores(
        values=np.where(np.isneginf(values), np.nan, values),
        details={
            "worst_row": worst.astype(np.float64),
            "worst_mean": means[worst],
            "class_label": classes[member[worst]].astype(np.float64),
            "class_mean": target[worst],
        },
        rule={
            "measure": "class_deviation",
            "class_means": class_means.tolist(),
            "published_exact": published_exact,
        },
        notes=tuple(notes),
    )


def _explain(details: Mapping[str, float]) -> str:
    return (
        f"the sample furthest from its class is row {details['worst_row']:.0f}: mean "
        f"{details['worst_mean']:.4g}, class {details['class_label']:.0f} has {details['class_mean']:.4g}"
    )


measures.register("class_deviation")(Measure(class_deviation, _explain, "", frozenset({"published_exact"})))
