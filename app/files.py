"""Files that a command writes: whole or not there, and never over what it reads."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeAlias

from app.errors import CommandError
from assessor import AssessorError
from assessor.whole_files import written_whole

Write: TypeAlias = Callable[[str, Callable[[str], object]], None]
"""Writes to a place, by a function of the place."""


def write_plainly(name: str, write: Callable[[str], object]) -> None:
    """Write to a place; raises what the function raises."""
    write(name)


@contextmanager
def keeping() -> Iterator[Write]:
    """Give a way to write that loses no work: what cannot be written goes to the current folder, over no other file.

    Raises:
        CommandError: at the end of the block, naming what could not be written, and where it is.
    """
    failed: list[str] = []

    def write_or_keep(name: str, write: Callable[[str], object]) -> None:
        try:
            write(name)
        except (AssessorError, OSError) as error:
            failed.append(f"{name} could not be written ({error}): {_keep(name, write)}")

    try:
        yield write_or_keep
    finally:
        if failed:
            raise CommandError("; ".join(failed))


def _keep(name: str, write: Callable[[str], object]) -> str:
    """Write to the current folder instead; return what to tell."""
    try:
        path = _take_name(Path(name).name)
        try:
            write(str(path))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except (AssessorError, OSError) as error:
        return f"nor could it be kept in the current folder ({error})"
    return f"it is kept in {path}"


def _take_name(name: str) -> Path:
    """Return the path of a new, empty file of the current folder, with a number in its name where that is taken."""
    for number in count():
        path = Path(name).absolute()
        path = path.with_stem(f"{path.stem}-{number}") if number else path
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise AssertionError("count() has no end")


def write_file(path: str | Path, content: bytes) -> Path:
    """Write a file and return its path; where it cannot be written whole, nothing is at the path."""
    target = Path(path)
    with written_whole(target) as partial:
        partial.write_bytes(content)
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
