"""Every decoder under mutated shards: an error of ours or a result, nothing else.

    python -m benchmarks.fuzz_formats --inputs 100000 --seed 1

Each format's inputs run in a process of their own, with bounded memory (RLIMIT_AS over what it has after imports) and
watched: an input on which it ends, or stays longer than --seconds, is a finding, and the rest goes on after it. A
finding is named by its format, seed and number: `benchmarks.support.mutation.mutated` makes it again.
"""

import argparse
import io
import json
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from assessor import AssessorError, DecodeSettings, profile_shard
from assessor.formats import parquet
from assessor.kernels import warm
from assessor.profile import NONFINITE
from benchmarks.support.mutation import BODIES, mutated

LIMITS = DecodeSettings(
    max_features=1 << 16, max_spool_bytes=1 << 24, max_decoded_bytes=1 << 26, max_page_bytes=1 << 24
)
"""Small enough that a shard which only claims to be large is soon over."""
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
"""Allocators that reserve no address space ahead, so that its limit is one of memory used."""


class Dripping(io.BytesIO):
    """A stream that gives its bytes in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece."""
        return super().read(self._size)


def decode(name: str, body: bytes, random: Random) -> str:
    """Return "read" or "refused" for a body that comes in pieces of some size; raises what should not be."""
    stream = Dripping(body, random.choice([1, 7, 64, 1000, 1 << 20]))
    recognize = random.random() < 0.1
    parquet.HELD_BYTES = random.choice([1, 32 << 20])  # both ways to read columns
    nonfinite = random.choice(NONFINITE)
    try:
        profile_shard(
            stream,
            format=None if recognize else name,
            batch_sizes=[2],
            settings=LIMITS,
            calibration_rows=4,
            nonfinite=nonfinite,
        )
    except AssessorError as error:
        if not str(error).startswith("expected "):
            raise AssertionError(f"a message that does not say what was expected: {error}") from error
        return "refused"
    return "read"


def work(name: str, seed: int, start: int, stop: int, place: Path, memory_mb: int) -> int:
    """Run inputs, noting in a file which one is at work; print the counts."""
    warm()
    decode(name, BODIES[name][0], Random(0))
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + (memory_mb << 20), -1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counts: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    slowest, slowest_at = 0.0, -1
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 8) as note:
        for number in range(start, stop):
            note[:] = number.to_bytes(8, "little")
            body = mutated(name, seed, number)
            began = time.perf_counter()
            try:
                counts[decode(name, body, Random(number))] += 1
            except BaseException as error:
                counts["findings"] += 1
                findings.append({"number": number, "error": f"{type(error).__name__}: {error!s:.300}"})
            took = time.perf_counter() - began
            if took > slowest:
                slowest, slowest_at = took, number
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps([dict(counts), findings[:20], slowest, slowest_at, peak_mb]))
    return 0


def _address_space() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def fuzz(name: str, seed: int, inputs: int, memory_mb: int, seconds: float) -> dict[str, Any]:
    """Return what a format's inputs came to."""
    total: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    slowest, peak_mb, start = 0.0, 0, 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "at"
        while start < inputs:
            place.write_bytes(start.to_bytes(8, "little"))
            command = [sys.executable, "-m", "benchmarks.fuzz_formats", "--worker", name, "--seed", str(seed)]
            command += ["--start", str(start), "--inputs", str(inputs), "--place", str(place)]
            command += ["--memory-mb", str(memory_mb)]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT}
            )
            hung = _watch(process, place, seconds)
            assert process.stdout is not None
            output = process.stdout.read()
            process.stdout.close()
            if process.returncode == 0:
                counts, found, slow, _, peak = json.loads(output)
                total.update(counts)
                findings += found
                slowest, peak_mb = max(slowest, slow), max(peak_mb, peak)
                break
            # The counts of the inputs before it went with the process: those were neither crash nor hang.
            at = int.from_bytes(place.read_bytes(), "little")
            total.update({"uncounted": at - start, "findings": 1})
            findings.append(
                {"number": at, "error": f"longer than {seconds} s" if hung else f"exit {process.returncode}"}
            )
            start = at + 1
    return {
        "format": name,
        **total,
        "slowest_s": round(slowest, 3),
        "peak_mb": peak_mb,
        "seconds": round(time.perf_counter() - began, 1),
        "found": findings[:20],
    }


def _watch(process: subprocess.Popen[bytes], place: Path, seconds: float) -> bool:
    """Wait for a worker; end it, and return True, when it stays on one input too long."""
    last, since = b"", time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)  # how often a hanging input is looked for
        here = place.read_bytes()
        if here != last:
            last, since = here, time.monotonic()
        # The first input waits for imports and for the compiler.
        if time.monotonic() - since > seconds + 20:
            process.kill()
            process.wait()
            return True
    return False


def main() -> int:
    """Print a line a format; return 1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(BODIES), help="comma-separated")
    parser.add_argument("--memory-mb", type=int, default=256, help="address space beyond that after imports")
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time on one input")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(
            arguments.worker,
            arguments.seed,
            arguments.start,
            arguments.inputs,
            arguments.place,
            arguments.memory_mb,
        )
    names = arguments.formats.split(",")
    results = []
    for name in names:
        results.append(
            fuzz(name, arguments.seed, -(-arguments.inputs // len(names)), arguments.memory_mb, arguments.seconds)
        )
        print(json.dumps(results[-1]), flush=True)
    failed = sum(result.get("findings", 0) for result in results)
    print(f"{sum(-(-arguments.inputs // len(names)) for _ in names)} inputs, seed {arguments.seed}: {failed} findings")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
