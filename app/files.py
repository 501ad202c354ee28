"""Files that a command writes: whole or not there, and never over what it reads."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from app.errors import CommandError


def write_file(path: str | Path, content: bytes) -> Path:
    """Write a file and return its path; where it cannot be written whole, nothing is at the path."""
    target = Path(path)
    partial = target.with_name(target.name + ".part")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def check_outputs(outputs: Iterable[str | None], inputs: Sequence[str | Path]) -> None:
    """Check, before anything is read, that the files to write are not those to read, and each has its own name.

    Raises:
        CommandError: names the file.
    """
    read = {Path(path).resolve() for path in inputs}
    written: set[Path] = set()
    for name in outputs:
        if name is None:
            continue
        path = Path(name).resolve()
        if path in read:
            raise CommandError(f"expected another file to write to than those that are read; got {name}: rename it")
        if path in written:
            raise CommandError(f"expected a file name for each thing to write; got {name} twice: rename one")
        if path.is_dir():
            raise CommandError(f"expected the name of a file to write; got {name}, which is a folder: add a file name")
        if not path.parent.is_dir():
            raise CommandError(f"expected a folder that exists for {name}; No such file or directory: {path.parent}")
        written.add(path)
