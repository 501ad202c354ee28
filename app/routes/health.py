"""/livez and /readyz: probes for whatever runs the service."""

from fastapi import APIRouter, Depends

from app.openapi import REQUEST_PROBLEMS, problem_responses
from app.problems import ProblemError
from app.schemas import Health, check_query
from app.service import ServiceDep

router = APIRouter(tags=["operations"], dependencies=[Depends(check_query)])


@router.get("/livez", summary="Is the process alive?", responses=problem_responses(*REQUEST_PROBLEMS))
async def livez() -> Health:
    """Answer that the process runs; touches nothing outside of it."""
    return Health()


@router.get(
    "/readyz",
    summary="Can it serve?",
    responses=problem_responses(*REQUEST_PROBLEMS, "shutting-down", "database-unavailable", "schema-outdated"),
)
async def readyz(service: ServiceDep) -> Health:
    """Answer that the database answers and has the tables that this version needs, and that the service stays."""
    if service.drain.begun:
        raise ProblemError(
            "shutting-down",
            "expected an instance that stays; this one is going down: send requests to another one",
            headers={"Connection": "close"},
        )
    state = await service.look(service.store.schema_state)
    if not state.usable:
        raise ProblemError("schema-outdated", str(state))
    return Health()
