"""Plans as answers: JSON, or columns where Accept asks for them: an Arrow file, which `Plan.load` maps, or a stream."""

from typing import Literal

from fastapi import Request, Response

from assessor import Plan
from assessor.plan_arrow import dump_columns

ARROW = "application/vnd.apache.arrow.file"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
JSON = "application/json"
Columns = Literal["file", "stream"]
_BEGINS = {ARROW: b"ARROW1", ARROW_STREAM: b"\xff\xff\xff\xff"}


def wanted_columns(request: Request) -> Columns | None:
    """Return the Arrow form that a request names among what it accepts, where it likes JSON no better."""
    return preferred_columns(",".join(request.headers.getlist("accept")))


def preferred_columns(accept: str) -> Columns | None:
    """Return the same of the text of an Accept header (RFC 9110, 12.5.1); whatever else it names, the answer is JSON.

    >>> preferred_columns("application/vnd.apache.arrow.file, application/json;q=0.5"), preferred_columns("*/*")
    ('file', None)
    """
    likes = dict(map(_like, accept.split(",")))
    json = next((likes[name] for name in (JSON, "application/*", "*/*") if name in likes), 0.0)
    file, stream = likes.get(ARROW, 0.0), likes.get(ARROW_STREAM, 0.0)
    if max(file, stream) <= 0 or max(file, stream) < json:
        return None
    return "file" if file >= stream else "stream"


def _like(item: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def encode_plan(plan: Plan, *, columns: Columns | None) -> bytes:
    """Return a plan as it is answered; blocks."""
    return plan.to_json().encode() if columns is None else dump_columns(plan, stream=columns == "stream")


def plan_response(content: bytes) -> Response:
    """Return the answer that holds what `encode_plan` made."""
    media_type = next((name for name, begin in _BEGINS.items() if content.startswith(begin)), JSON)
    return Response(content, media_type=media_type, headers={"Vary": "Accept"})
