"""`normgauge serve`: the service in the foreground."""

import argparse
import ipaddress
import os
import sys

from app.commands.opened import opened_store, read_settings
from app.errors import CommandError
from app.serving import make_server, open_socket, url_of
from app.settings import Settings, unknown_variables


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; return the exit status."""
    settings = read_settings(host=arguments.host, port=arguments.port, database_url=arguments.database)
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


def _check_database(settings: Settings) -> None:
    with opened_store(settings) as store:
        state = store.migrate() if settings.migrate_at_start else store.schema_state()
    if not state.usable:
        _say(f"warning: not ready: {state}")
    elif not state.known:
        _say(f"warning: {state}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _say(text: str) -> None:
    print(f"normgauge: {text}", file=sys.stderr, flush=True)
