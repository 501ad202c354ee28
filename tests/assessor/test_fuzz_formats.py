"""A small part of `python -m benchmarks.fuzz_formats`: an error of ours or a result, within a bound of memory."""

import tracemalloc
from random import Random

import pytest

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
