"""When a request that may safely be repeated is repeated."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with full jitter.

    Attributes:
        retries: repetitions after the first attempt; 0 never repeats.
        first_delay_s: upper end of the first delay; doubled each time.
        longest_delay_s: upper end of every delay.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    retries: int = 3
    first_delay_s: float = 0.2
    longest_delay_s: float = 5.0
    # its own generator: training must not change because an upload was repeated
    _random: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the ranges."""
        whole = isinstance(self.retries, int | np.integer) and not isinstance(self.retries, bool)
        delays = (self.first_delay_s, self.longest_delay_s)
        numbers = all(isinstance(delay_s, int | float | np.number) and 0 <= delay_s < math.inf for delay_s in delays)
        if not whole or self.retries < 0 or not numbers:
            raise ValueError(f"expected a whole number of retries, and delays in seconds, >= 0; got {self}")

    def delays(self) -> Iterator[float]:
        """Yield the delay before each repetition, in seconds.

        >>> len(list(Backoff(retries=2).delays()))
        2
        """
        for attempt in range(self.retries):
            longest_s = min(self.longest_delay_s, self.first_delay_s * 2**attempt)
            yield self._random.uniform(0, longest_s)

    def bounded(self, retry_after_s: float | None) -> float | None:
        """Return what the service asked to wait, at most longest_delay_s; None if it did not."""
        return None if retry_after_s is None else min(retry_after_s, self.longest_delay_s)
