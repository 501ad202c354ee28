"""What a task does with its blocks: samples no longer than its parts need, and the parts' profiles as they would be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from assessor import Profile, Profiler, hash_rows, merge, profile_array
from assessor.calibration import SEED, Calibration
from assessor.errors import FormatError
from assessor.execution import work
from assessor.execution.assessing import place_blocks
from assessor.execution.merging import SampleBar
from assessor.execution.work import Reading, Settings, profile_blocks
from assessor.sources import SourceUri, StoreSettings, blocks, open_store
from assessor.sources.extents import inspect_source
from tests.assessor.shard_sets import WRITERS, cut_at

X = np.random.default_rng(17).standard_normal((120, 6)).astype(np.float32)
Y = np.arange(120) % 3
KINDS = {"flat": "npy", "labelled": "safetensors", "pictures": "npy"}
"""Kinds of sources with their format: without labels, with them, of another shape."""
BARS = {"whole": None, "half": 1 << 63, "nothing": 0}


def write(folder: Path, kinds: Sequence[str], places: Sequence[int]) -> list[work.Placed]:
    """Write X as sources of these kinds, in turn; return their blocks of about ten rows."""
    extents = []
    for number, rows in enumerate(cut_at(len(X), places)):
        kind = kinds[number % len(kinds)]
        x = X[rows].reshape(-1, 3, 2) if kind == "pictures" else X[rows]
        path = folder / f"{number:02}.bin"
        path.write_bytes(WRITERS[KINDS[kind]](x, Y[rows]))
        uri = SourceUri.parse(f"file://{path}")
        store = open_store(uri, StoreSettings())
        extents.append(inspect_source(store, store.find(uri), Settings((4,)).decode))
    return place_blocks(extents, 10 * 24, 1)


def expected(kind: tuple[tuple[int, ...], bool], placed: Sequence[work.Placed], size: int, bar: int | None) -> bytes:
    """Return the profile of the rows of some blocks, each profiled by itself, with no bar but the task's."""
    profiles = []
    for item in placed:
        rows = slice(item.first_row, item.first_row + item.block.rows)
        profiler = Profiler(batch_sizes=[4], first_row=rows.start, calibration_rows=size, sample_bar=bar)
        profiler.add(X[rows].reshape(-1, *kind[0]))
        if kind[1]:
            profiler.add_labels(Y[rows])
        profiles.append(profiler.finish())
    return merge(profiles).to_bytes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4),
    places=st.lists(st.integers(1, 119), max_size=8),
    size=st.sampled_from([0, 1, 5, 30, 1000]),
    bar=st.sampled_from(sorted(BARS)),
    failing=st.sets(st.integers(0, 11)),
)
@example(kinds=["flat", "labelled"], places=[100], size=5, bar="whole", failing=set())
def test_parts_are_what_their_blocks_are_by_themselves(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[str],
    places: list[int],
    size: int,
    bar: str,
    failing: set[int],
) -> None:
    """To the bit, samples included, whatever else the task holds: a whole sample stays whole."""
    placed = write(tmp_path_factory.mktemp("blocks"), kinds, places)
    real = blocks.read_block

    def read(store: Any, block: Any, *arguments: Any) -> Any:
        number = next(item.number for item in placed if item.block is block)
        if number in failing:
            raise FormatError("broken")
        return real(store, block, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "read_block", read)
        done = profile_blocks(Settings((4,), calibration_rows=size), Reading(tuple(placed), BARS[bar]), int)  # type: ignore[arg-type]
    assert {number for number, _ in done.failures} == failing & set(range(len(placed)))
    read_numbers = [number for part in done.parts for number in part.numbers]
    assert sorted(read_numbers) == sorted({item.number for item in placed} - failing)
    for part in done.parts:
        assert part.profile == expected(part.kind, [placed[number] for number in part.numbers], size, BARS[bar])


def bars_of(monkeypatch: pytest.MonkeyPatch, placed: Sequence[work.Placed], size: int) -> list[tuple[int, int | None]]:
    """Profile blocks as one task; return the bar with which each was profiled, with its number."""
    bars = []
    real = Settings.profiler

    def profiler(self: Settings, first_row: int, sample_bar: int | None = None) -> Profiler:
        bars.append((first_row, sample_bar))
        return real(self, first_row, sample_bar)

    shared = Settings((4,), calibration_rows=size)
    monkeypatch.setattr(Settings, "profiler", profiler)
    told: list[int] = []
    profile_blocks(shared, Reading(tuple(placed)), told.append)
    assert sum(told) == sum(item.block.size_bytes for item in placed)  # what is read again is not told again
    numbers = {item.first_row: item.number for item in placed}
    return [(numbers[first_row], bar) for first_row, bar in bars]


def test_rows_sampled_before_keep_others_of_the_task_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = write(tmp_path, ["flat"], [30, 60])
    bars = bars_of(monkeypatch, placed, 15)
    hashes = [np.sort(hash_rows(SEED, np.arange(item.first_row))) for item in placed]
    assert bars == [(k, int(seen[14]) if len(seen) >= 15 else None) for k, seen in enumerate(hashes)]
    assert [bar is None for _, bar in bars][:3] == [True, True, False]


def test_rows_of_another_kind_keep_none_out_and_cost_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = write(tmp_path, ["flat", "labelled", "pictures", "flat"], [30, 60, 90])
    bars = bars_of(monkeypatch, placed, 5)
    assert [number for number, _ in bars] == [0, 1, 2, 3, 3, *range(4, len(placed))]
    assert [bar is None for _, bar in bars[:4]] == [True, False, False, False]
    assert {bar for _, bar in bars[4:]} == {None}


@given(
    st.lists(st.lists(st.integers(0, 300), max_size=20, unique=True), max_size=6),
    st.integers(0, 12),
    st.none() | st.integers(0, (1 << 64) - 1),
)
def test_a_bar_is_the_least_that_holds(groups: list[list[int]], size: int, given_bar: int | None) -> None:
    """Against all rows sorted; that the values are left out changes nothing."""
    rows = sorted({row for group in groups for row in group})
    bar = SampleBar(given_bar)
    seen: set[int] = set()
    for group in groups:
        new = np.array([row for row in group if row not in seen], np.int64)
        seen |= set(group)
        new = new[np.argsort(hash_rows(SEED, new))][:size]
        one: Profile = profile_array(np.zeros((1, 2)), batch_sizes=[4], calibration_rows=size)
        object.__setattr__(one, "calibration", Calibration(size, new, np.zeros((len(new), 2))))
        bar.add(one)
    hashes = np.sort(hash_rows(SEED, np.array(rows, np.int64))).tolist()
    own = [hashes[size - 1]] if 0 < size <= len(hashes) else []
    known = own if given_bar is None else [given_bar, *own]
    assert bar.value == min(known, default=None)
