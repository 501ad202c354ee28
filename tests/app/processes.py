"""`normgauge serve` in a process of its own, for tests of signals and of several instances."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Process = subprocess.Popen[str]


@contextmanager
def served(
    database_url: str | None = None, *, environment: dict[str, str] | None = None, **settings: Any
) -> Iterator[tuple[str, Process]]:
    """Run the service while the block runs; give its URL, once it listens, and the process.

    Args:
        database_url: None where the environment says it.
        environment: variables beside this process's own.
        settings: by their names in `Settings`.
    """
    variables = {f"NORMGAUGE_{name.upper()}": str(value) for name, value in settings.items()}
    if database_url is not None:
        variables["NORMGAUGE_DATABASE_URL"] = database_url
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    server = subprocess.Popen(
        command, env=os.environ | (environment or {}) | variables, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if "listening on" in line:
                yield line.split("listening on ")[1].split()[0], server
                break
        else:
            raise AssertionError("the server did not start")
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
