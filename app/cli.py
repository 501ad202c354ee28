"""The command line: `normgauge serve | assess | demo | bench`.

Only the parser lives here; each subcommand is a module of `app.commands`, imported when it runs, so that `assess` works
where neither the service's packages nor torch are installed.

Exit status: 0 done, 1 the data or the surroundings do not allow it (one line on stderr says why), 2 wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from app.errors import CommandError
from assessor import AssessorError

_EXTRAS = {
    "fastapi": "app",
    "uvicorn": "app",
    "pydantic": "app",
    "pydantic_settings": "app",
    "sqlalchemy": "app",
    "torch": "torch",
    "httpx": "torch",
    "matplotlib": "demo",
    "jinja2": "demo",
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
    except (AssessorError, CommandError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of the output has left (`| head`): no fault, but nothing more can be written, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    assert isinstance(status, int)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="normgauge",
        description="Tells, before training, which batches of a dataset need normalization.",
        epilog="Examples: normgauge demo | normgauge assess data.npy --batch-size 32 | normgauge serve",
    )
    parser.add_argument("--version", action="version", version=f"normgauge {version('normgauge')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_assess(commands)
    _add_demo(commands)
    _add_bench(commands)
    return parser


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "serve",
        help="run the service",
        description="Runs the service until it is interrupted. Options not given come from the "
        "environment (NORMGAUGE_HOST, NORMGAUGE_PORT, ...; see docs/operations.md).",
        epilog="Example: normgauge serve --port 9000 --database sqlite:////data/normgauge.db",
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (8000)")
    parser.add_argument("--database", metavar="URL", help="SQLAlchemy URL (default sqlite:///normgauge.db)")


def _add_assess(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "assess",
        help="plan files without a service",
        description="Reads shards (npy or safetensors) as one dataset, in the order given, and "
        "prints a plan for each batch size and method.",
        epilog="Examples: normgauge assess part-*.npy --batch-size 4,32 --method need,heterogeneity"
        " | normgauge assess train.npy --batch-size 32 --save plan.json",
        formatter_class=argparse.HelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a shard; several in row order")
    parser.add_argument(
        "--batch-size",
        type=_integers,
        required=True,
        metavar="N[,N...]",
        help="samples in a batch; several are profiled in one pass",
    )
    parser.add_argument(
        "--method",
        type=_names,
        default=["need"],
        metavar="NAME[,NAME...]",
        help="need (default), heterogeneity, published",
    )
    parser.add_argument("--threshold", help='a cutoff (1.5) or a threshold method ("null(0.01)"), for all methods')
    parser.add_argument("--drop-last", action="store_true", help="leave out the last batch where it is short")
    parser.add_argument(
        "--feature-axis",
        default="element",
        help="element (default): every element of a sample is a feature; channel: axis 1 is",
    )
    parser.add_argument("--null", help="heterogeneity only: residual (default) or normal")
    parser.add_argument(
        "--published-exact",
        action="store_true",
        help="published only: the released code's own reading of the rule",
    )
    parser.add_argument("--json", action="store_true", help="print the plans as JSON, one a line, and no table")
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write the plan; where there are several, with {batch_size} and {method} in the name",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "demo",
        help="the main job, end to end, on real data",
        description="Starts the service, sends it scikit-learn's digits, prints plans, trains "
        "small networks under them and writes a report.",
        epilog="Example: normgauge demo --quick --report digits.html",
    )
    parser.add_argument("--report", default="normgauge-demo.html", metavar="PATH", help="where the report goes")
    parser.add_argument("--seeds", type=int, metavar="N", help="training runs of each kind")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and one seed")


def _add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory (in a checkout)",
        description="Runs the measurements in benchmarks/ of a checkout; without a name, all.",
        epilog="Example: normgauge bench --list",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run")
    parser.add_argument("--list", action="store_true", help="list those that exist")


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected integers separated by commas, as in 4,32; got {text!r}") from None


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _missing_package(error: ModuleNotFoundError, command: str) -> str:
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise error
    extra = "demo" if command == "demo" else _EXTRAS[package]
    return f"{command} needs {package}, which is not installed; run: pip install 'normgauge[{extra}]'"


def _fail(message: str) -> int:
    print(f"normgauge: {message}", file=sys.stderr)
    return 1
