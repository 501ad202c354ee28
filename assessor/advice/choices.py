"""What can be done: the names under which the study tried it, their kind, and what each means."""

from assessor.errors import UnknownNameError

NETWORKS = ("mlp", "convnet", "resnet", "lstm")

NOTHING = "none"
"""The choice that every other is compared with."""

KINDS = {
    "nothing": "nothing",
    "scale": "scale",
    "standardize": "standardize",
    "gate": "normalize",
    "norm": "normalize",
}
"""Kinds of choices, and the action (`assessor.recommendation.ACTIONS`) that each one is."""

_PREPARED = {
    "none": ("nothing", "no normalization at all"),
    "scale": ("scale", "one shift and scale for the whole dataset"),
    "standardize": ("standardize", "each feature standardized once over the dataset"),
}

_NORMS = {
    "batch": "batch norm",
    "layer": "layer norm",
    "group": "group norm",
    "instance": "instance norm",
    "rms": "RMS norm",
    "batch_layer": "batch layer normalization",
    "ghost_batch": "ghost batch norm",
    "batch_group": "batch/group norm",
    "l1_batch": "L1 batch norm",
    "topk_batch": "top-k batch norm",
    "linf_batch": "L-infinity batch norm",
    "mean_only": "mean-only batch norm with bounded weights",
    "population": "population normalization",
    "kalman": "Kalman normalization",
}

_SKIPS = {
    "identity": "the others left as they are",
    "population": "the others by running statistics",
    "batch_layer": "the others by batch layer normalization",
}


_PLACES = {
    "": "at the input and in every hidden layer",
    "input": "at the input only",
    "hidden": "in every hidden layer",
}


def describe_choice(name: str) -> tuple[str, str]:
    """Return the kind of a choice and what it means, in words.

    Args:
        name: an arm of the study: "none", "scale", "standardize", a norm of `norms.names()` (at the input and in every
            hidden layer), "selu", or a gate that follows the plan, "need/identity" or "need/identity@input". After "+"
            comes a norm that sits in every hidden layer: "standardize+layer", "need/identity@input+batch".

    Raises:
        UnknownNameError: none of these; methods other than `need` are compared by the study but not advised.

    >>> describe_choice("standardize+layer")
    ('standardize', 'each feature standardized once over the dataset, and layer norm in every hidden layer')
    >>> describe_choice("layer")
    ('norm', 'layer norm at the input and in every hidden layer')
    """
    before, _, within = name.partition("+")
    if before in ("standardize", "need/identity@input") and within in _NORMS:
        kind, words = describe_choice(before)
        return kind, f"{words}, and {_NORMS[within]} in every hidden layer"
    if name in _PREPARED:
        return _PREPARED[name]
    if name in _NORMS:
        return "norm", f"{_NORMS[name]} at the input and in every hidden layer"
    if name == "selu":
        return "standardize", "each feature standardized once and a self-normalizing network (SELU), without norms"
    gate, _, where = name.partition("@")
    method, _, skip = gate.partition("/")
    if method == "need" and skip in _SKIPS and where in _PLACES:
        return "gate", f"the plan's flagged batches normalized {_PLACES[where]}, {_SKIPS[skip]}"
    raise UnknownNameError(
        f"expected a choice that is advised: none, scale, standardize, {', '.join(_NORMS)}, selu, or need/identity, "
        f"need/population, need/batch_layer with or without @input or @hidden; standardize and need/identity@input "
        f"may have +NORM; got {name!r:.80}"
    )


def check_network(network: str | None) -> str | None:
    """Return a model family of NETWORKS, or None where it is not known ("unknown", None).

    Raises:
        UnknownNameError: another name.
    """
    if network is None or network == "unknown":
        return None
    if network not in NETWORKS:
        raise UnknownNameError(
            f"expected a network among {', '.join(NETWORKS)}, unknown; got {network!r:.80}: name the nearest, or leave "
            "it out"
        )
    return network
