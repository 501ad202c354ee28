"""The demonstration's report: one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Template

from app.demo.plots import plot_accuracy
from app.demo.training import ARMS, EPOCHS, LEARNING_RATE, Outcome
from app.demo.variants import Variant
from app.files import write_file
from app.report.blind_spots import blind_spots
from app.report.drawing import drawing
from app.report.page import make_environment, plan_plots, table_rows
from assessor import Plan


@dataclass(frozen=True, eq=False)
class Assessed:
    """A variant, its plans, and the share of right decisions where the right one is known."""

    variant: Variant
    plans: Sequence[Plan]
    right: Sequence[tuple[Plan, float]]


def write_report(path: Path, assessed: Sequence[Assessed], outcomes: Sequence[Outcome]) -> Path:
    """Write the report and return its path; aggregates only, no data."""
    template = make_environment().from_string(files("app.demo").joinpath("report.html").read_text(encoding="utf-8"))
    with drawing():
        text = _render(template, assessed, outcomes)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_file(path, text.encode())


def _render(template: Template, assessed: Sequence[Assessed], outcomes: Sequence[Outcome]) -> str:
    return template.render(
        assessed=[_item(number, entry) for number, entry in enumerate(assessed)],
        blind_spots=blind_spots([plan for entry in assessed for plan in entry.plans]),
        accuracy=plot_accuracy(outcomes),
        arms=ARMS,
        learning_rate=LEARNING_RATE,
        epochs=EPOCHS,
        seeds=len({outcome.cell.seed for outcome in outcomes}),
    )


def _item(number: int, entry: Assessed) -> dict[str, Any]:
    right = {id(plan): share for plan, share in entry.right}
    return {
        "entry": entry,
        "rows": [row | {"right": right.get(id(row["plan"]))} for row in table_rows(entry.plans)],
        "needs": [plan for plan in entry.plans if plan.decomposition is not None],
        "plots": [(plan, plan_plots(plan, name=f"v{number}p{i}")) for i, plan in enumerate(entry.plans)],
    }
