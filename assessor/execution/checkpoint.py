"""What a run has finished, in a folder, so that another run need not read it again.

A file a task: the profile of those of its blocks that could be read, named by a hash of what determines it: the URIs,
sizes and etags of the objects, the rows, and the settings. So a folder may serve several runs, and a file that does not
fit is never found. Beside them a line a source in `extents.jsonl`: what it holds, so that none is looked at again.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assessor.errors import AssessorError, SettingError
from assessor.execution.work import Part, Placed, Settings, kind_of
from assessor.profile import Profile
from assessor.sources.extents import Extent, Group, Tensor
from assessor.sources.stores import Source

VERSION = "normgauge.checkpoint/1"
EXTENTS = "extents.jsonl"


class Checkpoint:
    """A folder of finished work; one process writes to it at a time.

    Args:
        folder: made where it is not there.
        settings: of the run.

    Raises:
        SettingError: it is no folder that can be written.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = _digest(_describe(settings))
        self._reading = _digest([VERSION, repr(settings.decode), settings.format])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._log = (folder / EXTENTS).open("a+", encoding="utf-8")
        except OSError as error:
            raise SettingError(f"expected a folder for finished work; {folder} cannot be written: {error}") from error
        self._extents = self._read_extents()

    def close(self) -> None:
        """Close the list of sources."""
        self._log.close()

    def find_extent(self, source: Source) -> Extent | None:
        """Return what an object holds, where that was told before."""
        found = self._extents.get(self._extent_key(source))
        if found is None:
            return None
        return Extent(
            source,
            found["format"],
            found["rows"],
            tuple(Tensor(t["name"], t["offset"], tuple(t["shape"]), t["stored"], t["label"]) for t in found["tensors"]),
            tuple(Group(**group) for group in found["groups"]),
        )

    def keep_extent(self, extent: Extent) -> None:
        """Note what an object holds."""
        entry = asdict(extent)
        del entry["source"]
        entry["key"] = self._extent_key(extent.source)
        self._log.write(json.dumps(entry, separators=(",", ":")) + "\n")
        self._log.flush()

    def find_part(self, task: Sequence[Placed]) -> Part | None:
        """Return the profile of those of a task's blocks that were read before."""
        try:
            data = self._path(task).read_bytes()
            profile = Profile.from_bytes(data)
        except (OSError, AssessorError):  # not there, or cut off when the machine went down
            return None
        starts = [start for start, _ in profile.spans]
        read = []
        for placed in task:  # each is read whole or not
            span = bisect_right(starts, placed.first_row) - 1
            if span >= 0 and placed.first_row < profile.spans[span][1]:
                read.append(placed.number)
        return Part(kind_of(profile), tuple(read), data)

    def keep_part(self, task: Sequence[Placed], part: Part) -> None:
        """Write a task's profile; the file is whole or not there."""
        path = self._path(task)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        with partial.open("wb") as file:
            file.write(part.profile)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def _path(self, task: Sequence[Placed]) -> Path:
        blocks = [
            [*_identity(placed.block.source), placed.block.first, placed.block.rows, placed.first_row]
            for placed in task
        ]
        return self._folder / f"{_digest([VERSION, self._settings, blocks])}.profile"

    def _extent_key(self, source: Source) -> str:
        return _digest([self._reading, *_identity(source)])

    def _read_extents(self) -> dict[str, Any]:
        self._log.seek(0)
        found = {}
        torn = False
        for line in self._log:
            torn = not line.endswith("\n")
            try:
                entry = json.loads(line)
                found[entry["key"]] = entry
            except (ValueError, KeyError, TypeError):  # a line cut off when the machine went down
                continue
        if torn:
            self._log.write("\n")
        return found


def _identity(source: Source) -> list[Any]:
    return [str(source.uri), source.size_bytes, source.etag]


def _describe(settings: Settings) -> list[Any]:
    reference = settings.reference
    return [
        settings.batch_sizes,
        settings.feature_axis,
        settings.calibration_rows,
        None if reference is None else hashlib.sha256(reference.to_bytes()).hexdigest(),
        settings.nonfinite,
        repr(settings.decode),
        settings.format,
    ]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
