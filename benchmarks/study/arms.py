"""The arms: what is compared in a cell. An arm says how data is prepared, which norms a network has, who decides."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

WHERE = ("both", "input", "hidden")
WITHIN = ("batch", "layer")
METHODS = ("need", "heterogeneity", "published", "gaussian")
SKIPS = ("identity", "population", "batch_layer")
EVERYWHERE = (
    "batch",
    "layer",
    "group",
    "instance",
    "rms",
    "batch_layer",
    "ghost_batch",
    "batch_group",
    "l1_batch",
    "topk_batch",
    "linf_batch",
    "mean_only",
    "population",
    "kalman",
)
"""The norms of the registry, each at the input and in every hidden layer."""

ADVISED = {
    "nothing": "none",
    "scale": "scale",
    "standardize": "standardize",
    "normalize": "need/identity@input",
    "unknown": "none",
}


@dataclass(frozen=True)
class Arm:
    """One way of treating a cell.

    Attributes:
        name: in the records.
        prepare: what is done to the data once: "nothing", "scale" (one shift and scale), "standardize" (each feature
            of the training data), "per_source" (the same within each source), "action" (as the plan of the data says).
        norm: a registered norm, "none" for no norm.
        where: "both", "input" or "hidden": where the norm sits.
        method: whose plan decides, batch by batch, whether the norm is applied; "": it always is.
        skip: what an AdaptiveNorm does with the other batches.
        evaluation: of an AdaptiveNorm, unless another is asked for.
        within: a norm that sits in every hidden layer and is always applied, where `where` is "input".
        exact: the published rule as released.
        selu: no norm, a self-normalizing network.
    """

    name: str
    prepare: str = "nothing"
    norm: str = "none"
    where: str = "both"
    method: str = ""
    skip: str = "identity"
    evaluation: str = "threshold"
    within: str = ""
    exact: bool = False
    selu: bool = False


def gate(method: str, skip: str, where: str = "both") -> Arm:
    """Return the arm in which the plan of `method` decides about batch norm, batch by batch.

    >>> gate("need", "identity", "input").name
    'need/identity@input'
    """
    place = "" if where == "both" else f"@{where}"
    return Arm(f"{method}/{skip}{place}", norm="batch", where=where, method=method, skip=skip)


def _combined() -> list[Arm]:
    """Return the arms with something at the input and a norm in the hidden layers whatever it does."""
    once = [Arm(f"standardize+{norm}", prepare="standardize", norm=norm, where="hidden") for norm in WITHIN]
    return once + [_gate_and(norm) for norm in WITHIN]


def _gate_and(norm: str) -> Arm:
    arm = gate("need", "identity", "input")
    return replace(arm, name=f"{arm.name}+{norm}", within=norm)


def _grid() -> dict[str, Arm]:
    arms = [Arm("none"), Arm("scale", prepare="scale"), Arm("standardize", prepare="standardize")]
    arms += [Arm(name, norm=name) for name in EVERYWHERE]
    arms.append(Arm("selu", prepare="standardize", selu=True))
    published = replace(gate("published", "identity"), name="published_exact", evaluation="never", exact=True)
    arms += [published, *(gate(method, skip) for method in METHODS for skip in SKIPS)]
    arms += [gate("need", "identity", "input"), *_combined()]
    return {arm.name: arm for arm in arms}


def _sources() -> dict[str, Arm]:
    arms = [_GRID[name] for name in ("none", "batch", "layer", "batch_layer", "standardize")]
    arms += [Arm("per_source", prepare="per_source"), Arm("one_decision", prepare="action")]
    arms += [gate(m, skip, where) for m in ("need", "heterogeneity") for where in WHERE for skip in SKIPS]
    arms += [_gate_and(norm) for norm in WITHIN]
    return {arm.name: arm for arm in arms}


_GRID = _grid()
PARTS: Mapping[str, Mapping[str, Arm]] = {"grid": _GRID, "sources": _sources()}


def names(part: str) -> tuple[str, ...]:
    """Return the names of a part's arms: "grid" or "sources".

    >>> names("grid")[:4]
    ('none', 'scale', 'standardize', 'batch')
    """
    return tuple(PARTS[part])


def get(name: str) -> Arm:
    """Return an arm by its name.

    Raises:
        KeyError: no part has such an arm; the message lists those there are.
    """
    known = {**PARTS["grid"], **PARTS["sources"]}
    if name not in known:
        raise KeyError(f"expected an arm among: {', '.join(known)}; got {name!r}")
    return known[name]


def applies(name: str, network: str, shape: tuple[int, ...]) -> bool:
    """Return whether an arm can be used with a network and samples of this shape.

    Instance norm needs several values a channel. Priors of Kalman norm cannot be traced through the loop of the LSTM,
    and without priors it is batch norm; the LSTM's own activations are part of it, so it has no SELU form. The released
    published rule leaves out an image's last row and column, so it needs samples of two axes or more.

    >>> applies("instance", "mlp", (1, 8, 8)), applies("instance", "convnet", (1, 8, 8))
    (False, True)
    """
    if name == "instance":
        return network in ("convnet", "resnet")
    if name in ("kalman", "selu"):
        return network != "lstm"
    return name != "published_exact" or (len(shape) >= 2 and min(shape[-2:]) >= 2)


def evaluations(name: str, part: str) -> tuple[str, ...]:
    """Return the evaluations that a part tests an arm with beside its own, "mode/batch size".

    "B" is the batch size of the training. Batch norm has no statistics of its own in a batch of one sample. The grid's
    gates are also tested with running statistics, the alternative where all batches come from one source.

    >>> evaluations("batch", "sources")
    ('running/B', 'batch/B')
    """
    arm = get(name)
    if part != "sources":
        return ("running/B",) if arm.method and not arm.exact else ()
    if arm.method:
        return ("threshold/B", "threshold/1", "running/B", "running/1", "batch/B", "never/B")
    switched = arm.norm in ("batch", "batch_layer") or arm.prepare == "action"
    return ("running/B", "batch/B") if switched else ()


def advised(action: str) -> str:
    """Return the arm that carries out a plan's action.

    >>> advised("normalize")
    'need/identity@input'
    """
    return ADVISED[action]
