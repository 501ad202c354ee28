"""The HTTP interface, one resource a file; `ROUTERS` is all of it."""

from app.routes import assess, assessments, health, home, metrics, plans, problems, reports, shards

ROUTERS = (
    assess.router,
    assessments.router,
    shards.router,
    plans.router,
    reports.router,
    problems.router,
    health.router,
    metrics.router,
    home.router,
)
