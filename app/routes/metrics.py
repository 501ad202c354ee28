"""GET /metrics: what Prometheus reads."""

from fastapi import APIRouter, Depends, Response
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.board import count_states
from app.observability.metrics import MEDIA_TYPE
from app.openapi import METRICS_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.schemas import check_query
from app.service import ServiceDep

router = APIRouter(tags=["operations"], dependencies=[Depends(check_query)])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=METRICS_RESPONSE | problem_responses(*REQUEST_PROBLEMS),
)
async def get_metrics(service: ServiceDep) -> Response:
    """Answer this instance's metrics, and the jobs in the database; also where the database does not answer."""
    try:
        service.metrics.set_jobs(await service.look(lambda: count_states(service.store)))
    except SQLAlchemyError:
        service.metrics.set_database_up(False)
    else:
        service.metrics.set_database_up(True)
    return Response(service.metrics.text(), media_type=MEDIA_TYPE)
