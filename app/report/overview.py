"""Several plans of one dataset beside each other: flagged shares by batch size, and what the need is made of."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from app.report.drawing import PALETTE, PART_COLOURS, set_title, tidy
from assessor import Plan

PART_TEXTS = {
    "global": "one shift and scale for the whole dataset removes it",
    "feature": "features are unlike each other; standardizing each feature once removes it",
    "drift": "batches are unlike each other; only normalizing batch by batch removes it",
    "noise": "what batch statistics of so few samples would add: the price of normalizing",
}

MAX_LINES = len(PALETTE)


def describe_shares(plans: Sequence[Plan]) -> str:
    """Return the flagged shares in words."""
    return "flagged share: " + "; ".join(
        f"{name} {', '.join(f'{plan.flagged_fraction:.1%} at {plan.batch_size}' for plan in group)}"
        for name, group in list(by_method(plans).items())[:MAX_LINES]
    )


def draw_shares(axes: Axes, plans: Sequence[Plan]) -> None:
    """Draw the share of flagged batches by batch size, a line a method."""
    sizes = sorted({plan.batch_size for plan in plans})
    groups = list(by_method(plans).items())
    for number, (name, group) in enumerate(groups[:MAX_LINES]):
        ordered = sorted(group, key=lambda plan: plan.batch_size)
        axes.plot(
            [sizes.index(plan.batch_size) for plan in ordered],
            [100 * plan.flagged_fraction for plan in ordered],
            marker="osD^v<"[number],
            markersize=6,
            color=PALETTE[number],
            label=name,
            clip_on=False,
        )
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.3, len(sizes) - 0.7)
    axes.set_ylim(0, 100)
    axes.set_xlabel("batch size")
    axes.set_ylabel("batches flagged, %")
    axes.legend(fontsize=8, frameon=False)
    more = f" (the first {MAX_LINES} methods)" if len(groups) > MAX_LINES else ""
    set_title(axes, f"flagged share by batch size{more}")
    tidy(axes)


def describe_parts(plans: Sequence[Plan]) -> str:
    """Return the decompositions in words."""
    return "mean score in nats: " + "; ".join(
        f"batch size {plan.batch_size}: "
        + ", ".join(f"{name} {plan.decomposition[name]:.4g}" for name in PART_TEXTS if plan.decomposition is not None)
        for plan in plans
    )


def draw_parts(axes: Axes, plans: Sequence[Plan]) -> None:
    """Draw the decomposition of each plan that has one as a bar; parts below 0 stand left of the axis."""
    height = 0.62
    for place, plan in enumerate(reversed(plans)):
        assert plan.decomposition is not None
        right = left = 0.0
        for name, colour in PART_COLOURS.items():
            value = plan.decomposition[name]
            start = right if value >= 0 else left
            label = name if place == 0 else None
            axes.barh(place, value, height, left=start, color=colour, edgecolor="none", label=label)
            right, left = (right + value, left) if value >= 0 else (right, left + value)
        score = sum(plan.decomposition[name] for name in ("global", "feature", "drift"))
        axes.plot([score, score], [place - height / 2, place + height / 2], color="#202122", linewidth=1.5)
    axes.axvline(0, color="#202122", linewidth=0.8)
    axes.set_yticks(range(len(plans)), [f"B = {plan.batch_size}" for plan in reversed(plans)])
    axes.set_xlabel("nats; the line across is the mean score")
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.08))
    set_title(axes, "what the need is made of")
    tidy(axes)


def decomposed(plans: Sequence[Plan]) -> list[Plan]:
    """Return the plans with a decomposition, one a batch size, ascending."""
    found: dict[int, Plan] = {}
    for plan in plans:
        if plan.decomposition is not None:
            found.setdefault(plan.batch_size, plan)
    return [found[size] for size in sorted(found)]


def by_method(plans: Sequence[Plan]) -> dict[str, list[Plan]]:
    """Return the plans by method, or by method and threshold where a method has several."""
    several = len({(plan.method, plan.batch_size) for plan in plans}) < len(plans)
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(f"{plan.method}, {plan.threshold}" if several else plan.method, []).append(plan)
    return groups
