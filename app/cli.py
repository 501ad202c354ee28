"""The command line: `normgauge serve | keys | db | assess | plan | demo | bench`.

Each subcommand is a module of `app.commands`, imported when it runs, so that `assess` works where neither the
service's packages nor torch are installed. The options stand in `app.arguments`.

Exit status: 0 done, 1 the data or the surroundings do not allow it (one line on stderr says why), 2 wrong usage, 3 and
4 as the command's help says, 130 interrupted. See docs/cli.md.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from app.arguments import build_parser
from app.errors import CommandError, UsageError
from app.outcome import DONE, FAILED, INTERRUPTED, USAGE
from assessor import AssessorError

__all__ = ["build_parser", "main"]

_EXTRAS = {
    "fastapi": "app",
    "uvicorn": "app",
    "pydantic": "app",
    "pydantic_settings": "app",
    "sqlalchemy": "app",
    "alembic": "app",
    "limits": "app",
    "torch": "torch",
    "httpx": "torch",
    "matplotlib": "report",
    "jinja2": "report",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; `argv` defaults to the process's arguments."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        command = import_module(f"app.commands.{arguments.command}")
        status = command.run(arguments)
    except ModuleNotFoundError as error:
        return _fail(_missing_package(error, arguments.command))
    except UsageError as error:
        _fail(f"{error} (see normgauge {arguments.command} --help)")
        return USAGE
    except (AssessorError, CommandError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of the output has left (`| head`): no fault, but nothing more can be written, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
    except MemoryError:
        return _fail("not enough memory: profile fewer batch sizes, or the shards one by one")
    except KeyboardInterrupt:
        _fail("interrupted")
        return INTERRUPTED
    assert isinstance(status, int)
    return status


def _missing_package(error: ModuleNotFoundError, command: str) -> str:
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise error
    extra = "demo" if command == "demo" else _EXTRAS[package]
    needy = "a report" if extra == "report" else command
    return f"{needy} needs {package}, which is not installed; run: pip install 'normgauge[{extra}]'"


def _fail(message: str) -> int:
    # Names of files may hold line ends; the message is one line all the same.
    print(f"normgauge: {' '.join(message.splitlines())}", file=sys.stderr)
    return FAILED
