"""`normgauge bench`: run the benchmarks of a checkout, each in a process of its own."""

import argparse
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from app.errors import CommandError

SPEED = ("_speed", "_cost")
"""Ends of the names of those that print ratios of time within minutes; others fuzz, kill, calibrate or train."""


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmarks named, or all that measure speed; return the first exit status that is not 0."""
    found = _find()
    if arguments.list:
        for name in found:
            print(name)
        return 0
    unknown = sorted(set(arguments.names) - set(found))
    if unknown:
        raise CommandError(f"expected benchmarks among: {', '.join(found) or 'none'}; got {', '.join(unknown)}")
    names = arguments.names or [name for name in found if name.endswith(SPEED)]
    if not names:
        raise CommandError(
            f"expected benchmarks that measure speed (*{', *'.join(SPEED)}); name one: {', '.join(found)}"
        )
    for name in names:
        print(f"== {name}", flush=True)
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        if status:
            return status
    return 0


def _find() -> list[str]:
    root = str(Path.cwd())
    if root not in sys.path:
        sys.path.insert(0, root)
    spec = find_spec("benchmarks")
    if spec is None or not spec.submodule_search_locations:
        raise CommandError(
            "expected a folder benchmarks/ in the working directory; there is none: "
            "run this in a checkout of the project"
        )
    modules = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(module.name for module in modules if not module.ispkg or _runs(module.name))


def _runs(package: str) -> bool:
    return find_spec(f"benchmarks.{package}.__main__") is not None
