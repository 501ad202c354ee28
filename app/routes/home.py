"""GET /: a page for whoever opens the service's address in a browser."""

from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from app.headers import PAGE_POLICY
from app.openapi import PAGE_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.schemas import check_query

router = APIRouter(tags=["operations"], dependencies=[Depends(check_query)])


@router.get(
    "/",
    summary="What this is",
    response_class=Response,
    responses=PAGE_RESPONSE | problem_responses(*REQUEST_PROBLEMS),
)
async def get_home(request: Request) -> Response:
    """Answer a page that says what the service does, how to call it, and what else it has."""
    page = _template().substitute(
        version=escape(request.app.version),
        style=_style(),
        calls="\n".join(_calls(request.app.openapi())),
    )
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


def _calls(document: dict[str, Any]) -> list[str]:
    """Return a table row for each call of the interface."""
    return [
        f'<tr><td><code>{method.upper()}</code></td><td class="left wrap"><code>{escape(path)}</code></td>'
        f'<td class="left wrap">{escape(operation["summary"])}</td></tr>'
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


@cache
def _template() -> Template:
    return Template((resources.files("app") / "home.html").read_text(encoding="utf-8"))


@cache
def _style() -> str:
    # Of the report, so that both look alike; its package is not imported, since that needs the extra report.
    return (resources.files("app") / "report" / "style.html").read_text(encoding="utf-8")
