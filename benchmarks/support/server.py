"""The service in a process of its own, for benchmarks that watch it from outside."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from app.serving import make_server, open_socket, url_of
from app.settings import Settings


class Running(NamedTuple):
    """A server's base URL and process."""

    url: str
    pid: int
    process: Any


def serve(database_url: str, limits: dict[str, Any], pipe: Connection) -> None:
    """Run the service as `normgauge serve` would; tell where."""
    settings = Settings(database_url=database_url, port=0, log_level="error", **limits)
    server = make_server(settings, log_level="error", own_process=True)
    listener = open_socket("127.0.0.1", 0)
    pipe.send((url_of(listener), os.getpid()))
    server.run(sockets=[listener])


@contextmanager
def service(folder: str, **limits: Any) -> Iterator[Running]:
    """Run the service, with its database in a folder, while the block runs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(f"sqlite:///{folder}/service.db", limits, theirs))
    process.start()
    try:
        url, pid = ours.recv()
        yield Running(url, pid, process)
    finally:
        process.terminate()
        process.join()
