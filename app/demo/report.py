"""The demonstration's report: one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np

from app.demo.plots import plot_accuracy, plot_variant
from app.demo.training import ARMS, EPOCHS, LEARNING_RATE, Outcome
from app.demo.variants import Variant
from assessor import Plan


@dataclass(frozen=True, eq=False)
class Assessed:
    """A variant, its plans, and the share of right decisions where the right one is known."""

    variant: Variant
    plans: Sequence[Plan]
    right: Sequence[tuple[Plan, float]]


def write_report(path: Path, assessed: Sequence[Assessed], outcomes: Sequence[Outcome]) -> Path:
    """Write the report and return its path; aggregates only, no data."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    environment.filters["short"] = lambda number: f"{number:.4g}"
    template = environment.from_string(files("app.demo").joinpath("report.html").read_text(encoding="utf-8"))
    text = template.render(
        assessed=[
            {
                "entry": entry,
                "plot": plot_variant(entry.variant, entry.plans),
                "rows": [_row(plan, {id(p): share for p, share in entry.right}) for plan in entry.plans],
                "needs": [plan for plan in entry.plans if plan.decomposition is not None],
            }
            for entry in assessed
        ],
        accuracy=plot_accuracy(outcomes),
        arms=ARMS,
        learning_rate=LEARNING_RATE,
        epochs=EPOCHS,
        seeds=len({outcome.cell.seed for outcome in outcomes}),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _row(plan: Plan, right: dict[int, float]) -> dict[str, object]:
    quartiles = np.nanquantile(plan.scores, [0.25, 0.5, 0.75])
    return {
        "plan": plan,
        "flagged": int(plan.normalize.sum()),
        "cutoff": float(np.median(plan.cutoffs)),
        "quartiles": " / ".join(f"{value:.3g}" for value in quartiles),
        "right": right.get(id(plan)),
    }
