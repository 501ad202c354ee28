"""How far a run is, told to whoever wants to show it."""

from typing import Protocol


class Progress(Protocol):
    """Is told how far a run is; called from one thread."""

    def begin(self, what: str, total: int, done: int, unit: str) -> None:
        """Note that a stretch of work begins: `total` of a unit ("B", "sources"), of which some are done already."""
        ...

    def advance(self, n: int) -> None:
        """Note that so many more of the unit are done."""
        ...


class NoProgress:
    """Tells nobody."""

    def begin(self, what: str, total: int, done: int, unit: str) -> None:
        """Do nothing."""

    def advance(self, n: int) -> None:
        """Do nothing."""
