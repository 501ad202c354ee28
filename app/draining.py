"""How the service goes down: it says that it is leaving, lets running uploads end, then cuts what is left.

In order: `/readyz` answers 503 (`Drain.begin`), after a set delay no connection is accepted any more, and after another
set time a body that is still coming in fails with the problem "shutting-down": nothing of it is stored, and the client
sends it again, to another instance or after the restart. What the server cancels later is
answered with the same problem.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive

from app.problems import ProblemError

_INCOMPLETE = "expected the body to be complete before the service goes down; it was not; nothing of it was stored"
UNFINISHED = (
    "expected an answer before the service goes down; there was none in time, and what was asked for may have been done"
)


class Drain:
    """Whether an application is going down, and the bodies that must end when its time is over.

    All methods are called in the event loop of the application.
    """

    def __init__(self) -> None:
        """Not going down."""
        self._begun = asyncio.Event()
        self._expired = False
        self._cuts: set[Callable[[], None]] = set()

    @property
    def begun(self) -> bool:
        """Whether the service is going down."""
        return self._begun.is_set()

    @property
    def expired(self) -> bool:
        """Whether the time for running uploads is over."""
        return self._expired

    def begin(self) -> None:
        """Say that the service is going down."""
        self._begun.set()

    async def wait_begun(self) -> None:
        """Return when the service goes down: what answers without end, as an event stream, ends then."""
        await self._begun.wait()

    def expire(self) -> None:
        """Cut every body that still comes in."""
        self._begun.set()
        self._expired = True
        for cut in tuple(self._cuts):
            cut()

    @contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """Have `cut` called when the time for uploads is over, or at once where it is; while the block runs."""
        if self._expired:
            cut()
        self._cuts.add(cut)
        try:
            yield
        finally:
            self._cuts.discard(cut)

    def bound(self, receive: Receive) -> Receive:
        """Return `receive` as it is while the service runs; it fails when the time for uploads is over.

        What it raises then is a `ProblemError` ("shutting-down"). A body that is complete is never cut.
        """
        complete = False

        async def bounded() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            if self._expired:
                raise going_down(_INCOMPLETE)
            try:
                # A timeout that no clock runs out: `expire` moves it to now. It costs a message one microsecond.
                async with asyncio.timeout(None) as scope:
                    loop = asyncio.get_running_loop()

                    def cut() -> None:
                        scope.reschedule(loop.time())

                    with self.cutting(cut):
                        message = await receive()
            except TimeoutError:
                if not scope.expired():
                    raise
                raise going_down(_INCOMPLETE) from None
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return bounded


def going_down(what: str) -> ProblemError:
    """Return the problem of a request that the service had no time for, and of which this is so."""
    return ProblemError(
        "shutting-down",
        f"{what}: send it again, to another instance or in a few seconds",
        headers={"Connection": "close", "Retry-After": "5"},
    )
