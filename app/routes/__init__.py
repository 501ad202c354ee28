"""The HTTP interface, one resource a file; `ROUTERS` is all of it."""

from app.routes import assess, assessments, health, home, ingests, jobs, metrics, plans, problems, reports, shards

ROUTERS = (
    assess.router,
    assessments.router,
    shards.router,
    ingests.router,
    jobs.router,
    plans.router,
    reports.router,
    problems.router,
    health.router,
    metrics.router,
    home.router,
)
