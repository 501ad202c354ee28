"""`normgauge serve`: the service in the foreground."""

import argparse
import logging
import os

from app.auth import Keys
from app.auth.access import is_loopback
from app.commands.opened import opened_store, read_settings
from app.errors import CommandError, UsageError
from app.observability import logs
from app.outcome import DONE
from app.serving import make_server, open_socket, url_of
from app.settings import Settings, unknown_variables
from app.settings_table import describe, to_json, to_text
from assessor.kernels import choice

_LOGGER = logging.getLogger("normgauge")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; return the exit status."""
    given = {"host": arguments.host, "port": arguments.port, "database_url": arguments.database}
    settings = read_settings(**given)
    if arguments.print_settings:
        rows = describe(settings, environ=os.environ, options=[name for name in given if given[name] is not None])
        print(to_json(rows) if arguments.json else to_text(rows))
        return DONE
    if arguments.json:
        raise UsageError("--json goes with --print-settings")
    choice()  # of the kernel: where it cannot be had, that is said before anything is opened
    logs.configure(level=settings.log_level, log_format=settings.log_format)
    _check_database(settings)
    for name in unknown_variables(os.environ):
        _LOGGER.warning("%s is no setting; see docs/operations.md for those that exist", name)
    try:
        listener = open_socket(settings.host, settings.port)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; "
            "choose another with --host and --port (0 takes a free port)"
        ) from error
    with listener:
        _LOGGER.info("listening on %s (description: /openapi.json); Ctrl-C stops it", url_of(listener))
        server = make_server(settings, log_level=settings.log_level, configure_logs=False, own_process=True)
        server.run(sockets=[listener])
    return 0 if server.started else 1


def _check_database(settings: Settings) -> None:
    """Bring the database up to date, and see that no stranger can come in without a key."""
    with opened_store(settings) as store:
        state = store.migrate() if settings.migrate_at_start else store.schema_state()
        has_keys = state.usable and Keys(store.engine).exist()
    if not state.usable:
        _LOGGER.warning("not ready: %s", state)
    elif not state.known:
        _LOGGER.warning("%s", state)
    if has_keys:
        return
    if settings.require_keys:
        _LOGGER.warning("there are no API keys: every call is refused until normgauge keys create NAME makes one")
    elif is_loopback(settings.host):
        _LOGGER.info("there are no API keys, so only this machine is served; normgauge keys create NAME makes one")
    elif settings.allow_anonymous:
        _LOGGER.warning(
            "there are no API keys and %s can be reached from other machines (NORMGAUGE_ALLOW_ANONYMOUS): something in "
            "front must ask who is calling",
            settings.host,
        )
    elif state.usable:
        raise CommandError(
            f"without API keys the service listens on this machine only; got host {settings.host}: make a key first "
            "(normgauge keys create NAME), or take --host 127.0.0.1, or set NORMGAUGE_ALLOW_ANONYMOUS=true where "
            "something in front asks who is calling, or NORMGAUGE_REQUIRE_KEYS=true to refuse all calls until then"
        )
