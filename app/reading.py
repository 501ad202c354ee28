"""Files to one profile: shards that are read, or profiles that were saved when they were."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from app.errors import CommandError, UsageError
from app.progress import Meter
from assessor import AssessorError, Profile, SettingError, ShapeError, merge, profile_shard
from assessor.formats import DecodeSettings

_SAVED = b'{"__metadata__":{"normgauge":'
"""What a saved profile begins with, after the 8 bytes of its header's length."""


DEFAULT_BATCH_SIZE = 32
"""As that of AssessedLoader."""


def read_profile(
    paths: Sequence[Path],
    *,
    batch_sizes: Sequence[int] | None,
    feature_axis: str | None = None,
    format: str | None = None,
    settings: DecodeSettings | None = None,
    reference: Profile | None = None,
    nonfinite: str | None = None,
    show_progress: bool = False,
) -> Profile:
    """Return the profile of a dataset's shards in row order, or the merged one of saved profiles.

    Args:
        paths: shards, or profiles.
        batch_sizes: to profile, None for 32; for saved profiles, None or some of theirs.
        feature_axis: "element" (None) or "channel"; for saved profiles, None or theirs.
        format: of the shards; None recognizes it.
        settings: which of the shards' columns are what; None takes the defaults.
        reference: of the shards' batches, see `profile_shard`; saved profiles have their own.
        nonfinite: "raise" (None), "exclude" or "normalize"; for saved profiles, None or theirs.
        show_progress: on standard error, see `Meter`.

    Raises:
        AssessorError: a file is not usable; the message begins with its path.
        CommandError: a path is nothing that can be read, or shards and profiles are mixed.
        UsageError: saved profiles with what is for shards.
    """
    for path in paths:
        if not path.exists():
            raise CommandError(f"expected a file; got {path}, which is none: check the path")
    saved = [path for path in paths if is_profile(path)]
    if not saved:
        return _read_shards(
            paths,
            show_progress=show_progress,
            batch_sizes=batch_sizes or (DEFAULT_BATCH_SIZE,),
            feature_axis=feature_axis or "element",
            format=format,
            settings=settings or DecodeSettings(),
            reference=reference,
            nonfinite=nonfinite or "raise",
        )
    if len(saved) < len(paths):
        other = next(path for path in paths if path not in saved)
        raise CommandError(
            f"expected either shards or saved profiles; got the profile {saved[0]} and the shard {other}: "
            "profile the shards together"
        )
    if format is not None or settings is not None or reference is not None:
        raise UsageError(
            "expected --format, --columns, --label-column and --reference with shards; "
            f"got the saved profile {saved[0]}: leave them out"
        )
    profile = merge(load_profile(path) for path in saved)
    if feature_axis not in (None, profile.feature_axis):
        raise SettingError(
            f"expected --feature-axis {profile.feature_axis}, with which {saved[0]} was made; got {feature_axis}: "
            "profile the data again"
        )
    if nonfinite not in (None, profile.schema.nonfinite):
        raise SettingError(
            f"expected --nonfinite {profile.schema.nonfinite}, with which {saved[0]} was made; got {nonfinite}: "
            "profile the data again"
        )
    return profile


def is_profile(path: Path) -> bool:
    """Return whether a file begins as a saved profile does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(8 + len(_SAVED))[8:] == _SAVED


def load_profile(path: Path) -> Profile:
    """Return a saved profile.

    Raises:
        FormatError: the file is damaged or of another version; the message begins with its path.
    """
    try:
        return Profile.from_bytes(path.read_bytes())
    except AssessorError as error:
        raise type(error)(f"{path}: {error}") from error


def _read_shards(paths: Sequence[Path], *, show_progress: bool, **settings: Any) -> Profile:
    profiles: list[Profile] = []
    first_row = 0
    with closing(Meter(show=show_progress)) as meter:
        meter.begin("reading", sum(_sizes(paths)), 0, "B")
        for path in paths:
            profile = _read_shard(path, first_row=first_row, on_bytes=meter.advance, **settings)
            if profiles and profile.sample_shape != profiles[0].sample_shape:
                raise ShapeError(
                    f"{path}: expected samples of shape {profiles[0].sample_shape} as in {paths[0]}; got "
                    f"{profile.sample_shape}: a data set has one sample shape"
                )
            first_row += profile.n_rows
            profiles.append(profile)
    return merge(profiles)


def _read_shard(path: Path, *, on_bytes: Callable[[int], None], **settings: Any) -> Profile:
    try:
        return profile_shard(path, on_bytes=on_bytes, **settings)
    except AssessorError as error:
        raise type(error)(f"{path}: {error}") from error


def _sizes(paths: Sequence[Path]) -> Iterator[int]:
    """Yield the sizes of all files, those in folders among them."""
    for path in paths:
        if path.is_dir():
            yield from (Path(folder, name).stat().st_size for folder, _, names in os.walk(path) for name in names)
        else:
            yield path.stat().st_size
