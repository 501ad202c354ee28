"""What comes of assessing sources: the profile, which objects it is of, and which could not be read."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
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
    def source_order(self) -> str | None:
        """SHA-256 name of the sources' order, which a plan's fingerprint covers; None of a single one."""
        return name_order(self.sources)

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
        """Return `make_plan` of the profile, with the sources' order, and what is to be said of them in its notes.

        Raises:
            AssessorError: as `make_plan`.
        """
        return self.note(make_plan(self.profile, **arguments))

    def note(self, plan: Plan) -> Plan:
        """Return a plan of the profile with `source_order`, and with `notes` added to its own."""
        return replace(plan, notes=(*plan.notes, *self.notes), source_order=self.source_order)


def name_sources(sources: Sequence[tuple[Source, int]]) -> str:
    """Return the SHA-256 name of objects in an order, as they lie there: moved or written again they have another."""
    return _name(
        b"normgauge.sources/1", ([str(source.uri), source.size_bytes, source.etag, rows] for source, rows in sources)
    )


def name_order(sources: Sequence[tuple[Source, int]]) -> str | None:
    """Return the SHA-256 name of the order of several objects: their names below the folder that all lie in, and rows.

    So a dataset that was copied as a whole has the same name as before. Objects of several buckets have no such folder
    and go by their URIs.
    """
    if len(sources) < 2:
        return None
    uris = [source.uri for source, _ in sources]
    names = [str(uri) for uri in uris]
    if len({(uri.scheme, uri.container) for uri in uris}) == 1:
        folders = [uri.segments[:-1] for uri in uris]
        pairs = zip(min(folders), max(folders), strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        names = ["/".join(uri.segments[common:]) for uri in uris]
    return _name(b"normgauge.order/1", ([name, rows] for name, (_, rows) in zip(names, sources, strict=True)))


def _name(kind: bytes, parts: Iterable[list[Any]]) -> str:
    digest = hashlib.sha256(kind + b"\n")
    for part in parts:
        digest.update(json.dumps(part).encode() + b"\n")
    return "sha256:" + digest.hexdigest()
