"""Images of the mean and the standard deviation at each position of a sample."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure, SubFigure

from app.report.drawing import set_title
from assessor.moments import Floats

Planes = Sequence[tuple[str, Floats, Floats]]


def figure_height(planes: Planes, width: float) -> float:
    """Return the height in inches that suits the planes side by side."""
    rows, columns = planes[0][1].shape
    panel = width / 2 - 0.8
    return float(len(planes) * (min(max(panel * rows / columns, 0.7), 2 * panel) + 0.45))


def draw_images(figure: Figure | SubFigure, planes: Planes) -> None:
    """Draw mean and standard deviation by position, a row a channel."""
    axes = figure.subplots(len(planes), 2, squeeze=False)
    rows, columns = planes[0][1].shape
    aspect: Literal["equal", "auto"] = "equal" if 1 / 4 <= rows / columns <= 4 else "auto"
    for row, (name, mean, std) in zip(axes, planes, strict=True):
        for panel, values, title in zip(row, (mean, std), ("mean", "standard deviation"), strict=True):
            # A colour scale that reads alike for all eyes, in grey too.
            picture = panel.imshow(values, cmap="cividis", interpolation="nearest", aspect=aspect)
            bar = figure.colorbar(picture, ax=panel, fraction=0.05, pad=0.03)
            bar.ax.tick_params(labelsize=8)
            panel.set_xticks([])
            panel.set_yticks([])
            set_title(panel, f"{name}: {title}" if name else title)


def describe_images(planes: Planes) -> str:
    """Return the images' ranges in words."""
    return "by position: " + "; ".join(
        f"{name or 'all values'}: mean {np.min(mean):.4g} to {np.max(mean):.4g}, standard deviation "
        f"{np.min(std):.4g} to {np.max(std):.4g}"
        for name, mean, std in planes
    )
