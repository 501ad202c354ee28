"""The report as one HTML file: no scripts, nothing loaded from anywhere, aggregates only."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from app.report.advice import advice_of
from app.report.blind_spots import blind_spots
from app.report.drawing import drawing, new_figure, to_svg
from app.report.features import MIN_ROWS, position_images, rank_features
from app.report.images import describe_images, draw_images, figure_height
from app.report.overview import (
    PART_TEXTS,
    by_method,
    decomposed,
    describe_parts,
    describe_shares,
    draw_parts,
    draw_shares,
)
from app.report.scores import describe_scores, draw_histogram, draw_scores
from app.tables import score_quartiles, typical_decisions
from assessor import Plan, Profile
from assessor.advice import in_points

MAX_BYTES = 1_000_000
MAX_DETAILED = 12
"""Plans that are drawn; the table has MAX_LISTED."""
MAX_LISTED = 200
_LONGEST_TEXT = 1_000
ACTIONS = {
    "nothing": "nothing to do",
    "scale": "scale the whole dataset once",
    "standardize": "standardize each feature once",
    "normalize": "normalize the flagged batches",
    "unknown": "not enough evidence",
}


def render_report(plans: Sequence[Plan], *, profile: Profile | None = None, title: str = "dataset") -> str:
    """Return the report as HTML of at most MAX_BYTES, whatever the number of batches, features and plans.

    Args:
        plans: one or more, of one dataset; the first of a batch size with a decomposition is drawn with it.
        profile: of the dataset; None leaves out what is known of its features.
        title: the dataset's name.

    Raises:
        ValueError: no plan.
    """
    if not plans:
        raise ValueError("expected at least one plan for a report; got none")
    with drawing():
        for n_detailed in (MAX_DETAILED, 4, 1, 0):
            page = _render(plans, profile, title, n_detailed)
            if len(page.encode()) <= MAX_BYTES:
                break
    return page


def make_environment() -> jinja2.Environment:
    """Return the environment of the templates in this folder, which the demonstration's report includes from."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("app.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    environment.filters["short"] = lambda number: f"{number:.4g}"
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["points"] = in_points
    environment.filters["clip"] = lambda text: text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "..."
    return environment


def table_rows(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Return the table of plans: a row a plan."""
    return [
        {
            "plan": plan,
            "flagged": int(plan.normalize.sum()),
            "cutoff": float(np.median(plan.cutoffs)),
            "quartiles": score_quartiles(plan),
            "action": ACTIONS.get(plan.action, plan.action),
        }
        for plan in plans
    ]


def plan_plots(plan: Plan, *, name: str) -> tuple[Markup, Markup]:
    """Return a plan's histogram and its scores along the batches; call it within `drawing()`.

    Args:
        name: of letters and digits, unique within the page.
    """
    said = f"{plan.method}, batch size {plan.batch_size}: {describe_scores(plan)}"
    figure, axes = new_figure()
    draw_histogram(axes, plan)
    histogram = to_svg(figure, f"histogram of scores; {said}", name=f"{name}h")
    figure, axes = new_figure()
    draw_scores(axes, plan)
    return histogram, to_svg(figure, f"scores along the batches; {said}", name=f"{name}s")


def _render(plans: Sequence[Plan], profile: Profile | None, title: str, n_detailed: int) -> str:
    listed = plans[:MAX_LISTED]
    parts = decomposed(plans)
    return (
        make_environment()
        .get_template("report.html")
        .render(
            title=title,
            profile=profile,
            n_rows=plans[0].n_rows,
            verdicts=[(name, _verdict(group)) for name, group in by_method(listed).items()],
            rows=table_rows(listed),
            thresholds_differ=len({(plan.method, plan.batch_size) for plan in listed}) < len(listed),
            n_left_out=len(plans) - len(listed),
            shares=_shares(listed),
            parts=_parts(parts[:16]),
            part_texts=PART_TEXTS,
            ranking=None if profile is None else rank_features(profile),
            min_rows=MIN_ROWS,
            images=None if profile is None else _images(profile),
            details=[
                {
                    "plan": plan,
                    "plots": plan_plots(plan, name=f"p{i}"),
                    "decisions": typical_decisions(plan),
                    "advice": advice_of(plan, name=f"a{i}"),
                }
                for i, plan in enumerate(plans[:n_detailed])
            ],
            n_not_drawn=len(plans) - min(n_detailed, len(plans)),
            blind_spots=blind_spots(plans),
            version=version("normgauge"),
        )
    )


def _verdict(group: Sequence[Plan]) -> str:
    """Return what plans of one method advise, by batch size."""
    by_action: dict[str, list[int]] = {}
    for plan in group:
        by_action.setdefault(plan.action, []).append(plan.batch_size)
    texts = [
        f"{ACTIONS.get(action, action)} at batch size {', '.join(map(str, sizes))}"
        for action, sizes in by_action.items()
    ]
    if len(texts) == 1 and len(group) > 1:
        return f"{ACTIONS.get(group[0].action, group[0].action)} at every batch size assessed"
    return "; ".join(texts)


def _shares(plans: Sequence[Plan]) -> Markup | None:
    if len({plan.batch_size for plan in plans}) < 2:
        return None
    figure, axes = new_figure()
    draw_shares(axes, plans)
    return to_svg(figure, describe_shares(plans), name="shares")


def _parts(plans: Sequence[Plan]) -> Markup | None:
    if not plans:
        return None
    figure, axes = new_figure(height=min(1.7 + 0.3 * len(plans), 6))
    draw_parts(axes, plans)
    return to_svg(figure, describe_parts(plans), name="parts")


def _images(profile: Profile) -> Markup | None:
    planes = position_images(profile)
    if planes is None:
        return None
    width = 7.0
    figure = Figure(figsize=(width, figure_height(planes, width)), layout="constrained")
    draw_images(figure, planes)
    return to_svg(figure, describe_images(planes), name="images")
