"""What all plots share: colours, axes, and figures as inline SVG that reads out loud and follows the page's colours."""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from threading import RLock

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NORMALIZE, SKIP, CUTOFF = "#c8553d", "#3d7ea6", "#202122"
"""Red and blue that differ in lightness too; the cutoff is drawn in the colour of the text."""
PALETTE = ("#3d7ea6", "#c8553d", "#5b9279", "#8f6593", "#e09f3e", "#777777")
PART_COLOURS = {"global": "#e09f3e", "feature": "#8f6593", "drift": "#c8553d", "noise": "#9a9a9a"}
_INK = CUTOFF
_LOCK = RLock()


def new_figure(width: float = 4.8, height: float = 2.9) -> tuple[Figure, Axes]:
    """Return a figure of one panel; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def tidy(axes: Axes) -> None:
    """Leave out the frame's upper and right lines, and set the text's size."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def set_title(axes: Axes, text: str) -> None:
    """Give a panel its title, on the left."""
    axes.set_title(text, fontsize=10, loc="left")


@contextmanager
def drawing() -> Iterator[None]:
    """Set matplotlib up for plots of ours; one thread at a time, since its settings are the process's."""
    with (
        _LOCK,
        rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "normgauge",
                "font.family": ["DejaVu Sans"],
                "text.color": _INK,
                "axes.edgecolor": _INK,
                "axes.labelcolor": _INK,
                "xtick.color": _INK,
                "ytick.color": _INK,
                "text.parse_math": False,
            }
        ),
    ):
        yield


def to_svg(figure: Figure, description: str, *, name: str) -> Markup:
    """Return the figure as SVG to stand in a page.

    Args:
        figure: drawn within `drawing()`.
        description: read out in place of the picture.
        name: makes ids unique within a page.
    """
    buffer = io.StringIO()
    hidden = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", dpi=100, transparent=True, metadata=hidden)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("\n", " ")
    text = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"|<metadata>.*?</metadata>|<!--.*?-->', "", text, flags=re.S)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text)
    text = text.replace("'DejaVu Sans'", "inherit").replace(_INK, "currentColor")
    label = escape(description)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return Markup(text.replace(">", f"><title>{label}</title>", 1))


def to_png(figure: Figure, *, dpi: int = 110) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_data_url(png: bytes) -> str:
    """Return a PNG file as a URL that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
