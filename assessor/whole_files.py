"""Files that are whole or not there."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a new name beside the target, to be written to; it takes the target's at the block's end, or is removed.

    The name is hidden and drawn, so it is no one's else and no source.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
