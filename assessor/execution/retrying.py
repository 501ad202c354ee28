"""Tasks that are tried again once the others are done: what a store did not give now it may give later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import sleep
from typing import Generic, TypeVar

T = TypeVar("T")

PAUSES_S = (1.0, 5.0)
"""Waits before the second and the third round."""


@dataclass
class Round(Generic[T]):
    """Tasks to be worked off; those that should be tried again go to `again`, unless it is the last round."""

    tasks: Sequence[T]
    last: bool
    again: list[T] = field(default_factory=list)


def in_rounds(tasks: Sequence[T]) -> Iterator[Round[T]]:
    """Yield rounds: all tasks, then those that failed in the round before, with a pause between."""
    for number in range(len(PAUSES_S) + 1):
        now = Round(tasks, number == len(PAUSES_S))
        yield now
        tasks = now.again
        if not tasks:
            return
        sleep(PAUSES_S[number])
