"""Advice: the choices ranked by what they are expected to bring, in words; or that the evidence is not enough."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assessor.advice.choices import KINDS, NOTHING, check_network, describe_choice
from assessor.advice.estimate import Estimate, estimate
from assessor.advice.table import PARTS, Table, installed_table, noise_of
from assessor.errors import SettingError
from assessor.noise import drift_limit, many_samples

if TYPE_CHECKING:
    from assessor.plan import Plan
    from assessor.profile import Profile

MARGIN = 0.005
"""What gains less than half a point of accuracy is not worth doing: doing nothing ranks as if it gained so much."""
PREFERRED = 0.03
"""What another choice must be expected to gain over `usual_choice` to be ranked before it."""
RANKING = f"the plan's usual choice ranks as if it gained {100 * PREFERRED:g} points more"
INTERVALS = "of data families held out of the study, four in five effects lay within the interval"
"""What is said beside a table of choices."""
MIN_CELLS = 3
MIN_FAMILIES = 2
"""Fewer near cells, or all of one data family, are not enough evidence."""
MAX_RISK = 0.3
"""A first choice that loses more than a point in a larger share of such cells is not enough evidence."""
DECIMALS = 4
_ACTIONS = ("unknown", *dict.fromkeys(KINDS.values()))


@dataclass(frozen=True)
class Choice:
    """One thing that can be done, and what it is expected to bring.

    Attributes:
        name: as `assessor.advice.choices.describe_choice` takes it: "standardize", "layer", "need/identity@input".
        kind: "nothing", "scale", "standardize", "norm" (everywhere) or "gate" (where the plan says so).
        effect: expected test accuracy less that of doing nothing, -1 to 1.
        low, high: most cells like this one are expected within, on held-out families four in five were;
            low <= effect <= high.
        cells: near cells of the study that tried it.
        reason: one sentence.
    """

    name: str
    kind: str
    effect: float
    low: float
    high: float
    cells: int
    reason: str


@dataclass(frozen=True)
class Advice:
    """What to do with a dataset, from what a study measured on data like it.

    Attributes:
        action: of the first choice: "nothing", "scale", "standardize", "normalize"; "unknown": not enough evidence.
        choices: ranked, the best first; may be empty where the evidence is not enough.
        text: the first choice with its effect, or why there is none.
        evidence: which study; "" where none is installed.
        network: the model family that was asked for; None: not known.
    """

    action: str
    choices: tuple[Choice, ...]
    text: str
    evidence: str
    network: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as values of JSON."""
        return asdict(self) | {"choices": [asdict(choice) for choice in self.choices]}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Advice":
        """Return the advice that `to_dict` told.

        Raises:
            KeyError, TypeError, ValueError: it is no such advice.
        """
        if body["action"] not in _ACTIONS:
            raise ValueError(f"expected an action among {', '.join(_ACTIONS)}; got {body['action']!r:.80}")
        network = body["network"]
        return cls(
            str(body["action"]),
            tuple(_read_choice(choice) for choice in body["choices"]),
            str(body["text"]),
            str(body["evidence"]),
            None if network is None else str(network),
        )


def advise(
    plan_or_profile: "Plan | Profile",
    *,
    batch_size: int | None = None,
    network: str | None = None,
    table: Table | None = None,
) -> Advice:
    """Return what to do with a dataset and which norm to take, ranked.

    Args:
        plan_or_profile: of the dataset; a plan of the method `need`, which has the need's parts.
        batch_size: of a profile: one of those profiled, None takes the only one; a plan has its own.
        network: "mlp", "convnet", "resnet", "lstm"; None or "unknown".
        table: what a study measured; None takes the one that came with the package.

    Raises:
        SettingError: another batch size than the plan's, or one that was not profiled. UnknownNameError: no such
            network. GapError: rows are missing.

    >>> import numpy as np
    >>> from assessor import profile_array
    >>> profile = profile_array(np.random.default_rng(0).normal(size=(64, 8)), batch_sizes=[16])
    >>> advise(profile, table=Table((), 1.0, 1.0, "", {})).text
    'not enough evidence: the study has no cell'
    """
    from assessor.plan import Plan, make_plan

    if isinstance(plan_or_profile, Plan):
        plan = plan_or_profile
        if batch_size not in (None, plan.batch_size):
            raise SettingError(
                f"expected the plan's batch size, {plan.batch_size}; got {batch_size!r}: leave it out, or pass the "
                "profile"
            )
    else:
        plan = make_plan(plan_or_profile, batch_size=batch_size)
    return advise_on(plan.decomposition, plan.batch_size, network=network, table=table)


def advise_on(
    parts: Mapping[str, float] | None, batch_size: int, *, network: str | None = None, table: Table | None = None
) -> Advice:
    """Return what to do with data whose need has these parts.

    Args:
        parts: `Plan.decomposition`; None where there is none.
        batch_size, network, table: see `advise`.

    Raises:
        UnknownNameError: no such network. SettingError: a part is missing or not finite, or batch_size < 1.
    """
    known = check_network(network)
    if batch_size < 1:
        raise SettingError(f"expected batch_size >= 1; got {batch_size}")
    if parts is not None and not all(np.isfinite(parts.get(part, np.nan)) for part in PARTS):
        raise SettingError(f"expected finite parts {', '.join(PARTS)}; got {dict(parts)}: pass Plan.decomposition")
    table = installed_table() if table is None else table
    if table is None:
        return Advice("unknown", (), "not enough evidence: no study table is installed", "", known)
    if parts is None:
        text = (
            "not enough evidence: the parts of the need are not known; plans of the method need, of complete batches, "
            "have them"
        )
        return Advice("unknown", (), text, table.evidence, known)
    if not table.cells:
        return Advice("unknown", (), "not enough evidence: the study has no cell", table.evidence, known)
    found = estimate(table, parts, batch_size, known)
    lacking = _too_little(table, found)
    if lacking:
        return Advice("unknown", (), f"not enough evidence: {lacking}", table.evidence, known)
    choices = _rank(table, found, parts, batch_size)
    first = choices[0]
    risk = float(found.risk[found.names.index(first.name)])
    if risk > MAX_RISK:
        text = (
            f"not enough evidence: in data like this the most promising, {first.name}, is expected to bring "
            f"{in_points(first.effect)} points, but loses more than one in {risk:.0%} of such cells"
        )
        return Advice("unknown", choices, text, table.evidence, known)
    return Advice(KINDS[first.kind], choices, _word(first), table.evidence, known)


def in_points(effect: float) -> str:
    """Return a difference of accuracies in points.

    >>> in_points(0.1234), in_points(-0.02), in_points(0.0)
    ('+12.3', '-2.0', '0.0')
    """
    points = round(100 * effect, 1)
    return f"{points:+.1f}" if points else "0.0"


def _too_little(table: Table, found: Estimate) -> str:
    """Return why the near cells are not enough, or ""."""
    families = {cell.family for cell, near in zip(table.cells, found.near, strict=True) if near}
    n_near = int(found.near.sum())
    if n_near == 0:
        return "no cell of the study is near this data, batch size and network"
    if n_near < MIN_CELLS:
        return f"only {n_near} of the study's cells {'is' if n_near == 1 else 'are'} near; {MIN_CELLS} are asked for"
    if len(families) < MIN_FAMILIES:
        return f"all {n_near} cells near this one are of one data family"
    if NOTHING not in found.names or len(found.names) < 2:
        return "the cells near this one have no choices in common"
    return ""


def _rank(table: Table, found: Estimate, parts: Mapping[str, float], batch_size: int) -> tuple[Choice, ...]:
    choices = []
    for i, name in enumerate(found.names):
        kind, what = describe_choice(name)
        n = int(found.cells[i])
        effects = table.effects[found.near, table.choices.index(name)]
        gained = int(np.sum(effects[~np.isnan(effects)] > MARGIN))
        effect, low, high = (round(float(v), DECIMALS) for v in (found.effect[i], found.low[i], found.high[i]))
        reason = f"{what}: {_why(kind, gained, n, parts)}"
        choices.append(Choice(name, kind, effect, low, high, n, reason))
    usual = usual_choice(parts, batch_size)
    return tuple(sorted(choices, key=lambda choice: (-worth(choice.name, choice.effect, usual), choice.name)))


def usual_choice(parts: Mapping[str, float], batch_size: int) -> str:
    """Return what the plan's recommendation mostly comes to, a rule made from all families of the study.

    Where drift is above its limit a gate at the input, elsewhere each feature standardized once; in hidden layers batch
    norm, or layer norm where batches have few samples. A recommendation also looks at which batches are flagged.

    >>> usual_choice({"global": 9.0, "feature": 0.0, "drift": 0.0}, 4)
    'standardize+layer'
    """
    added = noise_of(parts, batch_size)
    once = "need/identity@input" if parts["drift"] > drift_limit(added) else "standardize"
    return f"{once}+{'batch' if many_samples(added) else 'layer'}"


def worth(name: str, effect: float, usual: str) -> float:
    """Return the number by which a choice is ranked.

    Its effect; MARGIN for doing nothing; PREFERRED more for the usual choice where it gains more than MARGIN, so that
    another one must be expected to gain clearly more: the effects are of few cells.
    """
    if name == NOTHING:
        return MARGIN
    return effect + PREFERRED * (name == usual and effect > MARGIN)


def _why(kind: str, gained: int, n: int, parts: Mapping[str, float]) -> str:
    if kind == "nothing":
        return "what every other choice is compared with"
    seen = f"it gained more than half a point in {gained} of {n} near cells"
    removed = {"scale": PARTS[:1], "standardize": PARTS[:2]}.get(kind)
    if removed is None:
        return seen
    told = " and ".join(f"{part} {parts[part]:.3g}" for part in removed)
    return f"it removes the need's {told} nats, and {seen[3:]}"


def _word(first: Choice) -> str:
    if first.name == NOTHING:
        return f"nothing: no choice is expected to gain half a point over it, from {first.cells} near cells"
    what = describe_choice(first.name)[1]
    return (
        f"{first.name} ({what}): expected {in_points(first.effect)} points of test accuracy over doing nothing "
        f"({in_points(first.low)} to {in_points(first.high)} in most such cells), from {first.cells} near cells"
    )


def _read_choice(body: Mapping[str, Any]) -> Choice:
    effect, low, high = (float(body[name]) for name in ("effect", "low", "high"))
    if not low <= effect <= high or not np.isfinite([low, high]).all():
        raise ValueError(f"expected low <= effect <= high; got {low}, {effect}, {high}")
    if body["kind"] not in KINDS:
        raise ValueError(f"expected a kind among {', '.join(KINDS)}; got {body['kind']!r:.80}")
    return Choice(
        str(body["name"]), str(body["kind"]), effect, low, high, cells=int(body["cells"]), reason=str(body["reason"])
    )
