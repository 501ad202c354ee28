"""The demonstration's steps, in order: serve, send, plan, train, report."""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console

from app.demo.assessing import fetch, send, told_apart
from app.demo.report import Assessed, write_report
from app.demo.tables import print_outcomes, print_verdicts
from app.demo.training import train_all
from app.demo.variants import make_variants
from app.serving import running
from app.settings import Settings
from app.tables import make_console, print_plans
from clients import AssessorClient

QUICK_SEEDS = 1
SEEDS = 3


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; return the exit status.

    Args:
        arguments: report (path of the HTML report), seeds (training runs a setting, or None), quick (one seed).
    """
    console = make_console()
    started = time.perf_counter()
    seeds = arguments.seeds or (QUICK_SEEDS if arguments.quick else SEEDS)
    with tempfile.TemporaryDirectory(prefix="normgauge-demo-") as folder:
        settings = Settings(database_url=f"sqlite:///{Path(folder) / 'demo.db'}", port=0)
        with running(settings) as url, AssessorClient(url) as client:
            _say(console, f"1. The service listens on {url}, SQLite in a temporary folder.")
            assessed = _assess(console, client)
            _say(console, "5. Train small networks on the digits, each arm on the same batches.")
            outcomes = list(train_all(client, seeds))
            print_outcomes(console, outcomes)
    path = write_report(Path(arguments.report), assessed, outcomes)
    _say(console, f"6. Report: {path.resolve()}")
    console.print(f"Done in {time.perf_counter() - started:.0f} s.")
    return 0


def _assess(console: Console, client: AssessorClient) -> list[Assessed]:
    assessed = []
    for number, variant in enumerate(make_variants()):
        shape = " x ".join(map(str, variant.x.shape))
        step = "2-3. Real digits" if number == 0 else f"4. Variant {number}"
        _say(console, f"{step}, {variant.name}: {shape} float32, five shards sent out of order.")
        plans = fetch(client, send(client, variant))
        print_plans(console, plans, title=f"{variant.name}: {variant.expected}")
        assessed.append(Assessed(variant, plans, told_apart(variant, plans)))
    print_verdicts(console, assessed)
    return assessed


def _say(console: Console, text: str) -> None:
    console.rule(f"[bold]{text}[/]", align="left")
