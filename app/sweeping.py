"""Housekeeping, every minute: assessments that have expired are removed, and when keys were last used is written.

Every replica does it; on PostgreSQL each takes assessments that no other has in hand, so they do not wait for one
another. One assessment is one transaction, so that uploads come in between. What is kept in memory of an assessment
that is gone, whoever removed it, goes too.
"""

import asyncio
import logging
from contextlib import suppress

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.auth import Keys
from app.profile_cache import ProfileCache
from app.settings import Settings
from app.storage import Store

_LOGGER = logging.getLogger("normgauge")


class Sweeper:
    """The background task: `run` goes on until `stop`."""

    def __init__(self, store: Store, keys: Keys, cache: ProfileCache, settings: Settings) -> None:
        self._store = store
        self._keys = keys
        self._cache = cache
        self._interval_s = settings.sweep_interval_s
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Sweep now and after each interval; a database that does not answer is asked again the next time."""
        limiter = CapacityLimiter(1)
        while not self._stopped.is_set():
            try:
                removed = await to_thread.run_sync(self.sweep, limiter=limiter)
            except SQLAlchemyError as error:
                _LOGGER.warning("the database did not answer while sweeping: %s", type(error).__name__)
            else:
                if removed:
                    _LOGGER.info("removed %d expired assessments", removed)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), self._interval_s)

    def stop(self) -> None:
        """Let `run` end after the sweep at hand; cancelling it would leave a thread behind that holds a connection."""
        self._stopped.set()

    def sweep(self) -> int:
        """Write the uses of keys, remove what has expired, and return how many assessments that were; blocks."""
        self._keys.write_uses()
        removed = 0
        while self._store.remove_expired():
            removed += 1
        cached = self._cache.assessments
        for assessment_id in cached - self._store.find_existing(cached):
            self._cache.drop(assessment_id)
        return removed
