"""Moments as the database keeps them: ISO 8601 in UTC, to the millisecond, all of one length, so that texts sort."""

from datetime import UTC, datetime, timedelta

DAY_S = 86_400


def as_text(moment: datetime) -> str:
    """Return an aware moment as text.

    >>> as_text(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00.000+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def now_text(*, ago_s: float = 0.0) -> str:
    """Return the present moment, or the one `ago_s` seconds before it, as text."""
    return as_text(datetime.now(UTC) - timedelta(seconds=ago_s))


def later_text(text: str, *, days: float) -> str:
    """Return the moment `days` days after the one of `text`, as text.

    >>> later_text("2026-01-31T12:00:00.000+00:00", days=1.5)
    '2026-02-02T00:00:00.000+00:00'
    """
    return as_text(datetime.fromisoformat(text) + timedelta(days=days))
