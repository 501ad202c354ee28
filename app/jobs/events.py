"""What happened to a job: written with the change itself, in one transaction; told as server-sent events."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from app.jobs.records import Event
from app.jobs.tables import EVENTS
from app.times import now_text

HEARTBEAT = b": still here\n\n"
"""A comment: it keeps proxies from closing a stream in which nothing happens."""


def add_event(connection: Connection, job: int, name: str, data: dict[str, Any]) -> None:
    """Write a job's next event. The caller's transaction has changed the job's row, so no other writes at once."""
    last = sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.event), 0)).where(EVENTS.c.job == job)
    number = connection.execute(last).scalar_one() + 1
    connection.execute(EVENTS.insert().values(job=job, event=number, name=name, at=now_text(), data=data))


def encode(event: Event, more: dict[str, Any]) -> bytes:
    """Return an event as it is sent, with its number as id, by which a stream is taken up again.

    Source: WHATWG HTML, 9.2 Server-sent events.

    >>> encode(Event(3, "shard", "2026-01-31T12:00:00.000+00:00", {"index": 0}), {"state": "running"})
    b'id: 3\\nevent: shard\\ndata: {"at":"2026-01-31T12:00:00.000+00:00","index":0,"state":"running"}\\n\\n'
    """
    data = {"at": event.at} | event.data | more
    return f"id: {event.number}\nevent: {event.name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def encode_progress(data: dict[str, Any]) -> bytes:
    """Return a progress event; it has no id, since the next one stands for it too."""
    return f"event: progress\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
