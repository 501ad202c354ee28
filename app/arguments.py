"""The command line's parser: every option, with its help; nothing of the commands is imported for it."""

import argparse
from importlib.metadata import version
from typing import TypeAlias

from app.engines import add_engine
from app.making import nameable
from app.operating import add_db, add_keys
from app.outcome import read_condition
from assessor import formats, methods
from assessor.advice import NETWORKS

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

STATUS = """\
exit status:
  0    done
  1    the data or the surroundings do not allow it; one line on standard error says why
  2    wrong usage
"""
FAIL_STATUS = """\
  3    with --fail-on: batches are flagged, or more than the share given
  4    with --fail-on: nothing is flagged, but some plan has no batch with a defined score
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="normgauge",
        description="Tells, before training, which batches of a dataset need normalization.",
        epilog="Examples:\n"
        "  normgauge demo\n"
        "  normgauge assess data.npy --batch-size 8,32\n"
        "  normgauge plan show plan.json\n"
        "  normgauge serve\n\n" + STATUS + "  130  interrupted\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"normgauge {version('normgauge')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    add_keys(commands)
    add_db(commands)
    _add_assess(commands)
    _add_plan(commands)
    _add_drift(commands)
    _add_demo(commands)
    _add_bench(commands)
    return parser


def _add(commands: Commands, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_serve(commands: Commands) -> None:
    parser = _add(
        commands,
        "serve",
        "run the service",
        "Runs the service until it is interrupted. Options not given come from the environment\n"
        "(NORMGAUGE_HOST, NORMGAUGE_PORT, ...; see docs/operations.md).",
        "Example:\n  normgauge serve --port 9000 --database sqlite:////data/normgauge.db",
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (8000)")
    parser.add_argument("--database", metavar="URL", help="SQLAlchemy URL (default sqlite:///normgauge.db)")
    parser.add_argument(
        "--print-settings", action="store_true", help="print every setting with its value and source, and exit"
    )
    parser.add_argument("--json", action="store_true", help="with --print-settings: as JSON")


def _add_assess(commands: Commands) -> None:
    parser = _add(
        commands,
        "assess",
        "plan files without a service",
        "Reads shards as one dataset, in the order given, and prints a plan for each batch size and\n"
        "method. Profiles saved with --profile can be given in place of shards; then no data is read.",
        "Examples:\n"
        "  normgauge assess part-*.npy --batch-size 4,8,16,32\n"
        "  normgauge assess train.npy --batch-size 32 --save plan.json --report report.html\n"
        "  normgauge assess table.csv --batch-size 16 --nonfinite exclude\n"
        "  normgauge assess table.csv --batch-size 16 --columns width,height --label-column species\n"
        "  normgauge assess images.npy --labels digits.csv --batch-size 32 --method published\n"
        "  normgauge assess train.npy --batch-size 4,32 --profile train.profile\n"
        "  normgauge assess train.profile --method need,heterogeneity\n"
        "  normgauge assess train.npy --method bartlett --threshold quantile:0.9\n"
        "  normgauge assess 's3://bucket/train/*.safetensors' --batch-size 32 --engine ray --save plan.arrow\n"
        "  normgauge assess new.npy --reference train.profile --method population_divergence --threshold 0.5\n"
        "  normgauge assess train.npy --batch-size 32 --quiet --fail-on 5% || echo look at the data\n\n"
        + STATUS
        + FAIL_STATUS,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="shards in row order (files, folders of pictures), or saved profiles; or URIs, patterns "
        "('s3://bucket/part-*.npy') and manifests (@list.jsonl)",
    )
    parser.add_argument(
        "--batch-size",
        type=_integers,
        metavar="N[,N...]",
        help="samples in a batch, 32 by default; several are profiled in one pass (saved profiles: all of theirs)",
    )
    _add_method(parser, several="several make several plans")
    parser.add_argument(
        "--threshold",
        help='a cutoff (1.5) or a threshold method (quantile:0.9 or "quantile(0.9)", otsu, "null(0.01)"), for all '
        "methods; a measure needs one",
    )
    _add_method_options(parser)
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="a saved profile of earlier data, from which population_divergence measures each batch",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="one integer a row: npy, or text with one a line; default: the shards' own y, where they have one",
    )
    parser.add_argument(
        "--feature-axis",
        help="element (default): every element of a sample is a feature; channel: axis 1 is",
    )
    _add_decoding(parser)
    add_engine(parser)
    parser.add_argument("--profile", metavar="FILE", help="save what was read of the data, for plans without the data")
    _add_outputs(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no table")
    _add_fail_on(parser)


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nonfinite",
        metavar="POLICY",
        help="rows with NaN, infinity or missing values: raise an error (default), exclude them, or normalize: exclude "
        "them and mark their batches",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help=f"of the shards: {', '.join(formats.names())}; default: recognized by the first bytes or the name's end",
    )
    parser.add_argument(
        "--columns", type=_names, metavar="NAME[,NAME...]", help="tables: the columns that are features (default all)"
    )
    parser.add_argument(
        "--label-column", metavar="NAME", help="tables: the column of labels (default y or label, where there is one)"
    )


def _add_drift(commands: Commands) -> None:
    parser = _add(
        commands,
        "drift",
        "compare new data with earlier data",
        "Says how far each feature of new data has moved from a saved profile of earlier data, in nats:\n"
        "the divergence KL( N(mean, variance) || N(mean, variance) of the earlier data ).",
        "Examples:\n"
        "  normgauge assess train.npy --batch-size 32 --profile train.profile\n"
        "  normgauge drift new.npy --against train.profile\n"
        "  normgauge drift new-*.npy --against train.profile --json\n"
        "  normgauge drift new.npy --against train.profile --fail-above 0.1 || echo the data has moved\n\n"
        + STATUS
        + "  3    with --fail-above: the mean drift is above it, or a feature has changed beyond comparison\n",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="shards in row order, or saved profiles")
    parser.add_argument("--against", required=True, metavar="FILE", help="a profile saved by assess --profile")
    _add_decoding(parser)
    parser.add_argument("--most", type=int, default=10, metavar="N", help="features listed, the furthest first (10)")
    parser.add_argument("--json", action="store_true", help="print the drift of every feature as one line of JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table")
    parser.add_argument(
        "--fail-above", type=float, metavar="NATS", help="exit with status 3 when the mean drift is above this"
    )


def _add_plan(commands: Commands) -> None:
    parser = _add(
        commands,
        "plan",
        "show plans, compare two, try another cutoff",
        "Works on plans written by assess --save or by the service, and on saved profiles.",
        "Examples:\n"
        "  normgauge plan show plan.json\n"
        "  normgauge plan diff before.json after.json\n"
        "  normgauge plan what-if train.profile --threshold 0.5,1,2",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_show(actions)
    _add_diff(actions)
    _add_what_if(actions)


def _add_show(actions: Commands) -> None:
    parser = _add(
        actions,
        "show",
        "print plans",
        "Prints plans: their batches, scores, advice and notes; with --batches also single decisions.",
        "Examples:\n"
        "  normgauge plan show plan.json\n"
        "  normgauge plan show plan.json --batches flagged\n"
        "  normgauge plan show plan.json --batches 0,7,20-29\n"
        "  normgauge plan show plan.json --fail-on flagged\n\n" + STATUS + FAIL_STATUS,
    )
    parser.add_argument("plans", nargs="+", metavar="PLAN", help="a plan file")
    parser.add_argument("--batches", metavar="WHICH", help="list decisions: all, flagged, or numbers as in 0,7,20-29")
    parser.add_argument("--json", action="store_true", help="print the decisions chosen as JSON, one a line")
    _add_network(parser)
    _add_report(parser)
    _add_fail_on(parser)


def _add_diff(actions: Commands) -> None:
    parser = _add(
        actions,
        "diff",
        "compare two plans",
        "Says which batches two plans decide differently, and what else differs.",
        "Examples:\n"
        "  normgauge plan diff before.json after.json\n"
        "  normgauge plan diff need.json heterogeneity.json --json\n\n"
        + STATUS
        + "  3    the plans differ: other batches, or another decision for some batch\n"
        "       (scores and cutoffs that differ without changing a decision are printed, status 0)\n",
    )
    parser.add_argument("a", metavar="A", help="a plan file")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument("--all", action="store_true", help="list every batch that differs, not the first 20")
    parser.add_argument("--json", action="store_true", help="print the comparison as one line of JSON")


def _add_what_if(actions: Commands) -> None:
    parser = _add(
        actions,
        "what-if",
        "try other cutoffs or methods without the data",
        "Applies cutoffs to a plan's scores, or any method and threshold to a saved profile.\n"
        "A plan holds scores only, so other methods, batch sizes and null(...) need a profile.",
        "Examples:\n"
        "  normgauge plan what-if plan.json --threshold 0.5,1,2\n"
        "  normgauge plan what-if train.profile --method heterogeneity --threshold 'null(0.05)'\n"
        "  normgauge plan what-if plan.json --threshold 2 --save stricter.json\n\n" + STATUS + FAIL_STATUS,
    )
    parser.add_argument("source", metavar="PLAN|PROFILE", help="a plan file, or a profile saved by assess --profile")
    parser.add_argument(
        "--threshold",
        metavar="T[,T...]",
        help='cutoffs (0.5,1,2) or threshold methods (quantile:0.9, "null(0.01)"); one plan each',
    )
    parser.add_argument("--batch-size", type=_integers, metavar="N[,N...]", help="profile only: default all of its own")
    _add_method(parser, several="profile only", default=None)
    _add_method_options(parser)
    _add_outputs(parser)
    _add_fail_on(parser)


def _add_method(parser: argparse.ArgumentParser, *, several: str, default: str | None = "need") -> None:
    parser.add_argument(
        "--method",
        type=_names,
        default=default and [default],
        metavar="NAME[,NAME...]",
        help=f"{', '.join(methods.names())}, default need; or with --threshold a measure: "
        f"{', '.join(name for name in nameable() if name not in methods.names())}; {several}",
    )


def _add_method_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drop-last", action="store_true", help="leave out the last batch where it is short")
    parser.add_argument("--null", help="methods with a null only: residual (default) or normal")
    parser.add_argument(
        "--published-exact",
        action="store_true",
        help="published only: the released code's own reading of the rule",
    )
    parser.add_argument("--corrected", action="store_true", help="location_share only: epsilon squared")
    _add_network(parser)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network", metavar="FAMILY", help=f"that the advice is for: {', '.join(NETWORKS)} or unknown (default)"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the plans as JSON, one a line, and no table")
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write the plan; where there are several, with {batch_size}, {method} or {threshold} in the name",
    )
    _add_report(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report", metavar="FILE", help="write a report as one HTML file (extra: report)")
    parser.add_argument("--png", metavar="FILE", help="write the report's plots as one picture (extra: report)")


def _add_fail_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fail-on",
        type=_condition,
        metavar="WHEN",
        help="exit with status 3 when a plan flags any batch (flagged), or more than a share of them (5%% or 0.05)",
    )


def _add_demo(commands: Commands) -> None:
    parser = _add(
        commands,
        "demo",
        "the main job, end to end, on real data",
        "Starts the service, sends it scikit-learn's digits, prints plans, trains small networks\n"
        "under them and writes a report.",
        "Example:\n  normgauge demo --quick --report digits.html",
    )
    parser.add_argument(
        "--report", default="normgauge-demo.html", metavar="PATH", help="where it goes, default %(default)s"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="training runs of each kind, default 3 (--quick: 1)")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and one seed")


def _add_bench(commands: Commands) -> None:
    parser = _add(
        commands,
        "bench",
        "measure speed and memory (in a checkout)",
        "Runs the measurements in benchmarks/ of a checkout; without a name, those of speed.",
        "Example:\n  normgauge bench --list",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run")
    parser.add_argument("--list", action="store_true", help="list those that exist")


def _integers(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected integers separated by commas, as in 4,32; got {text!r}") from None


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _condition(text: str) -> float:
    try:
        return read_condition(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
