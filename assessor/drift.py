"""Drift: how far data has moved from an earlier assessment, per feature and in all."""

from dataclasses import dataclass

import numpy as np

from assessor.errors import SettingError, ShapeError
from assessor.kernels.tiles import TINY
from assessor.moments import Floats
from assessor.noise import noise
from assessor.profile import Profile


@dataclass(frozen=True, eq=False)
class Drift:
    """How far a profile's features are from those of a reference.

    Attributes:
        features: shape (features,), nats: KL( N(M_f, V_f) || N(M'_f, V'_f) ), M'_f and V'_f of the reference. 0 where a
            feature is constant at one value in both, infinite where it is constant in one only or at another value.
        total: mean over the features that vary in both, nats; NaN where none does.
        noise: mean of `total` for normal data that has not moved, n values per feature compared with n':
            noise(n) - noise(n') + 2 / (n' - 3), the mean of 1/V' being n' / (n' - 3); infinite for n' <= 3, NaN for
            n = 1.
        n_compared: features that vary in both.
        n_unlike: features whose number is infinite; they are not in `total`.
    """

    features: Floats
    total: float
    noise: float
    n_compared: int
    n_unlike: int


def measure_drift(profile: Profile, reference: Profile) -> Drift:
    """Return the drift of a profile, such as that of a new shard, from an earlier one; neither need cover all rows.

    Any batch sizes will do: only the moments of each feature over all rows are compared.

    Raises:
        SettingError: a profile without rows, or other feature axes.
        ShapeError: another number of features.

    >>> from assessor import profile_array
    >>> x = np.random.default_rng(0).normal(size=(4000, 3))
    >>> earlier = profile_array(x[:2000], batch_sizes=[100])
    >>> moved = profile_array(x[2000:] + [0, 0, 1], batch_sizes=[100])
    >>> measure_drift(moved, earlier).features.round(1).tolist()
    [0.0, 0.0, 0.5]
    """
    if not profile.n_rows or not reference.n_rows:
        raise SettingError("expected two profiles with rows; got one without: profile the data first")
    if profile.feature_axis != reference.feature_axis:
        raise SettingError(
            f"expected profiles made with one feature_axis; got {profile.feature_axis!r} and "
            f"{reference.feature_axis!r}: profile both with the same setting"
        )
    if profile.n_features != reference.n_features:
        raise ShapeError(
            f"expected {reference.n_features} features as in the reference; got {profile.n_features}: "
            "compare profiles of the same kind of data"
        )
    new, old = profile.moments, reference.moments
    variance, population = new.variance, old.variance
    varies, varied = variance >= TINY, population >= TINY
    both = varies & varied
    v, p = np.where(both, variance, 1.0), np.where(both, population, 1.0)
    z = (new.mean - old.mean) / np.sqrt(p)
    same = ~varies & ~varied & (new.mean == old.mean)
    features = np.where(both, (v / p + z * z - 1 - (np.log(v) - np.log(p))) / 2, np.where(same, 0.0, np.inf))
    n_compared = int(both.sum())
    return Drift(
        features=features,
        total=float(features[both].mean()) if n_compared else float("nan"),
        noise=float(noise(new.count) - noise(old.count)) + 2 / (old.count - 3) if old.count > 3 else float("inf"),
        n_compared=n_compared,
        n_unlike=int((~both & ~same).sum()),
    )
