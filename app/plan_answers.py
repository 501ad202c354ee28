"""Plans as answers: JSON, or in columns (an Arrow file, which `Plan.load` maps) where Accept asks for them."""

from fastapi import Request, Response

from assessor import Plan
from assessor.plan_arrow import dump_columns

ARROW = "application/vnd.apache.arrow.file"
JSON = "application/json"
_ARROW_BEGINS = b"ARROW1"


def wants_columns(request: Request) -> bool:
    """Return whether a request names the Arrow file among what it accepts, and likes JSON no better."""
    return prefers_arrow(",".join(request.headers.getlist("accept")))


def prefers_arrow(accept: str) -> bool:
    """Return the same of the text of an Accept header (RFC 9110, 12.5.1); whatever else it names, the answer is JSON.

    >>> prefers_arrow("application/vnd.apache.arrow.file, application/json;q=0.5"), prefers_arrow("*/*")
    (True, False)
    """
    likes = dict(map(_like, accept.split(",")))
    json = next((likes[name] for name in (JSON, "application/*", "*/*") if name in likes), 0.0)
    return likes.get(ARROW, 0.0) > 0 and likes[ARROW] >= json


def _like(item: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def encode_plan(plan: Plan, *, columns: bool) -> bytes:
    """Return a plan as it is answered; blocks."""
    return dump_columns(plan) if columns else plan.to_json().encode()


def plan_response(content: bytes) -> Response:
    """Return the answer that holds what `encode_plan` made."""
    media_type = ARROW if content.startswith(_ARROW_BEGINS) else JSON
    return Response(content, media_type=media_type, headers={"Vary": "Accept"})
