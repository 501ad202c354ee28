"""Methods: named pairs of a measure and a threshold."""

from dataclasses import dataclass

from assessor.errors import SettingError
from assessor.measures import measures
from assessor.registry import Registry


@dataclass(frozen=True)
class Method:
    """A measure and its threshold, by name."""

    measure: str
    threshold: str


methods: Registry[Method] = Registry("method")

methods.register("need")(Method("standard_divergence", "fixed(1)"))
# Below 0.05 nats (scales log-normal(0.22)), even a significant difference is not worth normalizing for.
methods.register("heterogeneity")(Method("spread_divergence", "max(fixed(0.05), null(0.01))"))
methods.register("published")(Method("class_deviation", "fixed(1.2)"))
# What `heterogeneity` was first: the plain divergence, noisier in small batches and under heavy tails.
methods.register("gaussian")(Method("gaussian_divergence", "max(fixed(0.1), null(0.01))"))


def choose(method: str, threshold: str | float | None) -> tuple[str, str | float]:
    """Return the measure and the threshold that are meant.

    Args:
        method: a registered method, or a registered measure where a threshold is given.
        threshold: replaces the method's own.

    Raises:
        SettingError: a measure without a threshold. UnknownNameError: neither a method nor a measure.

    >>> choose("need", None), choose("bartlett", "null(0.01)")
    (('standard_divergence', 'fixed(1)'), ('bartlett', 'null(0.01)'))
    """
    if isinstance(method, str) and method in measures.names() and method not in methods.names():
        if threshold is None:
            raise SettingError(
                f"expected a threshold for the measure {method!r}, which is no method with one of its own; got none: "
                'give one, such as threshold="quantile(0.9)"'
            )
        return method, threshold
    chosen = methods.get(method)
    return chosen.measure, chosen.threshold if threshold is None else threshold
