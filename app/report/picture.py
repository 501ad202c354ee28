"""The report's plots as one PNG picture."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from app.report.drawing import drawing, to_png
from app.report.features import position_images
from app.report.images import draw_images, figure_height
from app.report.overview import decomposed, draw_parts, draw_shares
from app.report.scores import draw_histogram, draw_scores
from assessor import Plan, Profile

WIDTH = 11.0
MAX_DRAWN = 6
"""Plans whose scores are drawn."""
_PANEL = 2.9


def draw_report(plans: Sequence[Plan], *, profile: Profile | None = None, title: str = "dataset") -> bytes:
    """Return a PNG file of the plots of `render_report`; the first MAX_DRAWN plans are drawn.

    Raises:
        ValueError: no plan.
    """
    if not plans:
        raise ValueError("expected at least one plan for a report; got none")
    parts = decomposed(plans)[:16]
    planes = None if profile is None else position_images(profile)
    drawn = plans[:MAX_DRAWN]
    heights = [_PANEL, *[_PANEL + 0.3] * len(drawn)]
    if planes is not None:
        heights.append(min(figure_height(planes, WIDTH), 3.6 * len(planes)))
    with drawing():
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.4), layout="constrained")
        figure.suptitle(f"normgauge: {title:.80}, {plans[0].n_rows:,} rows", x=0.01, ha="left", fontsize=13)
        strips = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        left, right = strips[0].subplots(1, 2)
        draw_shares(left, plans)
        if parts:
            draw_parts(right, parts)
        else:
            right.axis("off")
        for strip, plan in zip(strips[1:], drawn, strict=False):
            strip.suptitle(
                f"{plan.method}, batch size {plan.batch_size}: {plan.flagged_fraction:.1%} of {len(plan):,} batches",
                x=0.01,
                ha="left",
                fontsize=11,
            )
            histogram, along = strip.subplots(1, 2)
            draw_histogram(histogram, plan)
            draw_scores(along, plan)
        if planes is not None:
            draw_images(strips[-1], planes)
        return to_png(figure)
