"""What each measure cannot see, in plain words."""

from collections.abc import Sequence

from assessor import Plan

OF_ALL = (
    "Only each feature's mean and variance are looked at: neither how features move together nor the form of their "
    "distributions beyond that.",
    "Batches are judged in the order and size assessed; another order, batch size or a random augmentation makes other "
    "batches.",
    "Whether training gains by normalizing is a question for training: these are the input's statistics, and layers "
    "inside the network see others.",
)

OF_MEASURE = {
    "standard_divergence": (
        "It compares each batch with mean 0 and variance 1, so a batch of rare but legitimate samples looks like a bad "
        "one.",
        "A feature that is constant within a batch, but not over the dataset, counts neither for nor against it.",
    ),
    "gaussian_divergence": (
        "It ignores a shift and scale common to all features, so it is silent on data that only needs one global "
        "scaling.",
        "It cannot tell features that are meant to differ from features that differ by accident.",
    ),
    "spread_divergence": (
        "It ignores a shift and scale common to all features, so it is silent on data that only needs one global "
        "scaling.",
        "It cannot tell features that are meant to differ from features that differ by accident.",
    ),
    "scale_dispersion": (
        "It looks at the features' scales only, not at their means, and small batches alone make it positive.",
    ),
    "location_share": ("It looks at the features' means only, not at their scales.",),
    "bartlett": (
        "It answers to heavy tails as to unequal scales, and grows with the batch and the number of features where "
        "scales differ at all: a test, not a size.",
    ),
    "population_divergence": (
        "It compares with the reference it was given: features that are unlike each other there too go unseen.",
    ),
    "class_deviation": (
        "It looks at the mean of each whole sample only: features that differ widely within every sample alike go "
        "unseen.",
        "It is neither shift- nor scale-invariant: standardized data, whose class means are near 0, is flagged "
        "altogether.",
    ),
}


def blind_spots(plans: Sequence[Plan]) -> list[tuple[str, tuple[str, ...]]]:
    """Return for each method among the plans what it cannot see, then what holds for all."""
    measures = {plan.method: plan.measure for plan in plans}
    own = [(method, OF_MEASURE[measure]) for method, measure in measures.items() if measure in OF_MEASURE]
    return [*own, ("all methods", OF_ALL)]
