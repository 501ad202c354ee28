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
# 0.1 nats is the least that matters; below it, even a significant difference is not worth normalizing for.
methods.register("heterogeneity")(Method("gaussian_divergence", "max(fixed(0.1), null(0.01))"))
methods.register("published")(Method("class_deviation", "fixed(1.2)"))
