"""docs/evidence.md and its plots, written from the records."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study import advising, cutoffs, defaults, following, mixing, outcomes, predicting
from benchmarks.study.cells import FACTORS
from benchmarks.study.claims import document as claims
from benchmarks.study.defaults import RECOMMENDED
from benchmarks.study.gathered import Gathered, gather
from benchmarks.study.intervals import LEVEL, RESAMPLES
from benchmarks.study.parts import possible
from benchmarks.study.plots import png
from benchmarks.study.records import Record, Result
from benchmarks.study.wording import Section, listed

TITLES = (
    "1. Which measure predicts where normalization helps?",
    "2. Which cutoff, and which treatment of vanishing variances?",
    "3. Does following the plan help?",
    "4. Mixed sources",
)
CLAIMS = "5. The papers' claims"


def write(results: list[Record], folder: Path, *, quick: bool) -> None:
    """Write evidence.md and the plots that it shows.

    Args:
        results: of any parts; what was not run is said to be.
        folder: of evidence.md; the plots go to its folder evidence/, where older plots are deleted.
        quick: of a run that only tries the path: the document says that its figures show nothing.
    """
    grid, sources = gather(results, "grid"), gather(results, "sources")
    sections = [
        predicting.section(grid),
        cutoffs.section(grid),
        following.section(grid),
        mixing.section(sources),
    ]
    other = outcomes.section(grid)
    tested = any(isinstance(record, Result) and record.setting.part == "claims" for record in results)
    lines = [
        "# Evidence",
        "",
        *_opening(grid, sources, sections, other, claims.summary(results) if tested else "", quick=quick),
        *_method(grid, sources),
    ]
    for title, section in zip(TITLES, sections, strict=True):
        lines += [f"## {title}", "", *(section.lines if section else ["Not run yet.", ""])]
    lines += [f"## {CLAIMS}", "", *([claims.section(results)] if tested else ["Not run yet.", ""])]
    lines += ["## All arms", "", *(other.lines if other else ["Not run yet.", ""])]
    lines += ["## What follows for the defaults", "", *defaults.lines(grid, sources)]
    lines += ["## The advisor", "", advising.section(results) if len(grid) else "Not run yet.", ""]
    plots = folder / "evidence"
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.png"):
        old.unlink()
    for section in (*sections, other):
        for name, (figure, _) in (section.plots if section else {}).items():
            (plots / f"{name}.png").write_bytes(png(figure))
    if tested:
        (plots / f"{claims.PLOT}.png").write_bytes(png(claims.plot(results)))
    (folder / "evidence.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _opening(
    grid: Gathered,
    sources: Gathered,
    sections: Sequence[Section | None],
    other: Section | None,
    verdicts: str,
    *,
    quick: bool,
) -> list[str]:
    lines = [
        "Does it pay to follow a plan, and which norm should one take? Written by `python -m benchmarks.study`, "
        "words included: every number and every verdict is computed from the records in benchmarks/study/results/, "
        "and no line is edited by hand. In brackets: 95 % intervals. Differences of accuracies are in points "
        "(percent of the test set).",
        "",
    ]
    if quick:
        lines += [
            "**A quick run: few cells, seeds and steps, to try the whole path. Its figures and verdicts show "
            "nothing.**",
            "",
        ]
    questions = [
        "What predicts where batch norm helps?",
        "Which cutoff?",
        "Does following the plan help?",
        "Mixed sources?",
    ]
    lines += ["## In short", ""]
    for i, (question, section) in enumerate(zip(questions, sections, strict=True), 1):
        answer = section.answer if section else "not run yet."
        if i == 3 and other:
            answer = f"{answer}\n{other.answer}"
        lines += _point(i, question, answer)
    lines += _point(5, "The papers' claims?", verdicts or "not run yet.")
    found = defaults.choices(grid, sources)
    changes = [f"{c.name} ({c.where}), {c.verdict}" for c in found if c.verdict.startswith("change")]
    verdict = (
        f"{len(changes)} of {len(found)} comparisons call for a change: {'; '.join(changes)}."
        if changes
        else (f"none of {len(found)} comparisons calls for a change." if found else "not run yet.")
    )
    verdict += "".join(f"\nWhat a plan recommends, all in all: {c.verdict}." for c in found if c.name == RECOMMENDED)
    return [*lines, *_point(6, "The defaults?", verdict), ""]


def _point(number: int, question: str, answer: str) -> list[str]:
    """Return a point of the list, the answer's further lines as points below it."""
    first, *rest = answer.split("\n")
    return [f"{number}. **{question}** {first}", *(f"   - {line}" for line in rest)]


def _method(grid: Gathered, sources: Gathered) -> list[str]:
    """Return how it was measured, with the counts of what there is."""
    lines = ["## How it was measured", ""]
    for name, part in (("Grid (questions 1 to 3)", grid), ("Sources (question 4)", sources)):
        if not len(part):
            continue
        runs = sum(len(r.runs) for (setting, _), r in part.results.items())
        lines.append(
            f"- {name}: {len(part)} cells, {len(part.arms)} arms, seeds {listed([str(s) for s in part.seeds])}, "
            f"{runs:,} runs. Families: {_levels(part, 'family')}. Networks: {_levels(part, 'network')}. Batch sizes: "
            f"{listed([str(b) for b in sorted(set(part.batch_sizes.tolist()))])}. Optimizers: "
            f"{_levels(part, 'optimizer')}. Steps: {_levels(part, 'steps')}."
        )
    for name, part in (("grid", grid), ("sources", sources)):
        if len(part):
            lines.append(
                f"- The cells of {name} are a choice out of {possible(name):,} that the levels allow, by a rule that "
                "sees no result: one after the other, each time the cell whose levels, alone and in pairs, had been "
                f"taken least often. Cells a level: {'; '.join(_spread(part, factor) for factor in FACTORS)}."
            )
    return [
        *lines,
        "- A cell is data (a family under a treatment), a network, a batch size and an optimizer. All arms of a "
        "cell have the same splits, batches, order, initial weights and number of steps. Each arm's learning rate "
        "is climbed to on validation data by one rule (ratio of the square root of 10, from 0.03 for SGD and 0.003 "
        "for Adam, until a maximum inside or seven rates), on a seed that is not reported. A run that diverges "
        "stops there and is tested as it is.",
        f"- Intervals are percentile bootstraps of {RESAMPLES:,} draws at {100 * LEVEL:g} %: cells with replacement, "
        "and within each drawn cell its seeds with replacement. Cells of one dataset share its rows, which these draws "
        "do not know: the main differences are told with datasets drawn first as well, and cutoffs, curves and rules "
        "are chosen leaving a dataset out (digits and their rows are one dataset), with the range over those left out "
        "given. One cell's interval is from its paired seeds, its variance shrunk toward that of all cells "
        "(moderated t).",
        "- The cells are small: a few hundred to a thousand training rows, small networks, few steps. They say "
        "which way an effect points and about how large it is there, not what a large network on much data would "
        "do.",
        "",
    ]


def _spread(part: Gathered, factor: str) -> str:
    """Return how many cells each level of a factor has, one by one where there are few levels."""
    counts = Counter(str(level) for level in part.labels(factor))
    name = factor.replace("_", " ")
    if len(counts) > 6:
        return f"{name} {min(counts.values())} to {max(counts.values())}"
    order = sorted(counts, key=lambda level: (len(level), level))
    return f"{name} {', '.join(f'{level}: {counts[level]}' for level in order)}"


def _levels(part: Gathered, name: str) -> str:
    return listed(sorted(set(part.labels(name).tolist()), key=lambda level: (len(level), level)))
