"""Methods: named pairs of a measure and a threshold."""

from dataclasses import dataclass

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
