"""`standard_divergence`: how far a batch's features are from what normalization would make of them (need).

D = mean_f KL( N(m_f, v_f) || N(0, 1) ) = mean_f ( v_f + m_f^2 - 1 - ln v_f ) / 2, in nats (FORMULAS 2.2).
The score is D - noise(B), which is what normalizing would remove beyond sampling noise.

Vanishing variances. A feature that is constant over the whole dataset (its complete batches) is left out. A feature
that varies, but is constant within a batch (a pixel that is blank in four images), would send ln v_f to minus
infinity; it is given the log variance of an average such feature: the mean over all (batch, feature) pairs of that
kind of ln V_f - 2 noise(B). So it counts neither for nor against the batch, the decomposition stays exact, and a
profile need not remember which features were constant in which batch.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from assessor.batches import Records
from assessor.kernels import sum_squares
from assessor.measures.scores import Measure, Scores, measures
from assessor.moments import Floats, Moments
from assessor.noise import noise, normal_divergence
from assessor.view import BatchView, describe_moments


def standard_divergence(view: BatchView) -> Scores:
    """Return D - noise(B) of each batch, in nats, with the decomposition of its mean.

    The decomposition is over the complete batches: global + feature + drift is their mean score exactly, and with
    noise added their mean D.

    - global: removed by one shift and scale for the whole dataset.
    - feature: features unlike each other; removed by standardizing each feature once.
    - drift: batches unlike each other; only this calls for normalizing batch by batch.
    - noise: what batch statistics of B samples add.

    A batch with one value per feature has no variance: its score is NaN. With no complete batch there is no
    decomposition, and features that are constant in the one batch are left out.
    """
    records, counts = view.records, view.counts
    moments = view.complete_moments
    if moments is None:
        moments = view.profile.moments
    variance = moments.variance
    active = variance > 0
    n_active = int(active.sum())
    n_constant = len(active) - n_active
    if not n_active:
        return _nothing_varies(view)
    batch_noise = noise(counts)
    if view.last_moments is not None:
        records = np.concatenate([records[:-1], _last_record(view.last_moments, moments, active, len(records) - 1)])

    pairs = np.where(active, view.constant_batches, 0).astype(np.float64)
    log_variance = np.log(np.where(active, variance, 1.0))
    n_pairs = pairs.sum()
    imputed = float((pairs * log_variance).sum() / n_pairs) if n_pairs else float(log_variance.sum() / n_active)

    n_varying = records["n_varying"].astype(np.float64)
    n_imputed = np.maximum(n_active - n_varying, 0.0)
    varying_moment = n_varying * (records["pooled_variance"] + records["pooled_mean"] ** 2)
    left_out = np.where(active, 0.0, moments.mean)
    left_high, left_low = sum_squares(left_out[None])
    high, low = records["constant_second_moment"], records["constant_second_moment_low"]
    constant_moment = np.maximum((high - left_high) + (low - left_low), 0.0)
    second_moment = (varying_moment + constant_moment) / n_active
    # E0 of an imputed feature's ln v_f is ln V_f - 2 noise(B), as for a normal feature without drift.
    log_sum = n_varying * records["mean_log_variance"] + n_imputed * (imputed - 2 * batch_noise)
    mean_log = log_sum / n_active
    divergence = (second_moment - 1 - mean_log) / 2

    values = divergence - batch_noise
    notes = []
    if view.left_out.any():
        notes.append("the drift is the mean score less the other parts, since batches without some of their rows count")
    if n_constant:
        notes.append(f"{n_constant} of {len(active)} features are constant over the dataset and left out")
    if n_pairs:
        share = n_pairs / (n_active * max(view.n_complete, 1))
        notes.append(
            f"{share:.1%} of the (batch, feature) pairs are constant within the batch; they take the log variance "
            "of an average such feature and count as no drift"
        )
    if np.isnan(batch_noise).any():
        notes.append("batches with one value per feature have no variance: their score is undefined")
    spread = (np.log(np.maximum(records["pooled_variance"], 1e-300)) - records["mean_log_variance"]) / 2
    alike = normal_divergence(counts, np.maximum(n_varying, 1))
    return Scores(
        values=values,
        details={
            "pooled_mean": records["pooled_mean"],
            "pooled_std": np.sqrt(records["pooled_variance"]),
            "heterogeneity": spread - alike,
        },
        rule={
            "measure": "standard_divergence",
            "constant_log_variance": imputed,
            "constant_features": np.flatnonzero(~active).tolist(),
            "feature_axis": view.profile.feature_axis,
        },
        notes=tuple(notes),
        decomposition=_decompose(view, moments, active, mean_log, values),
    )


def _last_record(last: Moments, moments: Moments, active: NDArray[np.bool_], index: int) -> Records:
    """Return the record of the last, smaller batch; features that vary in it only are left out as in the others."""
    mean, m2 = np.where(active, last.mean, moments.mean), np.where(active, last.m2, 0.0)
    return describe_moments(index, Moments(last.count, mean, m2))


def _decompose(
    view: BatchView, moments: Moments, active: NDArray[np.bool_], mean_log: Floats, scores: Floats
) -> dict[str, float] | None:
    """Return the four parts of the mean D of the complete batches (FORMULAS 2.2).

    Args:
        mean_log: per batch the mean over the active features of ln v_bf.
        scores: per batch; where rows were left out, the moments of the dataset and the mean over batches weigh
            batches otherwise, and the drift takes the difference, so that the parts still sum to the mean score.
    """
    count = view.batch_size * view.profile.schema.values_per_row
    if not view.n_complete or count < 2:
        return None
    mean, variance = moments.mean[active], moments.variance[active]
    pooled_mean = float(mean.mean())
    pooled = float(variance.mean() + ((mean - pooled_mean) ** 2).mean())
    overall = (pooled + pooled_mean**2 - 1 - np.log(pooled)) / 2
    mean_log_variance = float(np.log(variance).mean())
    noise_part = float(noise(count))
    feature = float(np.log(pooled) - mean_log_variance) / 2
    if view.left_out.any():
        defined = scores[: view.n_complete][~(np.isnan(scores) | view.too_few)[: view.n_complete]]
        if not len(defined):
            return None
        drift = float(defined.mean()) - float(overall) - feature
    else:
        drift = (mean_log_variance - float(mean_log[: view.n_complete].mean())) / 2 - noise_part
    return {
        "global": float(overall),
        "feature": feature,
        "drift": drift,
        "noise": noise_part,
    }


def _nothing_varies(view: BatchView) -> Scores:
    nothing = np.full(len(view.records), np.nan)
    return Scores(
        values=nothing,
        details={"pooled_mean": nothing, "pooled_std": nothing, "heterogeneity": nothing},
        rule={
            "measure": "standard_divergence",
            "constant_log_variance": 0.0,
            "constant_features": list(range(view.profile.n_features)),
            "feature_axis": view.profile.feature_axis,
        },
        notes=("no feature varies over the dataset: every score is undefined",),
    )


def _explain(details: Mapping[str, float]) -> str:
    mean, std, spread = details["pooled_mean"], details["pooled_std"], details["heterogeneity"]
    if not std > 0:
        return "no feature varies within the batch"
    common = (std * std + mean * mean - 1) / 2 - np.log(std)
    far = f"its values have mean {mean:.3g} and std {std:.3g}, where weights assume 0 and 1"
    unlike = f"its features are unlike each other ({spread:.3g} nats)"
    if max(common, spread) < 0.1:
        return "its features are close to standardized already"
    if spread < common / 10:
        return far
    if common < spread / 10:
        return unlike
    return f"{far}; {unlike}" if common > spread else f"{unlike}; {far}"


measures.register("standard_divergence")(Measure(standard_divergence, _explain, "nats"))
