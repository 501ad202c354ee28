"""The advice of a plan: its ranked choices as a table's rows and as a plot with intervals."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from app.report.drawing import CUTOFF, NORMALIZE, SKIP, new_figure, set_title, tidy, to_svg
from app.tables import listed_choices
from assessor import Choice, Plan
from assessor.advice import INTERVALS, RANKING, in_points


def advice_of(plan: Plan, *, name: str) -> dict[str, Any] | None:
    """Return the choices with their ranks, how they are ranked, and their plot; None without advice; in `drawing()`.

    Args:
        plan: any.
        name: of letters and digits, unique within the page.
    """
    if plan.advice is None:
        return None
    choices = listed_choices(plan.advice)
    if not choices:
        return {"choices": [], "plot": None, "ranking": ""}
    shown = [choice for _, choice in choices]
    figure, axes = new_figure(width=7.0, height=1.1 + 0.27 * len(shown))
    draw_choices(axes, shown)
    ranking = f"{RANKING}; {INTERVALS}"
    return {"choices": choices, "plot": to_svg(figure, describe_choices(shown), name=name), "ranking": ranking}


def describe_choices(choices: Sequence[Choice]) -> str:
    """Return the plot in words."""
    return "expected points over doing nothing: " + "; ".join(
        f"{choice.name:.80} {in_points(choice.effect)} ({in_points(choice.low)} to {in_points(choice.high)})"
        for choice in choices
    )


def draw_choices(axes: Axes, choices: Sequence[Choice]) -> None:
    """Draw each choice as a point with its interval, the best on top."""
    axes.axvline(0, color=CUTOFF, linewidth=0.8)
    for place, choice in enumerate(reversed(choices)):
        colour = SKIP if choice.effect >= 0 else NORMALIZE
        axes.plot([100 * choice.low, 100 * choice.high], [place, place], color=colour, linewidth=2)
        axes.plot([100 * choice.effect], [place], marker="o", markersize=6, color=colour)
    axes.set_yticks(range(len(choices)), [choice.name[:40] for choice in reversed(choices)])
    axes.set_ylim(-0.6, len(choices) - 0.4)
    axes.set_xlabel("points of test accuracy over doing nothing")
    set_title(axes, "what to expect of each choice")
    tidy(axes)
