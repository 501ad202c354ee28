"""docs/evidence.md and its plots, written from the records."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study import advising, cutoffs, defaults, mixing, outcomes, predicting, regret
from benchmarks.study.claims import document as claims
from benchmarks.study.claims.catalogue import CLAIMS as ALL_CLAIMS
from benchmarks.study.gathered import Gathered, gather
from benchmarks.study.intervals import LEVEL, RESAMPLES
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
        regret.section(grid),
        mixing.section(sources),
    ]
    other = outcomes.section(grid)
    tested = any(isinstance(record, Result) and record.setting.part == "claims" for record in results)
    lines = [
        "# Evidence",
        "",
        *_opening(grid, sources, sections, other, _verdicts(results) if tested else "", quick=quick),
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
    (folder / "evidence.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _verdicts(results: Sequence[Record]) -> str:
    """Return how many of the papers' claims have which verdict, in a sentence."""
    found = {
        (result.setting.claim, result.arm): result
        for result in results
        if isinstance(result, Result) and result.setting.part == "claims"
    }
    verdicts: dict[str, list[str]] = {}
    for claim in ALL_CLAIMS:
        verdicts.setdefault(claims.verdict_of(claim, found), []).append(claim.title)
    counts = Counter({verdict: len(titles) for verdict, titles in verdicts.items()})
    return (
        f"Of {len(ALL_CLAIMS)} claims of the papers: "
        + "; ".join(
            f"{verdict}: {count}" + (f" ({listed(verdicts[verdict])})" if verdict.endswith("reproduced") else "")
            for verdict, count in counts.most_common()
        )
        + "."
    )


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
            answer = f"{answer} {other.answer}"
        lines.append(f"{i}. **{question}** {answer}")
    lines += [f"5. **The papers' claims?** {verdicts or 'not run yet.'}"]
    found = defaults.choices(grid, sources)
    changes = [f"{c.name} ({c.where}), {c.verdict}" for c in found if c.verdict.startswith("change")]
    verdict = (
        f"{len(changes)} of {len(found)} comparisons call for a change: {'; '.join(changes)}."
        if changes
        else (f"none of {len(found)} comparisons calls for a change." if found else "not run yet.")
    )
    return [*lines, f"6. **The defaults?** {verdict}", ""]


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
    return [
        *lines,
        "- A cell is data (a family under a treatment), a network, a batch size and an optimizer. All arms of a "
        "cell have the same splits, batches, order, initial weights and number of steps. Each arm's learning rate "
        "is climbed to on validation data by one rule (ratio of the square root of 10, from 0.03 for SGD and 0.003 "
        "for Adam, until a maximum inside or seven rates), on a seed that is not reported. A run that diverges "
        "stops there and is tested as it is.",
        f"- Intervals are percentile bootstraps of {RESAMPLES:,} draws at {100 * LEVEL:g} %: cells with replacement, "
        "and within each drawn cell its seeds with replacement. Cells of one family share data, which the draws do "
        "not know; so cutoffs and curves are chosen leaving a family out, and the range over families left out is "
        "given. One cell's interval is from its paired seeds, its variance shrunk toward that of all cells "
        "(moderated t).",
        "- The cells are small: a few hundred to a thousand training rows, small networks, few steps. They say "
        "which way an effect points and about how large it is there, not what a large network on much data would "
        "do.",
        "",
    ]


def _levels(part: Gathered, name: str) -> str:
    return listed(sorted(set(part.labels(name).tolist()), key=lambda level: (len(level), level)))
