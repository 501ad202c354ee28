"""How good the advisor's first choice is in data families that its table has not seen, beside simpler habits.

Every family is held out once: table, width and shrinkage are made anew from the other families (width and shrinkage by
holding out each of those in turn). What is not held out stands in the text. Families of one dataset go together.

A choice is judged by its regret, best less choice, cell by cell and paired by seed. What is best for a seed is chosen
on the other seeds (`gathered.best_of`), so that it is not credited with the luck it was chosen for. A choice is the
best or within noise of it where the 95 % interval of the regret's mean over seeds (`intervals.paired`: moderated t)
reaches 0 or below; since wide intervals would make that easy, the share within one point stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assessor.advice import Advice, Cell, Table, advise_on
from assessor.advice.choices import NOTHING
from assessor.advice.estimate import COVERED
from benchmarks.study import acting
from benchmarks.study.gathered import Gathered, best_of, gather, held_out_with
from benchmarks.study.intervals import Estimate, Floats, Resampling, paired
from benchmarks.study.records import Record, Setting
from benchmarks.study.table import TABLE_PARTS, advised, cells_of, without
from benchmarks.study.wording import points

POINT = 1.0
TARGET = 0.8
ADVISOR = "the advisor's first choice"
RULE, ACTION = "the plan's recommendation", "the plan's action alone"
HABITS = ("batch", "layer", "standardize", NOTHING)


@dataclass(frozen=True, eq=False)
class Judged:
    """The cells of one part with what each way of choosing gets in them.

    Attributes:
        settings: the cells.
        advice: of every cell, from the families that are not its own.
        best: accuracy of the best choice in percent, (cells, seeds).
        got: the same by way of choosing.
        covered: whether the first choice's effect lies in its interval; None where it was not tried in the cell.
    """

    settings: tuple[Setting, ...]
    advice: tuple[Advice, ...]
    best: Floats
    got: dict[str, Floats]
    covered: tuple[bool | None, ...]


def judge(gathered: Gathered, everything: dict[Setting, Cell]) -> Judged | None:
    """Return how the ways of choosing do in the cells of a part; None where there are none.

    Args:
        gathered: the part's records.
        everything: the cells of all parts that the table is made of.
    """
    cells = {setting: cell for setting, cell in cells_of(gathered).items() if cell.effects.get("batch")}
    held = gathered.where(cells.__contains__)
    if not cells or len({held_out_with(cell.family) for cell in everything.values()}) < 2:
        return None
    whole = Table(tuple(everything.values()), 1.0, 1.0, "", {})
    tables = {family: without(whole, family) for family in {held_out_with(cell.family) for cell in cells.values()}}
    accuracies = {arm: held.accuracy(arm) for arm in advised(held.arms)}
    advice, covered = [], []
    whole_rule = set(held.everywhere) >= acting.NEEDED
    followed = (acting.WITH_NORM if whole_rule else acting.TODAY).follow(held)
    chosen = np.full_like(accuracies[NOTHING], np.nan)
    for i, setting in enumerate(held.settings):
        cell = cells[setting]
        made = advise_on(cell.parts, cell.batch_size, network=cell.network, table=tables[held_out_with(cell.family)])
        # Where the advisor has no choice at all, its reader does what the plan says.
        arm = next((choice.name for choice in made.choices if choice.name in cell.effects), "")
        chosen[i] = accuracies[arm][i] if arm else followed[i]
        first = made.choices[0] if made.choices else None
        known = cell.effects.get(first.name) if first else None
        covered.append(bool(first.low <= np.mean(known) <= first.high) if first and known else None)
        advice.append(made)
    got = {ADVISOR: chosen, ACTION: acting.TODAY.follow(held)}
    if whole_rule:
        got[RULE] = followed
    got |= {f"always {arm}": accuracies[arm] for arm in HABITS if arm in accuracies}
    return Judged(held.settings, tuple(advice), best_of(list(accuracies.values())), got, tuple(covered))


def within_noise(best: Floats, got: Floats) -> tuple[Floats, Floats]:
    """Return mean regrets in points, and whether each is within noise of 0 (1 or 0); NaN where not known; (cells,).

    Args:
        best, got: accuracy in percent, (cells, seeds).
    """
    regret = paired(best - got)
    reached = np.where(np.isnan(regret.low), np.nan, (regret.low <= 0).astype(np.float64))
    return regret.mean, reached


def section(records: Sequence[Record]) -> str:
    """Return the evaluation of the advisor as Markdown, without a heading of its own."""
    parts = {part: gather(records, part) for part in TABLE_PARTS}
    everything = {setting: cell for part in parts.values() for setting, cell in cells_of(part).items()}
    texts = []
    for part, gathered in parts.items():
        judged = judge(gathered, everything)
        if judged is not None:
            texts.append(_part(part, judged))
    if not texts:
        return "Not evaluated: the records hold fewer than two data families with `none` and `batch`.\n"
    return "\n".join([_HOW, *texts])


_HOW = f"""\
Every data family is held out once; table, width and shrinkage come from the others. Regret is the accuracy of the best
choice less that of the one taken, in points, paired by seed; the best for a seed is chosen on the other seeds. "Within
noise": the 95 % interval of a cell's regret reaches 0. Target: {TARGET:.0%} of the cells for the advisor.

Not held out: what the usual choice is (`usual_choice`), by how much it is preferred, and the coordinates of the cells.
They were chosen with these records at hand, so figures on new data may be lower. Where the advisor names no choice, its
reader is taken to follow the plan; where the first choice was not run in a cell, the next one that was is judged.
"""


def _part(part: str, judged: Judged) -> str:
    enough = np.array([advice.action != "unknown" for advice in judged.advice])
    rows = [
        "| choice | cells | best or within noise | within 1 point | mean regret | worst regret |",
        "|---|---|---|---|---|---|",
    ]
    for name, got in judged.got.items():
        rows.append(_row(name, judged.best, got))
        if name == ADVISOR and 0 < enough.sum() < len(enough):
            rows.append(_row("the same, where its evidence is enough", judged.best[enough], got[enough]))
    known = [covered for covered in judged.covered if covered is not None]
    _, reached = within_noise(judged.best, judged.got[ADVISOR])
    share = _share(reached)
    beyond = share.low > TARGET or share.high < TARGET
    said = (
        f"The target is {'reached' if share.value >= TARGET else 'missed'}: {_percent(share)}"
        f"{'' if beyond else ', within noise of it'}. {_against(judged)}"
        f'The advisor says "not enough evidence" in {int((~enough).sum())} of {len(enough)} cells. The effect of its '
        f"first choice lies in the interval that it gives, of {COVERED:.0%}, in {sum(known)} of {len(known)} cells."
    )
    return "\n".join(
        [f"Cells of the part `{part}`:\n", *rows, "", said, "", *_by_batch_size(judged), "", *_named(judged), ""]
    )


def _share(reached: Floats) -> Estimate:
    """Return the share of the cells in which something is reached, (cells,) 1, 0 or NaN, with its interval."""
    known = reached[~np.isnan(reached)]
    return Resampling.draw(len(known), 1).mean(known[:, None])


def _percent(share: Estimate) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _against(judged: Judged) -> str:
    """Return what the advisor's first choice gains over the plan's own word, in a sentence."""
    other = RULE if RULE in judged.got else ACTION
    less = Resampling.draw(*judged.best.shape).mean(judged.got[ADVISOR] - judged.got[other])
    verdict = "more than" if less.above else "less than" if less.below else "within noise of"
    return f"The first choice gets {verdict} {other}: {points(less)}. "


def _row(name: str, best: Floats, got: Floats) -> str:
    regret, reached = within_noise(best, got)
    known = ~np.isnan(reached)
    if not known.any():
        return f"| {name} | 0 | | | | |"
    mean = Resampling.draw(*best.shape).mean(best - got)
    return (
        f"| {name} | {int(known.sum())} | {_percent(_share(reached))} | {(regret[known] <= POINT).mean():.0%} | "
        f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f}) | {regret[known].max():.1f} |"
    )


def _by_batch_size(judged: Judged) -> list[str]:
    sizes = np.array([setting.batch_size for setting in judged.settings])
    names = [name for name in (ADVISOR, RULE, ACTION, "always batch") if name in judged.got]
    lines = [f"| batch size | cells | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for size in np.unique(sizes):
        here = sizes == size
        figures = []
        for name in names:
            regret, reached = within_noise(judged.best, judged.got[name])
            known = here & ~np.isnan(reached)
            figures.append(f"{reached[known].mean():.0%}, {regret[known].mean():.2f}" if known.any() else "")
        lines.append(f"| {size} | {int(here.sum())} | {' | '.join(figures)} |")
    return [*lines, "", "(Share that is the best or within noise of it, and mean regret in points.)"]


def _named(judged: Judged) -> list[str]:
    firsts = [advice.choices[0].name if advice.choices else "none named" for advice in judged.advice]
    names, counts = np.unique(firsts, return_counts=True)
    told = ", ".join(f"{names[i]} {counts[i]}" for i in np.argsort(-counts, kind="stable"))
    return [f"First choices by number of cells: {told}."]
