"""How far a run is, on standard error: a bar on a terminal; elsewhere, as in a cluster's logs, a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from tqdm import tqdm

LINES_APART_S = 30.0


class Meter:
    """Shows how far a run is. Lines are at least `LINES_APART_S` apart, so a run that is shorter prints none.

    Args:
        show: False shows nothing.
        clock: gives seconds.
    """

    def __init__(self, *, show: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_terminal = show and sys.stderr.isatty()
        self._in_lines = show and not self._on_terminal
        self._clock = clock
        self._told_at = clock()
        self._bar: tqdm[NoReturn] | None = None

    def begin(self, what: str, total: int, done: int, unit: str) -> None:
        """Begin a stretch of work: `total` of a unit ("B", "sources"), of which some are done already."""
        self.close()
        self._what, self._total, self._unit = what, total, unit
        self._first = self._done = done
        self._began_at = self._clock()
        if self._on_terminal:
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=what,
                unit=unit if unit == "B" else f" {unit}",
                unit_scale=True,
                unit_divisor=1024 if unit == "B" else 1000,
                file=sys.stderr,
            )

    def advance(self, n: int) -> None:
        """Note that so many more are done."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        elif self._in_lines:
            now = self._clock()
            if now - self._told_at >= LINES_APART_S:
                self._told_at = now
                with contextlib.suppress(OSError):  # a log that no one reads any more ends no run
                    print(f"normgauge: {self._line(now - self._began_at)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self, passed_s: float) -> str:
        rate = (self._done - self._first) / passed_s if passed_s > 0 else 0.0
        left = tqdm.format_interval(max(0, self._total - self._done) / rate) if rate > 0 else "?"
        share = self._done / self._total if self._total else 1.0
        done, total, each_second = (self._amount(n) for n in (self._done, self._total, rate))
        return f"{self._what}: {done} of {total} ({share:.0%}), {each_second}/s, {left} left"

    def _amount(self, n: float) -> str:
        if self._unit == "B":
            return tqdm.format_sizeof(n, "B", 1024)
        return f"{n:.0f} {self._unit}" if n >= 10 or n == int(n) else f"{n:.1f} {self._unit}"
