"""The report: plans and their data's aggregates as one self-contained HTML file, or as one picture.

Needs the extra `report` (matplotlib, jinja2); imported only by what writes a report.
"""

from app.report.page import MAX_BYTES, render_report
from app.report.picture import draw_report

__all__ = ["MAX_BYTES", "draw_report", "render_report"]
