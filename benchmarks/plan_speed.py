"""Time to make a plan of 1,000,000 batches from a profile, by method, and what the profile and the plan weigh.

python -m benchmarks.plan_speed [--batches 1000000]
"""

import argparse
import time

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from assessor import make_plan, methods, profile_array

BATCH_SIZE, FEATURES, REPEATS = 4, 8, 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1_000_000)
    batches = parser.parse_args().batches
    x = np.random.default_rng(0).standard_normal((batches * BATCH_SIZE, FEATURES), np.float32)
    labels = np.arange(len(x)) % 10
    profile = profile_array(x, batch_sizes=[BATCH_SIZE], labels=labels)
    weight = len(profile.to_bytes())
    table = Table(
        title=f"{batches:,} batches of {BATCH_SIZE} x {FEATURES}; profile {weight / batches:.0f} bytes a batch, "
        f"of which {16 * BATCH_SIZE} for means and labels of the samples",
        box=SIMPLE_HEAD,
        title_justify="left",
    )
    for column in ("method", "seconds, median", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method in methods.names():
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            make_plan(profile, method=method)
            seconds.append(time.perf_counter() - start)
        table.add_row(method, f"{np.median(seconds):.3f}", f"{min(seconds):.3f}", f"{max(seconds):.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
