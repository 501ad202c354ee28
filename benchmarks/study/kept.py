"""What a results file still holds of the cells that are wanted; the rest is removed before anything is added."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.study.records import Finished, Setting, line, read_all

Wanted = Mapping[Setting, tuple[tuple[str, ...], tuple[int, ...]]]
"""Arms and seeds by setting."""


def clean(path: Path, wanted: Wanted) -> set[Setting]:
    """Return the wanted cells that the file holds, after removing what is unfinished or superseded from it.

    Superseded: records of a wanted cell under other arms or seeds, or under another number of steps. Finished cells
    that are not wanted now (of data that is not on this disk, say) stay. The file is replaced in one step.

    Args:
        path: of a part's records; may be missing.
        wanted: arms and seeds of the cells of that part.
    """
    if not path.exists():
        return set()
    records = list(read_all(path))
    names = {_name(setting) for setting in wanted}
    held = {
        record.setting
        for record in records
        if isinstance(record, Finished)
        and wanted.get(record.setting, (record.arms, record.seeds)) == (record.arms, record.seeds)
        and (record.setting in wanted or _name(record.setting) not in names)
    }
    text = "".join(line(record) for record in records if record.setting in held)
    if text != path.read_text(encoding="utf-8"):
        beside = path.with_suffix(".tmp")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    return {setting for setting in held if setting in wanted}


def _name(setting: Setting) -> Setting:
    """Return what stays of a setting when its number of steps is changed."""
    return replace(setting, steps=0)
