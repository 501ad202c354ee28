"""GET /problems/{code}: what a problem's `type` points at."""

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse

from app.openapi import REQUEST_PROBLEMS, problem_responses
from app.problems import KINDS, ProblemError
from app.schemas import check_query

router = APIRouter(prefix="/problems", tags=["problems"], dependencies=[Depends(check_query)])


@router.get(
    "/{code}",
    summary="Explain a problem type",
    response_class=PlainTextResponse,
    responses=problem_responses(*REQUEST_PROBLEMS, "not-found"),
)
async def explain_problem(code: str) -> str:
    """Answer a short text about a problem type."""
    if code not in KINDS:
        raise ProblemError(
            "not-found",
            f"expected a problem type among: {', '.join(KINDS)}; got {code!r}; take one of them",
        )
    kind = KINDS[code]
    return f"{kind.title} (HTTP {kind.status})\n{kind.advice}\n"
