"""The demonstration's own tables in the terminal."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.demo.report import Assessed
from app.demo.training import ARMS, Outcome


def print_verdicts(console: Console, assessed: Sequence[Assessed]) -> None:
    """Print for each variant the known right answer beside what the methods flagged."""
    table = Table(
        title="Share of batches that need normalization, batch sizes 4 / 32",
        box=SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("data")
    table.add_column("known answer", max_width=44)
    for name in ("need", "heterogeneity", "published"):
        table.add_column(name, justify="right")
    for entry in assessed:
        by_method: dict[str, list[str]] = {}
        for plan in entry.plans:
            by_method.setdefault(plan.method, []).append(f"{plan.flagged_fraction:.1%}")
        table.add_row(
            entry.variant.name, entry.variant.expected, *(" / ".join(shares) for shares in by_method.values())
        )
    console.print(table)
    for entry in assessed:
        for plan, share in entry.right:
            console.print(
                f"  {entry.variant.name}, batch size {plan.batch_size}, {plan.method}: "
                f"{share:.1%} of batches told apart rightly"
            )
    console.print()


def print_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print test accuracy (mean, lowest and highest seed), time per epoch and share normalized, as measured."""
    table = Table(
        title="Test accuracy over all sources, as measured (mean, lowest to highest seed)",
        box=SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for name in ("sources", "batch size", "arm"):
        table.add_column(name)
    for name in ("accuracy", "lowest", "highest", "seconds an epoch", "batches normalized"):
        table.add_column(name, justify="right")
    last = None
    for (sources, size, arm), runs in grouped(outcomes):
        accuracy = [run.accuracy for run in runs]
        if last not in (None, (sources, size)):
            table.add_section()
        last = (sources, size)
        table.add_row(
            sources,
            str(size),
            ARMS[arm],
            f"{np.mean(accuracy):.3f}",
            f"{min(accuracy):.3f}",
            f"{max(accuracy):.3f}",
            f"{np.mean([run.epoch_s for run in runs]):.2f}",
            f"{np.mean([run.normalized for run in runs]):.0%}",
        )
    console.print(table)


def grouped(outcomes: Sequence[Outcome]) -> Iterator[tuple[tuple[str, int, str], list[Outcome]]]:
    """Yield the runs of each setting, seeds together, in the order of first appearance."""
    groups: dict[tuple[str, int, str], list[Outcome]] = {}
    for outcome in outcomes:
        cell = outcome.cell
        groups.setdefault((cell.sources, cell.batch_size, cell.arm), []).append(outcome)
    yield from groups.items()
