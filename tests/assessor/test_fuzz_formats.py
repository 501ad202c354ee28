"""A small part of `python -m benchmarks.fuzz_formats`: an error of ours or a result, within a bound of memory.

And the same shards as files that are looked at and cut: read, named or skipped.
"""

import tracemalloc
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assessor.errors import AssessorError
from assessor.execution import profile_sources
from assessor.formats.settings import DEFAULT
from assessor.sources import SourceUri, StoreSettings, open_store
from assessor.sources.extents import inspect_source
from benchmarks.fuzz_formats import decode
from benchmarks.support.mutation import BODIES, mutated


@pytest.mark.parametrize("name", BODIES)
def test_mutated_shards_are_read_or_refused(name: str) -> None:
    decode(name, BODIES[name][0], Random(0))
    tracemalloc.start()
    try:
        outcomes = [decode(name, mutated(name, 77, number), Random(number)) for number in range(150)]
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert outcomes.count("refused") > 50
    assert outcomes.count("read") >= 1


def test_a_page_header_of_other_types_is_refused() -> None:
    # A struct where the page's type should be: found by the fuzzer.
    assert [decode("parquet", mutated("parquet", 3, n), Random(n)) for n in (1829, 2763, 4025)] == ["refused"] * 3


def test_a_bad_column_chunk_does_not_end_the_process() -> None:
    # pyarrow's RowGroupMetaData.column ends it on these (std::terminate): found by the fuzzer.
    assert [decode("parquet", mutated("parquet", 1, number), Random(1)) for number in (886, 3769)] == ["refused"] * 2


def check_skipped(folder: Path, name: str, body: bytes, block_bytes: int) -> str:
    """Return what comes of a run that skips what is bad, with a good file before the one of these bytes."""
    files = {folder / f"0.{name}": BODIES[name][0], folder / f"1.{name}": body}
    rows = []
    for path, data in files.items():
        path.write_bytes(data)
        uri = SourceUri.parse(f"file://{path}")
        store = open_store(uri, StoreSettings())
        try:
            rows.append(inspect_source(store, store.find(uri), DEFAULT).rows)
        except AssessorError:
            rows.append(0)
    assert rows[0] > 0
    assert 0 <= rows[1] <= 8 * len(body)  # a bit a row at least: none of these is compressed so much
    assessed = profile_sources([*files], batch_sizes=[2], engine="serial", on_error="skip", block_bytes=block_bytes)
    assert assessed.profile.n_rows == sum(rows)
    assert all(skipped.uri == str(uri) and str(uri) in skipped.reason for skipped in assessed.skipped)
    return "skipped" if assessed.skipped else "read"


@pytest.mark.parametrize("name", ["npy", "safetensors", "arrow_file", "parquet"])
def test_mutated_files_are_cut_and_read_or_skipped(name: str, tmp_path: Path) -> None:
    assert check_skipped(tmp_path, name, BODIES[name][0], 1) == "read"
    tracemalloc.start()
    try:
        outcomes = Counter(
            check_skipped(tmp_path, name, mutated(name, 78, number), 1 << 8 * (number % 2)) for number in range(100)
        )
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert outcomes["skipped"] > 50
    assert outcomes["read"] >= 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.sampled_from(BODIES["arrow_file"]),
    number=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 62).map(lambda bits: 1 << bits),
    data=st.data(),
)
def test_an_arrow_file_with_another_count_or_offset(
    tmp_path: Path, body: bytes, number: int, data: st.DataObject
) -> None:
    numbers = [int.from_bytes(body[at : at + 8], "little") for at in range(0, len(body), 8)]
    places = [8 * k for k, here in enumerate(numbers) if 0 < here <= len(body)]
    at = data.draw(st.sampled_from(places))
    changed = body[:at] + number.to_bytes(8, "little", signed=True) + body[at + 8 :]
    check_skipped(tmp_path, "arrow_file", changed, 1)
