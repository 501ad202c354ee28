"""Run the application under uvicorn: in the foreground for `normgauge serve`, in a thread for the demo and tests."""

import asyncio
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from app.draining import Drain
from app.main import create_app
from app.memory import give_back_freed_memory
from app.observability.requests import report_refusal
from app.protocol import ServiceProtocol
from app.settings import Settings

CUT_TIMEOUT_S = 5
"""Time that requests have to end once their bodies were cut, and event streams once the service goes down."""

START_TIMEOUT_S = 120.0
"""Compiling the kernel, once a machine, takes 10 s, on a busy one much more."""
_BACKLOG = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on host and port; port 0 takes a free one.

    Connections wait in its queue until a server takes them.

    Raises:
        OSError: the address is in use or not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address at which a bound socket is reached, as a base URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class DrainingServer(uvicorn.Server):
    """A server that on SIGTERM and Ctrl-C says that it is leaving before it leaves; see `app.draining`."""

    def __init__(self, config: uvicorn.Config, *, drain: Drain, settings: Settings, own_process: bool) -> None:
        super().__init__(config)
        self._drain = drain
        self._settings = settings
        self._own_process = own_process

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start."""
        if self._own_process:
            give_back_freed_memory()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn /readyz to 503, wait, stop accepting, let uploads end within their time, cut the rest."""
        self._drain.begin()
        left_s = self._settings.shutdown_delay_s
        while left_s > 0 and not self.force_exit:  # a second Ctrl-C ends it at once
            await asyncio.sleep(min(left_s, 0.1))
            left_s -= 0.1
        expiry = asyncio.get_running_loop().call_later(self._settings.shutdown_timeout_s, self._drain.expire)
        try:
            await super().shutdown(sockets)
        finally:
            expiry.cancel()


def make_server(
    settings: Settings, *, log_level: str = "info", configure_logs: bool = True, own_process: bool = False
) -> uvicorn.Server:
    """Return a server of the application, not yet running; run it with `run(sockets=[...])`.

    Args:
        log_level: of the server's own lines.
        configure_logs: give the server's loggers its own handlers; False leaves the process's logging as it is.
        own_process: the process is this server and nothing else, so its memory may be set up for it.
    """
    application = create_app(settings)
    service = application.state.service
    on_refusal = partial(report_refusal, service.metrics)
    protocol = partial(ServiceProtocol, settings=settings, pieces=service.pieces, on_refusal=on_refusal)
    config = uvicorn.Config(
        application,
        log_level=log_level,
        log_config=LOGGING_CONFIG if configure_logs else None,
        access_log=False,  # ours leaves out the query
        http=protocol,  # type: ignore[arg-type]  # called as the class would be
        ws="none",
        lifespan="on",
        server_header=False,
        # Else uvicorn believes whoever calls from this machine, who could take another address for each call.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout_s) + CUT_TIMEOUT_S,
    )
    return DrainingServer(config, drain=application.state.service.drain, settings=settings, own_process=own_process)


@contextmanager
def running(settings: Settings, *, log_level: str = "warning") -> Iterator[str]:
    """Run a server in a thread while the block runs; give its base URL.

    It listens on `settings.host` and `settings.port` (0: a free port).

    Raises:
        RuntimeError: it did not start; the log says why.
    """
    listener = open_socket(settings.host, settings.port)
    server = make_server(settings, log_level=log_level)
    thread = threading.Thread(target=server.run, args=([listener],), name="normgauge", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    # uvicorn has no event for this; the pause is short, since starting takes some 10 ms.
    pause = threading.Event()
    waited_s = 0.0
    while not server.started:
        if not thread.is_alive() or waited_s > START_TIMEOUT_S:
            raise RuntimeError("the server did not start; its log says why")
        pause.wait(0.01)
        waited_s += 0.01
