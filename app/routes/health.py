"""/livez and /readyz: probes for whatever runs the service."""

from fastapi import APIRouter, Depends

from app.openapi import REQUEST_PROBLEMS, problem_responses
from app.schemas import Health, check_query
from app.service import ServiceDep

router = APIRouter(tags=["operations"], dependencies=[Depends(check_query)])


@router.get("/livez", summary="Is the process alive?", responses=problem_responses(*REQUEST_PROBLEMS))
async def livez() -> Health:
    """Answer that the process runs; touches nothing."""
    return Health()


@router.get(
    "/readyz",
    summary="Can it serve?",
    responses=problem_responses(*REQUEST_PROBLEMS, "database-unavailable"),
)
async def readyz(service: ServiceDep) -> Health:
    """Answer that the database answers."""
    await service.blocking(service.store.check)
    return Health()
