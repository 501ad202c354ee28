"""Writes the claims' section of docs/evidence.md: a verdict on each claim, with its figures beside the paper's."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from benchmarks.study.claims.catalogue import CLAIMS
from benchmarks.study.claims.half import KINDS, usable_range
from benchmarks.study.claims.statements import (
    ALIKE,
    GAIN,
    LEAST_SEEDS,
    LEVEL,
    REPRODUCED,
    UNDECIDED,
    Claim,
    Interval,
    Statement,
    Verdict,
    interval,
    judge,
    together,
)
from benchmarks.study.intervals import Estimate
from benchmarks.study.plots import draw_claims
from benchmarks.study.records import Record, Result

Results = Mapping[tuple[str, str], Result]
"""By the cell's key and the arm's name."""

HEADING = """Each claim of a paper is written as comparisons of two arms at small scale. Every arm's learning rate is
tuned by the study's rule on a seed of its own; both arms of a pair see the same data, split, batches and seeds. A
difference d is taken seed by seed; its {level:.0f} % interval is the expanded percentile bootstrap over seeds
(Hesterberg, arXiv 1411.5279). Verdicts are computed:

- "A above B" is reproduced where the interval of d = A - B is above 0, not reproduced where it excludes a gain of
  {gain:.0f} point, else undecided at this scale.
- "A about as B" is reproduced where the interval is within {alike:.0f} points of 0, not reproduced where all of it is
  further away, else undecided.
- A claim has the least favourable verdict of its comparisons; fewer than {seeds} seeds decide nothing.

"Not reproduced" says that the effect was not there in these small networks on this data, not that a paper is wrong
about its own."""


PLOT = "claims"
"""Name of the plot's file."""


def section(results: Sequence[Record]) -> str:
    """Return the claims' section as Markdown without a title: the rule, a table of verdicts, and a table a claim.

    Args:
        results: records of any parts; those of the part "claims" are used, the last of each cell and arm.
    """
    found = found_in(results)
    heading = HEADING.format(level=100 * LEVEL, gain=100 * GAIN, alike=100 * ALIKE, seeds=LEAST_SEEDS)
    verdicts = [(claim.title, claim.source, verdict_of(claim, found), _held(claim, found)) for claim in CLAIMS]
    told = _table(("claim", "source", "verdict", "comparisons reproduced"), verdicts)
    shown = f"![Differences behind the claims](evidence/{PLOT}.png)"
    return "\n\n".join([heading, told, shown, *(_claim(claim, found) for claim in CLAIMS), _ranges()]) + "\n"


def found_in(results: Sequence[Record]) -> Results:
    """Return the results of the part "claims", the last of each cell and arm."""
    return {
        (result.setting.claim, result.arm): result
        for result in results
        if isinstance(result, Result) and result.setting.part == "claims"
    }


def summary(results: Sequence[Record]) -> str:
    """Return how many claims and comparisons have which verdict; after a line break, which claims."""
    found = found_in(results)
    verdicts: dict[str, list[str]] = {}
    for claim in CLAIMS:
        verdicts.setdefault(verdict_of(claim, found), []).append(f"{claim.title}{_in_part(claim, found)}")
    compared = [_verdict(statement, found) for claim in CLAIMS for statement in claim.statements]
    claims = "; ".join(f"{verdict}: {len(titles)}" for verdict, titles in _by_size(verdicts))
    single = "; ".join(f"{verdict}: {count}" for verdict, count in Counter(compared).most_common())
    return "\n".join(
        [
            f"Of {len(CLAIMS)} claims of the papers, {claims}. A claim has the verdict of its least favourable "
            f"comparison; of the {len(compared)} comparisons, {single}.",
            *(f"{verdict[0].upper()}{verdict[1:]}: {'; '.join(titles)}." for verdict, titles in _by_size(verdicts)),
        ]
    )


def _by_size(verdicts: Mapping[str, list[str]]) -> list[tuple[str, list[str]]]:
    return sorted(verdicts.items(), key=lambda pair: -len(pair[1]))


def _held(claim: Claim, results: Results) -> str:
    """Return how many of a claim's comparisons are reproduced."""
    held = sum(_verdict(statement, results) == REPRODUCED for statement in claim.statements)
    return f"{held} of {len(claim.statements)}" if claim.statements else "-"


def _in_part(claim: Claim, results: Results) -> str:
    held = _held(claim, results)
    return "" if held == "-" or held.startswith("0 ") else f" ({held} comparisons reproduced)"


def plot(results: Sequence[Record]) -> Figure:
    """Return the differences behind all claims with their intervals, in the order of the claims."""
    found, rows = found_in(results), []
    nothing = Estimate(math.nan, math.nan, math.nan)
    for claim in CLAIMS:
        told = [
            (_label(statement), _difference(statement, found), _verdict(statement, found))
            for statement in claim.statements
            if _pairs(statement, found)
        ]
        if told:
            rows += [(claim.title, nothing, UNDECIDED), *told]
    return draw_claims(rows, 100 * ALIKE)


def _label(statement: Statement) -> str:
    sign = ">" if statement.relation == "above" else "="
    cell = f" [{statement.cell}]" if statement.cell.startswith(("batch group", "published", "selu", "ghost")) else ""
    return f"{_name(statement.first).rstrip(',')} {sign} {_name(statement.second).rstrip(',')}{cell}"


def _difference(statement: Statement, results: Results) -> Estimate:
    differences = [a - b for a, b in _pairs(statement, results)]
    if len(differences) < 2:
        return Estimate(100 * differences[0], math.nan, math.nan)
    found = interval(differences)
    return Estimate(100 * found.mean, 100 * found.low, 100 * found.high)


def verdict_of(claim: Claim, results: Results) -> Verdict:
    """Return the verdict on a claim; a comparison that has not been run is undecided."""
    return together([_verdict(statement, results) for statement in claim.statements])


def _verdict(statement: Statement, results: Results) -> Verdict:
    pairs = _pairs(statement, results)
    return judge([a - b for a, b in pairs], statement.relation) if pairs else UNDECIDED


def _claim(claim: Claim, results: Results) -> str:
    lines = [f"### {claim.title}", f"{claim.source}: {claim.says}", f"Here: {claim.tested}"]
    for key in dict.fromkeys(statement.cell for statement in claim.statements):
        lines.append(_settings(key, results))
    if claim.statements:
        header = ("comparison", "cell", "paper", "here", "difference, points", "verdict")
        lines.append(_table(header, [_row(statement, results) for statement in claim.statements]))
    return "\n\n".join(lines)


def _row(statement: Statement, results: Results) -> tuple[str, ...]:
    word = "above" if statement.relation == "above" else "about as"
    compared = f"{_name(statement.first)} {word} {_name(statement.second)}"
    paper = " / ".join(statement.paper) or "no figure"
    pairs = _pairs(statement, results)
    if not pairs:
        return compared, statement.cell, paper, "not run", "", UNDECIDED
    here = " / ".join(f"{sum(side) / len(side):.3f}".removeprefix("0") for side in zip(*pairs, strict=True))
    differences = [a - b for a, b in pairs]
    difference = _points(interval(differences)) if len(pairs) > 1 else f"{100 * differences[0]:+.1f}"
    return compared, statement.cell, paper, here, difference, judge(differences, statement.relation)


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _name(side: str) -> str:
    arm, _, evaluation = side.partition("@")
    return f"{arm}, {evaluation}," if evaluation else arm


def _pairs(statement: Statement, results: Results) -> list[tuple[float, float]]:
    """Return the accuracies of both sides, a pair a seed that both have."""
    first, second = (_accuracies(statement.cell, side, results) for side in (statement.first, statement.second))
    return [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def _accuracies(cell: str, side: str, results: Results) -> dict[int, float]:
    arm, _, evaluation = side.partition("@")
    result = results.get((cell, arm))
    runs = () if result is None else result.runs
    return {run.seed: run.accuracy[evaluation] for run in runs if evaluation in run.accuracy}


def _settings(key: str, results: Results) -> str:
    """Return a line on a cell: data, network, batches, budget, and every arm's learning rate and divergences."""
    of_cell = [result for (cell, _), result in results.items() if cell == key]
    if not of_cell:
        return f"`{key}`: not run."
    s, seeds = of_cell[0].setting, len(of_cell[0].runs)
    rates = ", ".join(f"{result.arm} {result.rate:.2g}{_notes(result)}" for result in of_cell)
    seconds = sum(run.seconds for result in of_cell for run in result.runs)
    return (
        f"`{key}`: {s.family} {s.treatment}, {s.network}, batches of {s.batch_size}, {s.steps} steps of {s.optimizer}, "
        f"{seeds} seeds, {seconds:.0f} s of training after tuning. Learning rates: {rates}."
    )


def _notes(result: Result) -> str:
    """Return what is to be said of an arm's runs: how many diverged, how much was normalized where not all was."""
    diverged = sum(run.diverged for run in result.runs)
    normalized = sum(run.normalized for run in result.runs) / max(1, len(result.runs))
    notes = [f"{diverged} of {len(result.runs)} diverged"] if diverged else []
    notes += [f"{100 * normalized:.0f} % of its batches normalized"] if normalized < 1 else []
    return f" ({', '.join(notes)})" if notes else ""


def _ranges() -> str:
    """Return the range of standard deviations that each batch norm stands in each dtype."""
    rows = [(kind, *(_range(*usable_range(kind, dtype)) for dtype in _DTYPES)) for kind in KINDS]
    text = (
        "### Range of batch norms in half precision\n\nStandard deviations over which normal data, 2,048 values a "
        "channel, come out as they do at 1, to 10 %, every step of the forward pass rounded (computed when this page "
        "is written; no training). The lower end is eps = 1e-5, which is added to the variance in `batch` and to the "
        "scale in the others, more than it is the dtype; the upper end is where squares, or sums, overflow."
    )
    return f"{text}\n\n" + _table(("norm", *(str(dtype).removeprefix("torch.") for dtype in _DTYPES)), rows)


_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _range(low: int, high: int) -> str:
    return f"2^{low} to 2^{high}" + (" and more" if high == 40 else "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
