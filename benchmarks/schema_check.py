"""The interface against its own description: schemathesis, all checks, stateful too, on the real server.

    python -m benchmarks.schema_check [--examples 200] [--seed 0] [--open] [--database URL]

Requests are made from the OpenAPI document: of its form, not of its form, its examples, its limits, and chains along
its links. Nothing may be answered 5xx, nothing with a status, media type, problem type or body that the document does
not have. By default with an API key; --open without any key. Exit status 1: something was found, and how to repeat it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from app.auth.keys import Keys
from app.serving import running
from app.settings import Settings
from app.storage import Store

CONFIGURATION = """\
[checks]
enabled = true

[checks.positive_data_acceptance]
# Of the form described, and yet: not a shard, limits of this server, shards that do not fit the others. Which of the
# 422 these are is checked by described_requests_are_understood.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 413, 422, 429]

[checks.negative_data_rejection]
# A limit may be looked at before the rest.
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]

# DELETE of a job cancels it; it can be looked at as before.
[[operations]]
include-path-regex = "^/v1/jobs/"
checks.use_after_free.enabled = false

[warnings]
enabled = false
"""
HOOKS = "benchmarks.support.schema_hooks"
OBJECTS = "objects"
OBJECTS_VARIABLE = "NORMGAUGE_SCHEMA_CHECK_OBJECTS"


def check(url: str, *, folder: Path, examples: int, seed: int, token: str | None = None) -> tuple[int, str]:
    """Return the exit status and the report of one run of schemathesis against a server.

    Args:
        folder: where it may write; `settings_for` lets the service read objects in it.
        examples: requests an operation and phase.
        token: an API key.
    """
    configuration = folder / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [sys.executable, "-W", "ignore", "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["--config-file", str(configuration), "run", f"{url}/openapi.json"]
    command += ["--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-color"]
    # Its own 10 s are not enough for a first report, which imports matplotlib, on a busy machine.
    command += ["--request-timeout", "120"]
    command += ["--suppress-health-check", "all", "--generation-database", "none"]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": HOOKS,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        OBJECTS_VARIABLE: str(folder / OBJECTS),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def settings_for(database_url: str, folder: Path) -> Settings:
    """Return settings under which the number of requests is no reason to refuse one, and ingest reads a few objects."""
    objects = folder / OBJECTS
    objects.mkdir()
    for number in range(3):
        np.save(objects / f"{number}.npy", np.arange(24.0).reshape(8, 3) + number)
    return Settings(database_url=database_url, port=0, rate_limit="off", ingest_prefixes=(f"{objects.as_uri()}/",))


def make_key(settings: Settings) -> str:
    """Return a new API key of a database, which is brought up to date."""
    store = Store(settings)
    store.migrate()
    _, token = Keys(store.engine).create("schema check")
    store.close()
    return str(token)


def main() -> int:
    """Run it and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open", action="store_true", help="without keys")
    parser.add_argument("--database", metavar="URL", help="default: a new SQLite file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = settings_for(arguments.database or f"sqlite:///{folder}/normgauge.db", folder)
        token = None if arguments.open else make_key(settings)
        with running(settings) as url:
            status, report = check(url, folder=folder, examples=arguments.examples, seed=arguments.seed, token=token)
    print(report)
    return status


if __name__ == "__main__":
    sys.exit(main())
