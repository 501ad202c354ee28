"""`normgauge serve`: the service in the foreground."""

import argparse
import ipaddress
import os
import sys
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app.errors import CommandError
from app.serving import make_server, open_socket, url_of
from app.settings import Settings, unknown_variables
from app.storage import Store


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; return the exit status."""
    settings = _read_settings(arguments)
    _check_database(settings)
    for name in unknown_variables(os.environ):
        _say(f"warning: {name} is no setting; see docs/operations.md for those that exist")
    if not _is_loopback(settings.host):
        _say(
            f"warning: {settings.host} can be reached from other machines and there are no API "
            "keys yet; keep the port behind a firewall or a proxy that asks for them"
        )
    try:
        listener = open_socket(settings.host, settings.port)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; "
            "choose another with --host and --port (0 takes a free port)"
        ) from error
    with listener:
        _say(f"listening on {url_of(listener)} (description: /openapi.json); Ctrl-C stops it")
        server = make_server(settings)
        server.run(sockets=[listener])
    return 0 if server.started else 1


def _read_settings(arguments: argparse.Namespace) -> Settings:
    given: dict[str, Any] = {
        "host": arguments.host,
        "port": arguments.port,
        "database_url": arguments.database,
    }
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        texts = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}; got {item['input']!r}" for item in error.errors()]
        raise CommandError("; ".join(texts)) from error


def _check_database(settings: Settings) -> None:
    try:
        store = Store(settings)
        store.create_tables()
        store.close()
    except ImportError as error:
        raise CommandError(
            f"cannot open the database {settings.database_url}: {error}; install its driver, or pass --database"
        ) from error
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise CommandError(
            f"cannot open the database {settings.database_url}: {reason}; "
            "check that its folder exists and is writable, or pass --database"
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _say(text: str) -> None:
    print(f"normgauge: {text}", file=sys.stderr, flush=True)
