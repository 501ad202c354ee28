"""What the endpoints share: settings, database, merged profiles, worker threads."""

import asyncio
import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError

from app.auth import Keys
from app.auth.access import caller_of
from app.auth.rates import RateLimiter
from app.draining import Drain
from app.observability.metrics import Metrics
from app.pieces import PiecePool
from app.profile_cache import ProfileCache
from app.records import Assessment, Shard
from app.settings import Settings
from app.storage import Store
from app.sweeping import Sweeper
from assessor import GapError, Plan, Profile, SampleOrder, make_plan, merge
from assessor.kernels import usable_processors

_T = TypeVar("_T")
_LOGGER = logging.getLogger("normgauge")


@dataclass(frozen=True, eq=False)
class Assessed:
    """An assessment without gaps and the merged profile of its shards."""

    assessment: Assessment
    profile: Profile

    @property
    def name(self) -> str:
        """The assessment's name, for people."""
        return self.assessment.name

    def plan(self, *, batch_size: int | None, method: str | None, **options: Any) -> Plan:
        """Return a plan; the method's default is the assessment's.

        Raises:
            AssessorError: as `assessor.make_plan`.
        """
        return make_plan(
            self.profile,
            method=self.assessment.method if method is None else method,
            batch_size=batch_size,
            order=SampleOrder.from_dict(self.assessment.order),
            **options,
        )


@dataclass
class Service:
    """The state of one application; created with it, opened and closed by its lifespan."""

    settings: Settings
    store: Store = field(init=False)
    keys: Keys = field(init=False)
    rates: RateLimiter = field(init=False)
    cache: ProfileCache = field(init=False)
    limiter: CapacityLimiter = field(init=False)
    report_limiter: CapacityLimiter = field(init=False)
    decoding: CapacityLimiter = field(init=False)
    finishing: CapacityLimiter = field(init=False)
    looking: CapacityLimiter = field(init=False)
    pieces: PiecePool = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    drain: Drain = field(default_factory=Drain)

    def __post_init__(self) -> None:
        """Make the parts; nothing is opened yet."""
        self.store = Store(self.settings)
        self.keys = Keys(self.store.engine)
        self.rates = RateLimiter(self.settings)
        self.cache = ProfileCache(self.settings.cached_profiles)
        self.pieces = PiecePool(
            max_uploads=self.settings.max_uploads,
            total_bytes=self.settings.upload_memory_bytes,
            largest_bytes=self.settings.piece_bytes,
            processors=usable_processors(),
        )

    async def open(self) -> None:
        """Bring the database up to date, unless told not to; needs a running event loop."""
        self.limiter = CapacityLimiter(self.settings.worker_threads)
        # More decoders than processors would gain nothing and hold more memory; so would more profiles that are stored;
        # SQLite has one writer at a time in any case.
        self.decoding = CapacityLimiter(min(self.settings.worker_threads, usable_processors()))
        self.finishing = CapacityLimiter(1 if self.store.engine.dialect.name == "sqlite" else 2)
        self.report_limiter = CapacityLimiter(1)
        self.looking = CapacityLimiter(2)
        if self.settings.migrate_at_start:
            await self.blocking(self.store.migrate)
        self._sweeper = Sweeper(self.store, self.keys, self.cache, self.settings)
        self._sweeping = asyncio.create_task(self._sweeper.run())

    async def close(self) -> None:
        """End the background work and close the database."""
        self._sweeper.stop()
        await self._sweeping
        await self.rates.close()
        await self.blocking(self._close)

    def _close(self) -> None:
        try:
            self.keys.write_uses()
        except SQLAlchemyError:
            _LOGGER.warning("the database did not answer: the last uses of keys are not written")
        self.store.close()

    def owned_by(self, key_id: str | None) -> "Service":
        """Return this service as the owner of a key sees it: its `store` has that owner's assessments only."""
        other = copy.copy(self)
        other.store = self.store.owned_by(key_id)
        return other

    async def blocking(self, call: Callable[[], _T]) -> _T:
        """Return what `call` returns, run in a worker thread so that the event loop is not held up."""
        return await to_thread.run_sync(call, limiter=self.limiter)

    async def look(self, call: Callable[[], _T]) -> _T:
        """Return what a probe's `call` returns; it does not wait for threads that long plans keep busy."""
        return await to_thread.run_sync(call, limiter=self.looking)

    def plan_stored(self, assessment_id: str, *, batch_size: int | None, method: str | None, **options: Any) -> Plan:
        """Return the plan of an assessment's shards; blocks.

        Raises:
            ProblemError: no such assessment.
            GapError: rows are missing.
            AssessorError: as `assessor.make_plan`.
        """
        plan = self.profile_stored(assessment_id).plan(batch_size=batch_size, method=method, **options)
        self.metrics.planned(plan)
        return plan

    def profile_stored(self, assessment_id: str) -> Assessed:
        """Return an assessment with its merged profile; blocks.

        Raises:
            ProblemError: no such assessment.
            GapError: rows are missing.
        """
        assessment, shards = self.store.get_assessment(assessment_id)
        check_complete(shards)
        return Assessed(assessment, self._merged(assessment, shards))

    def _merged(self, assessment: Assessment, shards: Sequence[Shard]) -> Profile:
        key = (assessment.id, tuple((shard.first_row, shard.digest) for shard in shards))

        def load() -> Profile:
            blobs = self.store.load_profiles(assessment, shards)
            return merge(Profile.from_bytes(blob) for blob in blobs)

        return self.cache.get(key, load)


def find_gaps(shards: Sequence[Shard]) -> list[tuple[int, int]]:
    """Return the ranges [start, stop) of rows that are missing before the last one.

    Args:
        shards: by first row, without overlaps.
    """
    gaps = []
    end_row = 0
    for shard in shards:
        if shard.first_row > end_row:
            gaps.append((end_row, shard.first_row))
        end_row = shard.end_row
    return gaps


def check_complete(shards: Sequence[Shard]) -> None:
    """Check that there are rows and that none is missing before the last one.

    Raises:
        GapError: names the rows that are missing.
    """
    if not shards:
        raise GapError(
            "expected at least one shard; the assessment has none: PUT "
            "/v1/assessments/{id}/shards/0 first, then ask for the plan"
        )
    gaps = find_gaps(shards)
    if gaps:
        named = ", ".join(f"{start} to {stop - 1}" for start, stop in gaps[:5])
        more = f" and {len(gaps) - 5} more gaps" if len(gaps) > 5 else ""
        raise GapError(
            f"expected all rows from 0 to {shards[-1].end_row - 1}; rows {named}{more} have not "
            "come: send the shards that hold them, then ask for the plan again"
        )


def get_service(request: Request) -> Service:
    """Return the application's service as the caller sees it."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service.owned_by(caller_of(request).key_id)


ServiceDep = Annotated[Service, Depends(get_service)]
