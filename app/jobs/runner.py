"""The workers of one process: threads that take jobs and do them, and one that keeps their leases."""

import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.ingesting import IngestWork
from app.jobs.leases import LeaseLostError, Leases
from app.jobs.planning import make_plan_bytes
from app.jobs.policy import IngestPolicy
from app.jobs.records import Lease
from app.jobs.running import CancelledError, Running, StoppedError
from app.problems import KINDS, ProblemError, problem_document
from app.service import Service
from assessor import AssessorError, SourceUnavailableError

RETRY_S = (5.0, 30.0, 120.0, 300.0)
"""Waits before a job whose store does not answer is begun again; the last goes on."""

STOP_TIMEOUT_S = 10.0
_LONGEST_RENEWAL_S = 2.0
_LOGGER = logging.getLogger("normgauge")


class Runner:
    """Runs jobs of all owners, as many at a time as the settings say.

    Args:
        service: open; its database is looked at for jobs.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._workers = settings.job_workers
        self._poll_s = settings.job_poll_s
        self._random = random.Random()
        self._max_attempts = settings.job_attempts
        self._renewal_s = min(settings.job_lease_s / 3, _LONGEST_RENEWAL_S)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"[:100]
        self._leases = Leases(service.store, owner=name, lease_s=settings.job_lease_s, max_attempts=self._max_attempts)
        self._ingest = IngestWork(service, self._leases, IngestPolicy(settings))
        self._stopping = Event()
        self._wake = Event()
        self._lock = Lock()
        self._running: set[Running] = set()
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Begin to take jobs; none where the settings say so."""
        if not self._workers:
            return
        loops: list[Callable[[], None]] = [self._work] * self._workers + [self._renew]
        self._threads = [Thread(target=loop, name=f"job-{i}", daemon=True) for i, loop in enumerate(loops)]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for a job now: one was just asked for here."""
        self._wake.set()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Take no more jobs and hand those in hand back, for other processes to go on with; blocks.

        A worker that does not come to a stop in time is written off: its lease is given up, so that what it may still
        do is refused. May be called more than once.
        """
        self._stopping.set()
        self._wake.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            left = list(self._running)
        for running in left:
            self._hand_back(running.lease)

    async def stop_when_draining(self) -> None:
        """Stop as soon as the service goes down, while uploads may still come to their end."""
        await self._service.drain.wait_begun()
        await to_thread.run_sync(self.stop)

    def _work(self) -> None:
        answers = True
        while not self._stopping.is_set():
            try:
                lease = self._leases.take()
                answers = True
            except SQLAlchemyError as error:
                if answers:  # said once, not at every look
                    _LOGGER.warning("the database did not answer when asked for jobs: %s", type(error).__name__)
                lease, answers = None, False
            if lease is not None:
                self._do(lease)
                continue
            # A little apart from the other processes, so that they do not all ask at once; by a generator of its
            # own, since the one that all share may have been seeded by whoever runs the service in his process.
            self._wake.wait(self._poll_s * self._random.uniform(0.75, 1.25))
            self._wake.clear()

    def _do(self, lease: Lease) -> None:
        running = Running(lease, self._stopping)
        with self._lock:
            self._running.add(running)
        _LOGGER.info("job %s (%s) begun, attempt %d", lease.id, lease.kind, lease.attempts)
        try:
            self._end(running)
        except LeaseLostError:
            _LOGGER.warning("job %s is another worker's now, or was removed", lease.id)
        except SQLAlchemyError as error:
            # Its lease runs out, and it is taken up again where it was.
            _LOGGER.error("the database did not answer during job %s: %s", lease.id, type(error).__name__)
        except Exception:  # a worker must outlive whatever one job does to it
            _LOGGER.exception("the end of job %s could not be written", lease.id)
        finally:
            with self._lock:
                self._running.discard(running)

    def _end(self, running: Running) -> None:
        """Do a job's work and write how it ended."""
        lease = running.lease
        try:
            result, data = self._result_of(running)
        except (LeaseLostError, SQLAlchemyError):
            raise
        except CancelledError:
            self._leases.cancel(lease)
        except StoppedError:
            self._leases.give_back(lease)
        except SourceUnavailableError as error:
            if lease.attempts >= self._max_attempts:
                self._leases.fail(lease, _problem_of(error, lease))
                return
            wait_s = RETRY_S[min(lease.attempts, len(RETRY_S)) - 1]
            self._leases.give_back(lease, wait_s=wait_s, why="retry")
        except Exception as error:  # whatever it is, the job must not stay without an end
            self._leases.fail(lease, _problem_of(error, lease))
        else:
            self._leases.succeed(lease, result, **data)

    def _result_of(self, running: Running) -> tuple[bytes | None, dict[str, Any]]:
        if running.lease.kind == "plan":
            return make_plan_bytes(self._service, running.lease), {}
        return None, self._ingest.run(running)

    def _renew(self) -> None:
        """Keep the leases of what runs here until nothing does and the process goes down."""
        while True:
            stopping = self._stopping.wait(self._renewal_s)
            with self._lock:
                held = {running.lease: running for running in self._running}
            if stopping:
                return
            if not held:
                continue
            try:
                verdicts = self._leases.renew({lease: running.bytes_coming for lease, running in held.items()})
            except SQLAlchemyError as error:
                _LOGGER.warning("the database did not answer when leases were renewed: %s", type(error).__name__)
                continue
            for lease, verdict in verdicts.items():
                held[lease].judge(verdict)

    def _hand_back(self, lease: Lease) -> None:
        try:
            self._leases.give_back(lease)
        except (LeaseLostError, SQLAlchemyError) as error:
            _LOGGER.warning("job %s could not be handed back: %s", lease.id, type(error).__name__)


def _problem_of(error: Exception, lease: Lease) -> dict[str, Any]:
    where = f"/v1/jobs/{lease.id}"
    if isinstance(error, ProblemError):
        return problem_document(error.code, error.detail, instance=where)
    if isinstance(error, AssessorError):
        code = error.code if error.code in KINDS else AssessorError.code
        return problem_document(code, str(error), instance=where)
    _LOGGER.error("internal error in job %s", lease.id, exc_info=error)
    detail = "the server failed on this job; its log has the cause; what was stored before stays"
    return problem_document("internal-error", detail, instance=where)
