"""`normgauge bench`: run the modules of benchmarks/, each in a process of its own."""

import argparse
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from app.errors import CommandError


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmarks named, or all; return the first exit status that is not 0."""
    found = _find()
    if arguments.list:
        for name in found:
            print(name)
        return 0
    unknown = sorted(set(arguments.names) - set(found))
    if unknown:
        raise CommandError(f"expected benchmarks among: {', '.join(found) or 'none'}; got {', '.join(unknown)}")
    names = arguments.names or found
    if not names:
        raise CommandError("expected a module in benchmarks/; there is none yet")
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
    return sorted(module.name for module in modules if not module.name.startswith("_"))
