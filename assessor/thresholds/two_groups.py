"""Cutoffs that split the scores into two groups, a lower and an upper one.

They always split, also where there is one group only, so that none is a default. Only finite scores count, as in
`of_scores`; where all finite scores are one, that score is the cutoff and no batch of a finite score is flagged.
scikit-learn is imported on use, with fixed seeds.
"""

import warnings

import numpy as np

from assessor.errors import SettingError
from assessor.measures.scores import Scores
from assessor.moments import Floats
from assessor.splitting import halfway, split_in_two, to_unit
from assessor.thresholds.of_scores import finite_scores
from assessor.thresholds.registered import Threshold, thresholds

SEED = 0
KMEANS_STARTS = 10
MAX_ITERATIONS = 1000


@thresholds.register("otsu")
def otsu() -> Threshold:
    """Return the threshold that makes the variance between the two groups largest; of several such, the lowest.

    The cutoff is halfway between the groups.

    Raises:
        SettingError: on use, no finite score.

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076, equation 18: sigma_B^2(k) = (mu_T w(k) - mu(k))^2 / (w (1 - w)).
    """

    return lambda scores: split_in_two(finite_scores(scores, "otsu"))[0]


@thresholds.register("kmeans")
def kmeans() -> Threshold:
    """Return the threshold halfway between two clusters of the scores, found by scikit-learn's KMeans.

    Ten seeded starts of Lloyd's algorithm, which lowers the variance within the clusters: where it finds the least, the
    split is `otsu`'s.

    Raises:
        SettingError: on use, no finite score.
    """

    def cutoff(scores: Scores) -> float:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

        values = finite_scores(scores, "kmeans")
        if values.min() == values.max():
            return float(values[0])
        model = KMeans(n_clusters=2, n_init=KMEANS_STARTS, max_iter=MAX_ITERATIONS, random_state=SEED)
        with threadpool_limits(limits=1):  # threads would decide the order of sums, and small fits wait for them
            labels = model.fit_predict(to_unit(values)[:, None])
        upper = labels == labels[np.argmax(values)]
        return halfway(float(values[~upper].max()), float(values[upper].min()))

    return cutoff


@thresholds.register("gaussian_mixture")
def gaussian_mixture() -> Threshold:
    """Return the threshold between two normal components of the scores where both are equally likely.

    The components are fitted by scikit-learn's GaussianMixture, seeded, to the scores scaled to [0, 1]. Where one
    component is the likelier all the way between the two means, the cutoff is halfway between these.

    Raises:
        SettingError: on use, no finite score, or the fit does not converge.
    """

    def cutoff(scores: Scores) -> float:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        values = finite_scores(scores, "gaussian_mixture")
        low, high = float(values.min()), float(values.max())
        if low == high:
            return low
        model = GaussianMixture(n_components=2, max_iter=MAX_ITERATIONS, random_state=SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(to_unit(values)[:, None])
            except ConvergenceWarning as error:
                raise SettingError(
                    f"expected scores of which gaussian_mixture() finds two components; {error} Use otsu()"
                ) from error
        order = np.argsort(model.means_[:, 0])
        at = _crossing(model.means_[order, 0], model.covariances_[order, 0, 0], model.weights_[order])
        return low * (1 - at) + high * at

    return cutoff


def _crossing(mean: Floats, variance: Floats, weight: Floats) -> float:
    """Return where two weighted normal densities are equal between their means, by bisection; else halfway.

    Args:
        mean, variance, weight: shape (2,), means ascending.
    """

    def upper_likelier(x: float) -> bool:
        log_density = np.log(weight) - (np.log(variance) + (x - mean) ** 2 / variance) / 2
        return bool(log_density[1] > log_density[0])

    lower, upper = float(mean[0]), float(mean[1])
    if upper_likelier(lower) or not upper_likelier(upper):
        return (lower + upper) / 2
    # The difference of the log densities is quadratic and changes sign between the means, so it does so once.
    while lower < (middle := (lower + upper) / 2) < upper:
        lower, upper = (lower, middle) if upper_likelier(middle) else (middle, upper)
    return lower
