"""Which features drive heterogeneity, from the dataset's moments per feature.

Feature f contributes KL(N(M_f, V_f) || N(M, V)) = ( ln(V / V_f) + (V_f + (M_f - M)^2) / V - 1 ) / 2 nats, where M, V
are the mean and the variance of all values. Averaged over the features that vary, that is exactly the part "feature" of
the decomposition (FORMULAS 2.2), since the mean of (V_f + (M_f - M)^2) / V is 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assessor import Profile
from assessor.moments import Floats

MIN_ROWS = 8
"""With fewer rows, moments per feature would nearly be the rows themselves."""
TOP = 10


@dataclass(frozen=True)
class Feature:
    """One feature beside all others.

    Attributes:
        name: its index within a sample, as in "3, 4", or "channel 2".
        mean, std: over the dataset.
        contribution: in nats, and `share` of the sum over all features.
        why: what sets it apart.
    """

    name: str
    mean: float
    std: float
    contribution: float
    share: float
    why: str


@dataclass(frozen=True, eq=False)
class Ranking:
    """The features that are furthest from the pooled distribution.

    Attributes:
        top: up to TOP of them, the furthest first.
        mean, std: of all values of the features that vary.
        total: mean contribution, in nats: the part "feature" of the decomposition.
        n_varying, n_constant: how many features vary over the dataset, and how many do not.
        half: the smallest number of features that carry half of the total; 0 where nothing differs.
    """

    top: tuple[Feature, ...]
    mean: float
    std: float
    total: float
    n_varying: int
    n_constant: int
    half: int


def rank_features(profile: Profile) -> Ranking | None:
    """Return which features are furthest from the others; None where the profile has too few rows or none varies."""
    moments = profile.moments
    variance = moments.variance
    varies = np.flatnonzero(variance > 0)
    if profile.n_rows < MIN_ROWS or not len(varies):
        return None
    mean, variance = moments.mean[varies], variance[varies]
    pooled_mean = float(mean.mean())
    pooled = float(variance.mean() + ((mean - pooled_mean) ** 2).mean())
    by_mean = (mean - pooled_mean) ** 2 / pooled / 2
    ratio = variance / pooled
    by_variance = (ratio - 1 - np.log(ratio)) / 2
    contribution = by_mean + by_variance
    ranked = np.argsort(-contribution, kind="stable")
    total = float(contribution.sum())
    carried = np.cumsum(contribution[ranked])
    top = tuple(
        Feature(
            name=_name(profile, int(varies[i])),
            mean=float(mean[i]),
            std=float(np.sqrt(variance[i])),
            contribution=float(contribution[i]),
            share=float(contribution[i]) / total if total else 0.0,
            why=_why(float(mean[i]) - pooled_mean, float(ratio[i]), float(by_mean[i]), float(by_variance[i])),
        )
        for i in ranked[:TOP]
    )
    return Ranking(
        top=top,
        mean=pooled_mean,
        std=float(np.sqrt(pooled)),
        total=total / len(varies),
        n_varying=len(varies),
        n_constant=profile.n_features - len(varies),
        half=int(np.searchsorted(carried, total / 2)) + 1 if total else 0,
    )


def _name(profile: Profile, feature: int) -> str:
    if profile.feature_axis == "channel":
        return f"channel {feature}"
    return ", ".join(str(int(i)) for i in np.unravel_index(feature, profile.sample_shape))


def _why(shift: float, ratio: float, by_mean: float, by_variance: float) -> str:
    spread = f"{'wider' if ratio > 1 else 'narrower'} than most"
    place = f"mean {'above' if shift > 0 else 'below'} most"
    if max(by_mean, by_variance) < 0.01:
        return "like the others"
    if by_mean > 4 * by_variance:
        return place
    return spread if by_variance > 4 * by_mean else f"{place}, {spread}"


def position_images(profile: Profile) -> list[tuple[str, Floats, Floats]] | None:
    """Return, where samples are images, (channel's name, mean, standard deviation) by position.

    Images are samples of 2 axes, or of 3 of which the first or the last has 1, 3 or 4 channels. The arrays have shape
    (height, width), at most MAX_PIXELS each way: larger ones are averaged in blocks.

    Returns None for other samples, for moments by channel and for fewer than MIN_ROWS rows.
    """
    shape = profile.sample_shape
    if profile.feature_axis != "element" or profile.n_rows < MIN_ROWS or min(shape, default=1) < 1:
        return None
    moments = profile.moments
    mean, variance = moments.mean.reshape(shape), moments.variance.reshape(shape)
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        planes = [(mean[c], variance[c]) for c in range(shape[0])]
    elif len(shape) == 3 and shape[2] in (1, 3, 4):
        planes = [(mean[..., c], variance[..., c]) for c in range(shape[2])]
    elif len(shape) == 2:
        planes = [(mean, variance)]
    else:
        return None
    if min(planes[0][0].shape) < 2:
        return None
    names = [""] if len(planes) == 1 else [f"channel {c}" for c in range(len(planes))]
    return [(name, _shrink(m), np.sqrt(_shrink(v))) for name, (m, v) in zip(names, planes, strict=True)]


MAX_PIXELS = 96


def _shrink(plane: NDArray[np.float64]) -> Floats:
    """Return the plane averaged in blocks to at most MAX_PIXELS each way."""
    for axis in (0, 1):
        size = plane.shape[axis]
        if size > MAX_PIXELS:
            starts = np.linspace(0, size, MAX_PIXELS, endpoint=False).astype(np.int64)
            lengths = np.diff([*starts, size])
            shape = (-1, 1) if axis == 0 else (1, -1)
            plane = np.add.reduceat(plane, starts, axis=axis) / lengths.reshape(shape)
    return plane
