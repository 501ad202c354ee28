"""A plan in columns: its size, how long it takes to open, and to look a batch up.

    python -m benchmarks.scaling_plans                     # 1e9 batches: 16 GB of disk for a while
    python -m benchmarks.scaling_plans --batches 10000000

The plan has random scores and one cutoff; it is opened in a new process, by one rank and by two at a time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assessor.order import SampleOrder, fingerprint
from assessor.packed_bits import PackedBits
from assessor.plan_arrow import write_columns
from assessor.plan_file import SCHEMA

STEP = 1 << 24
CUTOFF = 1.0
OPEN = """
import sys, time, json, resource
import numpy as np
from assessor import Plan
import pyarrow.ipc
began = time.perf_counter()
plan = Plan.load(sys.argv[1])
opened = time.perf_counter() - began
picked = np.random.default_rng(int(sys.argv[2])).integers(0, len(plan), 20_000).tolist()
began = time.perf_counter()
first = plan[picked[0]]
first_s = time.perf_counter() - began
began = time.perf_counter()
flagged = sum(bool(plan.normalize[i]) for i in picked)
bits_s = (time.perf_counter() - began) / len(picked)
began = time.perf_counter()
for i in picked[:2000]:
    decision = plan[i]
    assert decision.normalize == (decision.score > decision.cutoff)
decision_s = (time.perf_counter() - began) / 2000
began = time.perf_counter()
share = plan.flagged_fraction
share_s = time.perf_counter() - began
status = open("/proc/self/status").read()
own = int(status.split("RssAnon:")[1].split()[0]) / 1024
print(json.dumps({"open s": opened, "first decision s": first_s, "look-up of a bit us": bits_s * 1e6,
    "decision with score and reason us": decision_s * 1e6, "flagged share": share, "counting it s": share_s,
    "memory of its own MB": own}))
"""


def write_plan(path: Path, n: int) -> float:
    """Write a plan of n batches; return the seconds that writing its columns took."""
    random = np.random.default_rng(0)
    scores = np.memmap(path.with_suffix(".scores"), np.float64, "w+", shape=(n,))
    bits = np.zeros(-(-n // 8), np.uint8)
    for start in range(0, n, STEP):
        stop = min(n, start + STEP)
        scores[start:stop] = random.standard_exponential(stop - start)
        bits[start // 8 : -(-stop // 8)] = np.packbits(scores[start:stop] > CUTOFF, bitorder="little")
    description = {
        "schema": SCHEMA,
        "method": "random",
        "measure": "random",
        "threshold": f"fixed({CUTOFF:g})",
        "batch_size": 32,
        "drop_last": False,
        "n_rows": 32 * n,
        "order": SampleOrder.ROWS.to_dict(),
        "fingerprint": fingerprint(SampleOrder.ROWS, 32 * n, 32, False),
        "decomposition": None,
        "action": "normalize",
        "recommendation": "a measurement",
        "notes": [],
        "rule": {},
        "cutoffs": [CUTOFF],
    }
    began = time.perf_counter()
    write_columns(path, description, {"normalize": PackedBits(bits, n), "score": scores})
    took = time.perf_counter() - began
    path.with_suffix(".scores").unlink()
    print(f"{n:,} batches: decisions {bits.nbytes / 1e6:.1f} MB, file {path.stat().st_size / 1e9:.2f} GB, ", end="")
    return took


def open_in_processes(path: Path, ranks: int) -> None:
    """Print what each of some processes measures that map the file at the same time."""
    command = [sys.executable, "-c", OPEN, str(path)]
    started = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(ranks)]
    for rank, process in enumerate(started):
        out, _ = process.communicate()
        told = ", ".join(f"{name} {value:.4g}" for name, value in json.loads(out).items())
        print(f"rank {rank} of {ranks}: {told}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1_000_000_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.arrow")
        took = write_plan(path, options.batches)
        print(f"written in {took:.1f} s")
        for ranks in (1, 2):
            open_in_processes(path, ranks)


if __name__ == "__main__":
    main()
