"""What comes of assessing sources: the profile, which objects it is of, and which could not be read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from assessor.plan import Plan, make_plan
from assessor.profile import Profile
from assessor.sources.stores import Source

MOST_NOTES = 1000
"""Skipped sources that a plan names one by one."""


@dataclass(frozen=True)
class Skipped:
    """A source that was left out, or some of its rows.

    Attributes:
        uri: of the object.
        first_row, rows: the rows of the dataset that are not read; 0 rows where nobody could tell how many it has.
        reason: why, with the URI.
    """

    uri: str
    first_row: int
    rows: int
    reason: str


@dataclass(frozen=True, eq=False)
class Assessed:
    """The profile of a dataset's sources.

    Attributes:
        profile: of all rows; those that could not be read count as left out.
        sources: the objects in row order, with the number of rows of each.
        skipped: what could not be read, in row order; empty unless errors were to be skipped.
    """

    profile: Profile
    sources: tuple[tuple[Source, int], ...]
    skipped: tuple[Skipped, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 name of the sources, in their order: URI, size, etag and rows of each."""
        return name_sources(self.sources)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a plan should say of its sources."""
        notes = [f"{len(self.sources)} sources in the order of {self.fingerprint}"]
        for item in self.skipped[:MOST_NOTES]:
            rows = f"its rows {item.first_row} to {item.first_row + item.rows - 1} count as left out"
            notes.append(f"skipped: {item.reason} ({rows if item.rows else 'its rows are not counted'})")
        if len(self.skipped) > MOST_NOTES:
            notes.append(f"skipped: {len(self.skipped) - MOST_NOTES} more sources")
        return tuple(notes)

    def plan(self, **arguments: Any) -> Plan:
        """Return `make_plan` of the profile, with what is to be said of the sources in its notes.

        Raises:
            AssessorError: as `make_plan`.
        """
        return self.note(make_plan(self.profile, **arguments))

    def note(self, plan: Plan) -> Plan:
        """Return a plan of the profile with `notes` added to its own."""
        return replace(plan, notes=(*plan.notes, *self.notes))


def name_sources(sources: Sequence[tuple[Source, int]]) -> str:
    """Return the SHA-256 name of objects in an order."""
    digest = hashlib.sha256(b"normgauge.sources/1\n")
    for source, rows in sources:
        digest.update(json.dumps([str(source.uri), source.size_bytes, source.etag, rows]).encode() + b"\n")
    return "sha256:" + digest.hexdigest()
