"""The table of speeds: which cases there are, its figures, and where it is written."""

import subprocess
import sys

import pytest

from benchmarks.layers_speed import MARKS, Case, Timed, cases, place, table


def test_cases() -> None:
    assert len(list(cases(quick=True, full=False))) == 2
    usual = list(cases(quick=False, full=False))
    assert len(usual) == 8
    assert {case.shape for case in usual} == {(64, 64, 56, 56)}
    every = list(cases(quick=False, full=True))
    assert set(usual) < set(every)
    assert len(every) == 3 * 8 + 4  # the shape of two axes has one layout


def test_figures_of_a_row() -> None:
    case = Case((1000, 1000), "float32", "contiguous", "eager")
    # a copy moves 8 MB in 1 ms: 8 GB/s; forward 12 MB in 3 ms: 4 GB/s; both 32 MB in 5 ms: 6.4 GB/s
    lines = table(case, {"torch BatchNorm": Timed(0.002, 0.004), "layer": Timed(0.003, 0.005)}, 0.001)
    # of mean-only norm both are 24 MB, in 6 ms: 4 GB/s
    (row,) = table(case, {"torch BatchNorm": Timed(0.002, 0.004), "mean_only": Timed(0.003, 0.006)}, 0.001)[-2:-1]
    assert row.endswith("| 0.50 | 0.50 |")
    assert lines[2] == "copy 1.000 ms, 8.0 GB/s"
    assert lines[-2] == "| layer | 3.000 | 5.000 | 1.50 | 1.25 | 0.50 | 0.80 |"


def test_tables_stand_between_the_marks() -> None:
    text = f"# Speed\n\n{MARKS[0]}\nold\n{MARKS[1]}\n\nafter\n"
    once = place(text, ["new", ""])
    assert once == f"# Speed\n\n{MARKS[0]}\n\nnew\n\n{MARKS[1]}\n\nafter\n"
    assert place(once, ["new", ""]) == once
    with pytest.raises(ValueError, match="expected one line"):
        place("# Speed", ["new"])


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_memory_is_kept_or_not() -> None:
    """Page faults of a large tensor that is made, written and freed again and again; a process of its own for each."""
    code = """
import resource, sys, torch
from benchmarks.layers_speed import set_memory
assert set_memory(sys.argv[1]) == f"memory {sys.argv[1]}"
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults()]
for _ in range(9):
    torch.ones(2**23)
    counts.append(faults())
# the median of nine: what else is made meanwhile may move the tensor once
print(sorted(b - a for a, b in zip(counts, counts[1:]))[4])
"""
    kept, fresh = (
        int(subprocess.run([sys.executable, "-c", code, kind], check=True, capture_output=True, text=True).stdout)
        for kind in ("kept", "fresh")
    )
    assert kept < 2**25 // 2**21 <= fresh  # 32 MiB in pages of 2 MiB at the largest
