"""The study's command line: `python -m benchmarks.study`; docs/study.md."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.study import document, files, parts, table
from benchmarks.study.records import Finished, read_all
from benchmarks.study.running import path_of, run

HERE = Path(__file__).resolve().parent


def _parser() -> argparse.ArgumentParser:
    root = HERE.parent.parent
    parser = argparse.ArgumentParser("python -m benchmarks.study", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="try the whole path in 3 minutes; its figures show nothing"
    )
    parser.add_argument("--part", action="append", choices=parts.NAMES, help="run this part only; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, one thread each (default 2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where networks are trained")
    parser.add_argument("--data", type=Path, help=f"folder of MNIST and CIFAR files (default: ${files.VARIABLE})")
    parser.add_argument("--results", type=Path, help="folder of the records (default: benchmarks/study/results)")
    parser.add_argument("--documents", type=Path, help="folder of the documents (default: docs)")
    parser.add_argument("--documents-only", action="store_true", help="write the documents from the kept records")
    parser.add_argument("--list", action="store_true", help="print the cells and what they cost, and run nothing")
    parser.set_defaults(root=root)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or what is left of it, and write its documents; return the exit status.

    0: every cell is there; 1: some failed, 130: interrupted; in both cases the rest is kept.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs: expected 1 or more, got {given.jobs}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here; leave it out")
    if given.data is not None:
        # The workers find it there too.
        os.environ[files.VARIABLE] = str(given.data.resolve())
    quick_folder = given.root / "build" / "study-quick"
    results = given.results or (quick_folder / "results" if given.quick else HERE / "results")
    documents = given.documents or (quick_folder if given.quick else given.root / "docs")
    try:
        chosen = {part: parts.cells(part, quick=given.quick, device=given.device) for part in given.part or parts.NAMES}
    except NotADirectoryError as error:
        parser.error(str(error))
    cells = parts.in_turn(chosen)
    if given.list:
        for cell in cells:
            print(f"{cell.cost:7.1f} s  {cell.setting}")
        print(f"{sum(cell.cost for cell in cells):7.1f} s on one core, {len(cells)} cells")
        return 0
    failures = []
    if not given.documents_only:
        started = time.perf_counter()
        try:
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers
            failures = run(cells, results, jobs=given.jobs)
        except KeyboardInterrupt:
            print("interrupted; the finished cells are kept, and the same command goes on from there", file=sys.stderr)
            return 130
        except BlockingIOError as error:
            parser.error(str(error))
        print(f"{len(cells) - len(failures)} of {len(cells)} cells in {time.perf_counter() - started:.0f} s: {results}")
    place = documents / "advice.json" if given.quick or given.documents else table.PLACE
    write(results, documents, place, quick=given.quick)
    return 1 if failures else 0


def write(results: Path, documents: Path, place: Path, *, quick: bool) -> None:
    """Write the documents and, to `place`, the advisor's table, from the kept records of all parts."""
    records = [record for part in parts.NAMES for record in read_all(path_of(results, part))]
    if not records:
        raise SystemExit(f"no records in {results}: run `python -m benchmarks.study` first, or give --results")
    documents.mkdir(parents=True, exist_ok=True)
    document.write([record for record in records if not isinstance(record, Finished)], documents, quick=quick)
    made = table.write(records, place)
    print(f"documents: {documents}; advisor's table: {place if made else 'no cell for it yet, not written'}")


if __name__ == "__main__":
    sys.exit(main())
