"""Logs: one line an event, JSON for machines or plain text for a terminal, with the request's id and no data.

What is logged of a request are its method, its route and path without the query, status, time and sizes. Neither
headers nor queries nor bodies are, so no key and no row of a data set can reach a log.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "json", "text"]

CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("normgauge.log_context", default={})  # noqa: B039  never changed
"""Fields that every line gets while a request is worked on: its id, and its trace where tracing is on."""

_OWN = ("normgauge", "uvicorn")


def fields(**values: Any) -> dict[str, Any]:
    """Return the `extra` of a logging call that gives its line these fields.

    >>> fields(status=200)
    {'fields': {'status': 200}}
    """
    return {"fields": values}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, then the fields, then the exception if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **CONTEXT.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, message and fields on one line; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; line ends within the message are escaped, so that no client can forge a line."""
        named = {**CONTEXT.get(), **getattr(record, "fields", {})}
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        text = " ".join([time, record.levelname.lower(), message, *(f"{name}={_shown(named[name])}" for name in named)])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(*, level: str = "info", log_format: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send this process's logs to a stream, in one form; what was set up before is replaced.

    Args:
        level: of the service's own loggers and the HTTP server's; all others log warnings.
        log_format: json, text, or auto: text on a terminal, else JSON.
        stream: default standard error.
    """
    stream = sys.stderr if stream is None else stream
    as_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OWN:
        logging.getLogger(name).setLevel(level.upper())


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)
