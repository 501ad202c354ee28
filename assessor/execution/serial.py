"""The engine that works here, one task after another; the kernels use all of this process's threads."""

from collections.abc import Generator, Iterable

from assessor.errors import SettingError
from assessor.execution.engines import Engine, R, Report, S, T, Work, WorkerLostError, engines


class SerialEngine:
    """Works in this process."""

    name = "serial"
    workers = 1

    def run(
        self, work: Work[S, T, R], shared: S, tasks: Iterable[T], on_bytes: Report
    ) -> Generator[tuple[T, R | WorkerLostError], None, None]:
        """Yield each task with its result, in order."""
        for task in tasks:
            yield task, work(shared, task, on_bytes)

    def close(self) -> None:
        """Do nothing: there is no worker."""

    def __enter__(self) -> "SerialEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@engines.register("serial")
def make_serial(address: str | None, workers: int | None) -> Engine:
    """Return the engine.

    Raises:
        SettingError: an address, or several workers.
    """
    if address is not None or workers not in (None, 1):
        raise SettingError(
            f"expected the engine 'serial' without address and with one worker; got {address!r}, {workers}: "
            "take processes or ray for more"
        )
    return SerialEngine()
