"""What `spread_divergence` shows where all features are alike, and which unlike batches it finds, on the data's shape.

A dataset of two kinds of batches has residuals of another shape than either kind: two locations make them
lighter-tailed than they are, two scales heavier. So where the batches fall into two kinds, each takes its own means and
scales, and the kinds are told apart again by the null that follows.
"""

import numpy as np
from numpy.typing import NDArray

from assessor.measures.scores import FOUND, Reach
from assessor.measures.spread_parts import location_part, scale_part
from assessor.moments import Floats
from assessor.nulls import AlikeFeatures, Null, Pool, means_unlike, normal_pool, residual_pool, scales_unlike
from assessor.splitting import split_in_two
from assessor.view import BatchView

PARTS = (scale_part, location_part)
GROUP_ALPHA = 0.01
"""Batches above this quantile of the null are the flagged kind."""
MIN_SHARE = 0.05
"""Of either kind: alike batches alone have about GROUP_ALPHA above, which are no kind of their own."""
MAX_ROUNDS = 4
APART = 0.85
"""Share of a part's variance that two clusters must explain: two halves of a normal distribution explain .64, of a
uniform one .75, two normal clusters of equal size whose centres are five standard deviations apart .87."""
TO_FIND = 0.99
"""Where fewer of the unlike batches are found, the plan says how many."""
MAX_FALSE = 0.02
MAX_LOOKED_AT = 2
"""Numbers of values per feature for which that is simulated: those of the complete batches and of the last."""


class SpreadNull:
    """The null of both parts and of the score, by number of values per feature.

    Args:
        counts, n_varying: shape (batches,): values per feature and features that vary, of the batches with a score.
        pool: residuals; where they are too few, those of normal data.
        n_kinds: how many kinds of batches gave their own residuals.
    """

    def __init__(self, counts: NDArray[np.int64], n_varying: NDArray[np.int64], pool: Pool, n_kinds: int = 1) -> None:
        self._counts, self._n_varying, self.pool, self.n_kinds = counts, n_varying, pool, n_kinds
        self._alike: dict[int, AlikeFeatures] = {}
        self._nulls: dict[int, tuple[Null, Null, Null]] = {}
        self.fell_back = False
        self.scale_mean, self.location_mean = np.zeros(len(counts)), np.zeros(len(counts))
        for count in np.unique(counts).tolist():
            here = counts == count
            scale, location, _ = self._nulls[count] = self._draw(count, n_varying[here])
            self.scale_mean[here], self.location_mean[here] = (
                scale.mean(n_varying[here]),
                location.mean(n_varying[here]),
            )

    def quantile(self, alpha: float) -> Floats:
        """Return the 1 - alpha quantile of the score of alike features, per batch."""
        quantile = np.zeros(len(self._counts))
        for count, (_, _, score) in self._nulls.items():
            here = self._counts == count
            quantile[here] = score.quantile(self._n_varying[here], alpha)
        return quantile

    def means(self, count: int, n_varying: int) -> tuple[float, float]:
        """Return the null means of the scale and the location part."""
        if count not in self._nulls:
            scale_mean, location_mean = self._features(count).means(n_varying, PARTS)
            return scale_mean, location_mean
        at = np.array([n_varying])
        scale, location, _ = self._nulls[count]
        return float(scale.mean(at)[0]), float(location.mean(at)[0])

    def reach(self, cutoffs: Floats) -> Reach:
        """Return the shares of unlike batches that the cutoffs find, and words on them where they are few.

        Args:
            cutoffs: shape (batches,).
        """
        if not len(self._counts):
            return Reach({}, ())
        scales, means = np.ones(len(self._counts)), np.ones(len(self._counts))
        notes = []
        # Where rows are left out there may be many counts: those of most batches are looked at, and stand for the rest.
        counts, n_batches = np.unique(self._counts, return_counts=True)
        looked_at = counts[np.argsort(-n_batches, kind="stable")[:MAX_LOOKED_AT]]
        nearest = looked_at[np.abs(self._counts[:, None] - looked_at).argmin(axis=1)]
        for count in looked_at.tolist():
            here = self._counts == count
            n_varying, cutoff = int(np.median(self._n_varying[here])), float(np.median(cutoffs[here]))
            alike = self._features(count)
            score = _Larger(*self.means(count, n_varying))
            false = alike.found(n_varying, score, cutoff, None)
            scales[nearest == count] = found_scales = alike.found(n_varying, score, cutoff, scales_unlike)
            means[nearest == count] = found_means = alike.found(n_varying, score, cutoff, means_unlike)
            if min(found_scales, found_means) < TO_FIND or false > MAX_FALSE:
                notes.append(
                    f"with {count} values of each of {n_varying} varying features, {self._shape()}, {FOUND} "
                    f"{found_scales:.0%} of the batches whose scales are log-normal(0.5) and {found_means:.0%} "
                    f"of those whose means are one standard deviation apart, and flags {false:.1%} of those whose "
                    "features are alike"
                )
        if not notes:
            return Reach({}, ())
        return Reach({"found_scales": scales, "found_means": means}, tuple(notes))

    def _draw(self, count: int, n_varying: NDArray[np.int64]) -> tuple[Null, Null, Null]:
        """Return the nulls of the scale part, the location part and the score."""
        scale, location = self._features(count).nulls(n_varying, PARTS)
        pairs = zip(scale.draws, location.draws, strict=True)
        return scale, location, Null(scale.n_features, [np.maximum(s - s.mean(), m - m.mean()) for s, m in pairs])

    def _features(self, count: int) -> AlikeFeatures:
        if count not in self._alike:
            alike = AlikeFeatures(self.pool, count)
            if not alike.enough:
                self.fell_back = True
                alike = AlikeFeatures(normal_pool(), count)
            self._alike[count] = alike
        return self._alike[count]

    def _shape(self) -> str:
        if self.fell_back:
            return "taken as normal"
        values = self.pool.values
        z = (values - values.mean()) / values.std()
        return f"whose residuals have skewness {(z**3).mean():.2g} and kurtosis {(z**4).mean():.2g}"


class _Larger:
    """The score of drawn batches: the larger part less its null mean."""

    def __init__(self, scale_mean: float, location_mean: float) -> None:
        self._scale_mean, self._location_mean = scale_mean, location_mean

    def __call__(self, mean: Floats, variance: Floats) -> Floats:
        scale, location = scale_part(mean, variance) - self._scale_mean, location_part(mean, variance)
        return np.asarray(np.maximum(scale, location - self._location_mean))


def fit_null(view: BatchView, defined: NDArray[np.bool_], scale: Floats, location: Floats, *, own: bool) -> SpreadNull:
    """Return the null, from the residuals of each kind of batches where there are two.

    Args:
        defined: which batches have a score.
        scale, location: the parts of those.
        own: from the data's residuals; else from normal values.
    """
    counts, n_varying = view.counts[defined].astype(np.int64), view.records["n_varying"][defined].astype(np.int64)
    null = SpreadNull(counts, n_varying, residual_pool(view.profile) if own else normal_pool())
    if not own or null.fell_back or not defined.any():
        return null
    batches = view.profile.calibration.rows // view.batch_size
    within = batches < len(defined)  # rows that drop_last leaves out count as unflagged
    kinds = np.zeros(len(counts), np.bool_)
    for round_ in range(MAX_ROUNDS):
        above = np.maximum(scale - null.scale_mean, location - null.location_mean) > null.quantile(GROUP_ALPHA)
        apart = _two_kinds(scale, location) if round_ == 0 else None
        flagged = above if apart is None else apart
        if not MIN_SHARE <= flagged.mean() <= 1 - MIN_SHARE or (flagged == kinds).all():
            break
        kinds = flagged
        of_batch = np.zeros(len(defined), np.bool_)
        of_batch[defined] = kinds
        group = np.zeros(len(batches), np.bool_)
        group[within] = of_batch[batches[within]]
        null = SpreadNull(counts, n_varying, residual_pool(view.profile, group), n_kinds=2)
    return null


def _two_kinds(scale: Floats, location: Floats) -> NDArray[np.bool_] | None:
    """Return which batches lie in the upper of two clusters of a part that are far apart; None where none are."""
    for part in (location, scale):
        cutoff, explained = split_in_two(part)
        if explained > APART:
            return part > cutoff
    return None
