"""Question 3, second half: what should a plan advise? Rules for its action, chosen on some families, judged on others.

A rule turns the parts of the need into one of the arms. Candidates differ in three things: how much drift calls for
deciding batch by batch, whether one shift and scale is ever enough, and which norm sits in the hidden layers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import inf, isinf

import numpy as np

from assessor.noise import DRIFT_NATS, MANY_SAMPLES, NOISE_TIMES
from assessor.recommendation import SCALE_NATS, SOME
from benchmarks.study.arms import ADVISED
from benchmarks.study.gathered import Gathered
from benchmarks.study.intervals import Estimate, Floats, Resampling, mean_of_seeds
from benchmarks.study.records import Assessed
from benchmarks.study.wording import interval, number, points, table

CUTOFF = 1.0
"""Of `need`."""
DRIFTS = (0.0, 1.0, 3.0, 10.0, inf)
BEHIND = ("", "layer", "batch", f"batch from {MANY_SAMPLES} samples, else layer")


@dataclass(frozen=True)
class Rule:
    """One way of advising.

    Attributes:
        drift: to decide batch by batch, drift must be above DRIFT_NATS and above so many times noise(B).
        scale: where one shift and scale leaves at most this, in nats: do that, rather than standardize each feature.
        behind: the norm in every hidden layer.
    """

    drift: float
    scale: float
    behind: str

    @property
    def name(self) -> str:
        """The rule in words."""
        once = f"scale where it leaves {self.scale:g} nats, else standardize" if self.scale > 0 else "standardize"
        if isinf(self.drift):
            return f"{once}; never by batch; {self.behind or 'no norm'} in hidden layers"
        limit = f"{DRIFT_NATS:g} nats" + (f" and {self.drift:g} noise(B)" if self.drift else "")
        return f"{once}; by batch from drift {limit}; {self.behind or 'no norm'} in hidden layers"

    def action(self, assessed: Assessed) -> str:
        """Return "nothing", "scale", "standardize" or "normalize"."""
        flagged = assessed.flagged.get("need", 0.0)
        if not flagged:
            return "nothing"
        rest, drift = assessed.parts["feature"] + assessed.parts["drift"], assessed.parts["drift"]
        some = SOME < flagged < 1 - SOME
        if drift > max(DRIFT_NATS, self.drift * assessed.parts["noise"]) and (some or drift > CUTOFF):
            return "normalize"
        if assessed.parts["global"] + rest <= CUTOFF:
            return "nothing"
        return "scale" if self.scale > 0 and rest <= self.scale else "standardize"

    def arm(self, assessed: Assessed) -> str:
        """Return the arm that carries the action out; with a norm in hidden layers, data is standardized at least."""
        action, behind = self.action(assessed), self.behind
        if behind == BEHIND[-1]:
            behind = "batch" if assessed.setting.batch_size >= MANY_SAMPLES else "layer"
        if not behind:
            return ADVISED[action]
        return f"{ADVISED['normalize'] if action == 'normalize' else 'standardize'}+{behind}"

    def follow(self, gathered: Gathered) -> Floats:
        """Return the accuracy of following the rule, (cells, seeds), percent."""
        found = np.full((len(gathered), len(gathered.seeds)), np.nan)
        for i, setting in enumerate(gathered.settings):
            for j, seed in enumerate(gathered.seeds):
                assessed = gathered.assessed.get((setting, seed))
                if assessed is not None and assessed.parts:
                    found[i, j] = _accuracies(gathered, self.arm(assessed))[i, j]
        return found


FIRST = Rule(0.0, scale=CUTOFF, behind="")
"""What plans advised when the study was run, and so what its records call the action."""
TODAY = Rule(NOISE_TIMES, scale=SCALE_NATS, behind="")
"""What they advise since."""
WITH_NORM = Rule(NOISE_TIMES, scale=0.0, behind=BEHIND[-1])
"""The recommendation: its action, and the norm that it names for hidden layers. No arm has a norm in hidden layers
only, or behind one scaling: where the action is nothing or scale, the data standardized stands for it."""
NO_PLAN = Rule(inf, scale=0.0, behind=BEHIND[-1])
"""Every dataset standardized, with the same norms in hidden layers, and no plan asked."""


NEEDED = {f"{arm}+{norm}" for arm in ("standardize", ADVISED["normalize"]) for norm in ("layer", "batch")}
"""Arms without which rules with a norm in hidden layers cannot be judged."""


def rules() -> Iterator[Rule]:
    """Yield all candidates. With a norm in hidden layers no arm scales only, so these standardize."""
    for drift, behind in product(DRIFTS, BEHIND):
        if not behind:
            yield from (Rule(drift, scale=limit, behind="") for limit in (CUTOFF, SCALE_NATS))
        yield Rule(drift, scale=0.0, behind=behind)


def _accuracies(gathered: Gathered, arm: str) -> Floats:
    kept: dict[str, Floats] = gathered.__dict__.setdefault("_of_arms", {})
    if arm not in kept:
        kept[arm] = gathered.accuracy(arm)
    return kept[arm]


def held_out(followed: Mapping[Rule, Floats], gathered: Gathered) -> tuple[Floats, dict[str, Rule]]:
    """Return what each family gets with the rule that does best on all others, (cells, seeds), and these rules."""
    families = gathered.datasets
    means = {rule: mean_of_seeds(values) for rule, values in followed.items()}
    values = np.full((len(gathered), len(gathered.seeds)), np.nan)
    chosen = {}
    for family in np.unique(families):
        out = families == family
        if not out.all():
            best = max(means, key=lambda rule: float(np.nanmean(means[rule][~out])))
            chosen[str(family)] = best
            values[out] = followed[best][out]
    return values, chosen


def lines(gathered: Gathered) -> list[str]:
    """Return the table of the rules in Markdown; nothing where arms were not run."""
    if not len(gathered) or not set(gathered.everywhere) >= NEEDED:
        return []
    followed = {rule: rule.follow(gathered) for rule in rules()}
    resampling = Resampling.draw(len(gathered), len(gathered.seeds))
    first = followed[FIRST]
    rows = []
    for rule, values in sorted(followed.items(), key=lambda pair: -float(np.nanmean(pair[1]))):
        less = "-" if rule == FIRST else interval(resampling.mean(values - first), 1, signed=True)
        rows.append([rule.name + _mark(rule), interval(resampling.mean(values), 1), less])
    values, chosen = held_out(followed, gathered)
    gain = resampling.mean(values - first)
    counts = {rule: list(chosen.values()).count(rule) for rule in dict.fromkeys(chosen.values())}
    picked = "; ".join(f"{rule.name} ({count})" for rule, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    return [
        "What should a plan advise? Rules for its action and for the norm in hidden layers; the rule that was in "
        f"use when the study was run is `{FIRST.name}`. Where a rule has a norm in hidden layers, data is "
        "standardized once unless it is decided batch by batch. The candidates were written down after a look at the "
        "records, so that holding a family out tests the choice among them and not their form.",
        "",
        *table(["rule", "accuracy, %", "less the former"], rows),
        f"Chosen for each family on all others: {number(resampling.mean(values).value, 1)} %, {_said(gain)} Chosen: "
        f"{picked}.",
        "",
        f"What the plan itself brings: today's recommendation less the same without any plan "
        f"(`{NO_PLAN.name}`): {points(resampling.mean(followed[WITH_NORM] - followed[NO_PLAN]))}.",
        "",
    ]


def _mark(rule: Rule) -> str:
    marks = {TODAY: "today's action", WITH_NORM: "today's recommendation", NO_PLAN: "no plan"}
    return f", **{marks[rule]}**" if rule in marks else ""


def _said(less: Estimate) -> str:
    beyond = "beyond noise" if less.sign else "within noise"
    return f"{points(less)} against the former rule, {beyond}."
