"""A job while a worker has it in hand, and the ways in which its work can end early."""

from threading import Event

from app.jobs.leases import LeaseLostError
from app.jobs.records import Lease


class StoppedError(Exception):
    """This process goes down: the job is handed back."""


class CancelledError(Exception):
    """The job's owner cancelled it."""


class Running:
    """What the worker, the thread that renews leases, and the one that stops the process share of a job.

    Attributes:
        lease: the job.
        bytes_coming: bytes of the current shard that have come.
    """

    def __init__(self, lease: Lease, stopping: Event) -> None:
        self.lease = lease
        self.bytes_coming = 0
        self._stopping = stopping
        self._verdict = "go on"

    def judge(self, verdict: str) -> None:
        """Note what `Leases.renew` said."""
        self._verdict = verdict

    def check(self) -> None:
        """Return while the work may go on; called between pieces of it.

        Raises:
            LeaseLostError, CancelledError, StoppedError: it may not.
        """
        if self._verdict == "lost":
            raise LeaseLostError(self.lease.id)
        if self._verdict == "cancel":
            raise CancelledError
        if self._stopping.is_set():
            raise StoppedError
