"""The application: `create_app(settings)`; for `uvicorn --factory app.main:create_app` too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from anyio import to_thread
from fastapi import FastAPI, Request, Response

from app import problems
from app.auth.access import AccessMiddleware
from app.document import describe, document_bytes
from app.jobs.runner import Runner
from app.jobs.stream import EventStreams
from app.limits import LimitMiddleware
from app.observability import tracing
from app.observability.requests import RequestMiddleware
from app.routes import ROUTERS
from app.service import Service
from app.settings import Settings
from assessor.kernels import warm

DESCRIPTION = """\
Tells, before training starts, which batches of a dataset need normalization.

1. `POST /v1/assessments` with a name and batch sizes.
2. `PUT /v1/assessments/{id}/shards/{index}` with an npy or safetensors body, in any order.
3. `GET /v1/assessments/{id}/plan?batch_size=32&method=need`; `/report` in place of `/plan` is a page for people.

For one shard, `POST /v1/assess?batch_size=32` answers the plan at once and keeps nothing. Every error is a problem
document (RFC 9457) that says what was expected, what came and what to do.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; its database is opened when it starts, not here.

    Args:
        settings: where to keep what, and the limits; None reads them from the environment.
    """
    service = Service(settings or Settings())
    provider = tracing.make_provider() if service.settings.tracing == "otlp" else None

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.open()
        # Loading the compiled kernel takes half a second, compiling it once a machine some: not within a request.
        await to_thread.run_sync(warm)
        # Made and encoded once, and by one: FastAPI would encode it for each request.
        document_bytes(_app)
        runner = _app.state.runner = Runner(service)
        runner.start()
        stopping = asyncio.create_task(runner.stop_when_draining())
        yield
        service.drain.expire()
        await stopping
        await service.close()
        if provider is not None:
            await to_thread.run_sync(provider.shutdown)  # sends the last spans

    app = FastAPI(
        title="Normgauge",
        version=version("normgauge"),
        summary="Does this batch of data need normalization?",
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # ours is encoded once
        docs_url=None,  # the pages of FastAPI load scripts from another host
        redoc_url=None,
    )
    app.state.service = service
    app.state.event_streams = EventStreams(service.settings.max_event_streams)
    app.add_middleware(AccessMiddleware, keys=service.keys, rates=service.rates, settings=service.settings)
    app.add_middleware(LimitMiddleware, settings=service.settings)
    # The outermost come last.
    app.add_middleware(RequestMiddleware, metrics=service.metrics, drain=service.drain)
    if provider is not None:
        app.state.tracer_provider = provider
        app.add_middleware(tracing.TracingMiddleware, provider=provider)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.add_route("/openapi.json", _get_document, include_in_schema=False)
    return app


async def _get_document(request: Request) -> Response:
    return Response(document_bytes(request.app), media_type="application/json")
