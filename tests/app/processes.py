"""`normgauge serve` in a process of its own, for tests of signals and of several instances."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Process = subprocess.Popen[str]
START_S = 120.0


@contextmanager
def served(
    database_url: str | None = None, *, environment: dict[str, str] | None = None, **settings: Any
) -> Iterator[tuple[str, Process]]:
    """Run the service while the block runs; give its URL, once it listens, and the process.

    Its standard error is a file, to be read from the beginning: in a pipe that no one reads, the lines of some hundred
    requests would be all that it can write.

    Args:
        database_url: None where the environment says it.
        environment: variables beside this process's own.
        settings: by their names in `Settings`.
    """
    variables = {f"NORMGAUGE_{name.upper()}": str(value) for name, value in settings.items()}
    if database_url is not None:
        variables["NORMGAUGE_DATABASE_URL"] = database_url
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log, open(log.name) as said:
        server = subprocess.Popen(command, env=os.environ | (environment or {}) | variables, stderr=log, text=True)
        server.stderr = said
        try:
            yield _url_of(server, Path(log.name)), server
        finally:
            server.kill()
            server.wait()


def _url_of(server: Process, log: Path) -> str:
    """Return where a server listens, once it says so."""
    deadline = time.monotonic() + START_S
    while (found := re.search(r"listening on (\S+) ", text := log.read_text())) is None:
        assert server.poll() is None, f"the server did not start: {text}"
        assert time.monotonic() < deadline, f"the server does not listen: {text}"
        time.sleep(0.02)
    return found[1]
