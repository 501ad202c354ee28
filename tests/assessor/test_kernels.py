"""The compiled kernel and the NumPy path: the same bits, and right against float64 references."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from assessor import Profiler, SettingError, merge, profile_array
from assessor.kernels import choice, dispatch, sum_rows, sum_squares, sum_tiles, tiles
from assessor.kernels.tiles import TINY
from assessor.moments import MomentsTree, dyadic_blocks

RNG = np.random.default_rng(31)
SIZES = [1, 3, 4, 12, 64, 200]


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    chosen = choice()
    before = chosen.name, chosen.threads, chosen.seen
    yield
    chosen.name, chosen.threads, chosen.seen = before


def awkward(dtype: type[np.generic], rows: int, features: int) -> np.ndarray[tuple[int, int], np.dtype[np.generic]]:
    """Values with a constant feature, one that is often constant within a batch, and a large offset."""
    x = RNG.normal(size=(rows, features)) * 30 + 100
    x[:, 0] = 3
    x[:, 1] *= RNG.random(rows) < 0.1
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int16, np.int64, np.float16])
@pytest.mark.parametrize("features", [7, 512, 600, 1600])
def test_both_kernels_give_the_same_bytes_for_any_cutting(
    dtype: type[np.generic], features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "THREAD_VALUES", 100)
    x = awkward(dtype, 403, features)
    choice().threads = 3
    choice().name = "numpy"
    whole = profile_array(x, batch_sizes=SIZES).to_bytes()
    choice().name = "compiled"
    assert profile_array(x, batch_sizes=SIZES).to_bytes() == whole
    cuts = [0, *sorted(RNG.integers(1, 403, 4).tolist()), 403]
    parts = []
    stream = Profiler(batch_sizes=SIZES)
    for k, (start, stop) in enumerate(pairwise(cuts)):
        choice().name = ("numpy", "compiled")[k % 2]
        stream.add(x[start:stop])
        if stop > start:
            parts.append(profile_array(x[start:stop], batch_sizes=SIZES, first_row=start))
    assert merge(reversed(parts)).to_bytes() == whole
    assert stream.finish().to_bytes() == whole


@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
def test_reduced_batches_agree_with_numpy_in_float64(kernel: str) -> None:
    choice().name = kernel
    x = awkward(np.float32, 5 * 24, 700)
    row_sums = np.empty(len(x))
    tree, constant = MomentsTree(), np.zeros(700, np.int64)
    sums = dispatch.reduce_batches(x, 24, 0, row_sums, tree, constant)
    batches = x.astype(np.float64).reshape(5, 24, 700)
    mean, variance = batches.mean(axis=1), batches.var(axis=1)
    varies = variance > 0
    moments = tree.fold()
    assert_allclose(moments.mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert_allclose(moments.variance, x.astype(np.float64).var(axis=0), rtol=1e-10, atol=1e-12)
    assert_allclose(row_sums, x.sum(axis=1, dtype=np.float64), rtol=1e-12)
    assert_array_equal(constant, (~varies).sum(axis=0))
    assert_array_equal(sums["n"].sum(axis=1), varies.sum(axis=1))
    assert_allclose(sums["variance"].sum(axis=1), variance.sum(axis=1), rtol=1e-12)
    logs = np.log(sums["mantissa"]) + sums["exponent"] * np.log(2)
    assert_allclose(
        logs.sum(axis=1), np.where(varies, np.log(np.where(varies, variance, 1)), 0).sum(axis=1), rtol=1e-12
    )
    squares = np.where(varies, 0, mean) ** 2
    assert_allclose(sums["constant"].sum(axis=1), squares.sum(axis=1), rtol=1e-12)


def test_calls_go_on_with_the_tree_of_those_before() -> None:
    """Batches 5 to 18 in several calls, then 24 and 25: nodes with and without siblings to their left, and a gap."""
    x = awkward(np.float32, 26 * 8, 600)
    trees = {}
    for kernel in ("numpy", "compiled"):
        choice().name = kernel
        tree, constant = MomentsTree(), np.zeros(600, np.int64)
        for first, stop in [(5, 6), (6, 9), (9, 11), (11, 19), (24, 25), (25, 26)]:
            dispatch.reduce_batches(x[first * 8 : stop * 8], 8, first, np.empty((stop - first) * 8), tree, constant)
        trees[kernel] = {place: (node.count, node.mean, node.m2) for place, node in tree.nodes.items()}
    places = [*dyadic_blocks(5, 19), *dyadic_blocks(24, 26)]
    assert sorted(trees["compiled"]) == sorted(trees["numpy"]) == sorted(places)
    for place in places:
        for a, b in zip(trees["compiled"][place], trees["numpy"][place], strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("bad", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
@pytest.mark.parametrize("features", [40, 600])
def test_a_batch_whose_sums_are_not_finite_leaves_nothing(
    kernel: str, features: int, threads: int, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do those behind it, be they the first thread's of three, who have two batches each, or another's."""
    monkeypatch.setattr(dispatch, "THREAD_VALUES", 100)
    monkeypatch.setattr(dispatch, "BLOCK_VALUES", 1)
    choice().name, choice().threads = kernel, threads
    x = awkward(np.float32, 6 * 8, features)
    clean, clean_constant = MomentsTree(), np.zeros(features, np.int64)
    expected = dispatch.reduce_batches(x[: bad * 8], 8, 0, np.empty(bad * 8), clean, clean_constant)
    x[bad * 8 + 3, 7] = np.inf
    tree, constant = MomentsTree(), np.zeros(features, np.int64)
    sums = dispatch.reduce_batches(x, 8, 0, np.empty(len(x)), tree, constant)
    assert_array_equal(sums, expected)
    assert_array_equal(constant, clean_constant)
    assert tree.count == bad * 8
    assert_array_equal(tree.fold().mean, clean.fold().mean)
    assert_array_equal(tree.fold().m2, clean.fold().m2)


def test_sums_of_squares_keep_what_float64_loses() -> None:
    values = np.array([[1e9 + 1, 1.0, 3.0, -1e9]])
    high, low = sum_squares(values)
    exact = (10**9 + 1) ** 2 + 1 + 9 + (10**9) ** 2
    assert int(high[0]) + int(low[0]) == exact
    assert float(high[0]) != exact


def test_variances_below_the_smallest_normal_number_count_as_none() -> None:
    constant = np.zeros(3, np.int64)
    sums = sum_tiles(np.zeros((1, 3)), np.array([[TINY, TINY * 0.9, 0.0]]), 1, constant)
    assert sums["n"].tolist() == [[1]]
    assert constant.tolist() == [0, 1, 1]
    assert_allclose(np.log(sums["mantissa"]) + sums["exponent"] * np.log(2), np.log(TINY))


@pytest.mark.parametrize("features", [512, 1100, 1600])
def test_tiles_summed_together_or_one_by_one_have_the_same_bits(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, m2 = RNG.normal(size=(6, features)) * 100, RNG.gamma(2, size=(6, features))
    m2[:4, :512][RNG.random((4, 512)) < 0.2] = 0  # some features are constant, and not in all tiles and batches
    m2[5, 512:] = 0
    found = []
    for run_values in (1, 3 * tiles.TILE, 1 << 30):
        monkeypatch.setattr(tiles, "RUN_VALUES", run_values)
        constant = np.zeros(features, np.int64)
        sums = sum_tiles(mean, m2, 32, constant)
        alone = np.concatenate([sum_tiles(mean[k : k + 1], m2[k : k + 1], 32, constant) for k in range(6)])
        found += [sums.tobytes(), alone.tobytes()]
        assert_array_equal(constant, 2 * (m2 == 0).sum(axis=0))
    assert len(set(found)) == 1


def test_a_large_batch_of_few_features_takes_little_memory() -> None:
    """Sums of rows once kept 64 lanes a row: 64 times the data for one feature."""
    choice().name = "numpy"  # what the compiled kernel allocates is not traced
    x = np.ones((200_000, 1), np.float32)
    tracemalloc.start()
    try:
        dispatch.reduce_batches(x, len(x), 0, np.empty(len(x)), MomentsTree(), np.zeros(1, np.int64))
        assert tracemalloc.get_traced_memory()[1] < 20 * x.nbytes
    finally:
        tracemalloc.stop()


def test_read_only_data_needs_no_other_kernel() -> None:
    from assessor.kernels import compiled

    choice().name = "compiled"
    x = awkward(np.float32, 40, 9)
    expected = profile_array(x, batch_sizes=[4]).to_bytes()
    kernels = len(compiled._reduce.signatures)
    x.flags.writeable = False
    assert profile_array(x, batch_sizes=[4]).to_bytes() == expected
    assert len(compiled._reduce.signatures) == kernels


def test_negative_zeros_sum_to_zero() -> None:
    assert not np.signbit(sum_rows(np.full((2, 64), -0.0))).any()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NORMGAUGE_KERNEL", "fast", "expected NORMGAUGE_KERNEL among auto, compiled, numpy; got 'fast'"),
        ("NORMGAUGE_THREADS", "0", "expected NORMGAUGE_THREADS to be an integer >= 1; got '0'"),
        ("NORMGAUGE_THREADS", "two", "got 'two'"),
    ],
)
def test_settings_out_of_range_are_named(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    choice.cache_clear()
    try:
        with pytest.raises(SettingError, match=message):
            choice()
    finally:
        choice.cache_clear()


def test_auto_takes_numpy_for_little_data_and_the_compiled_kernel_for_much() -> None:
    chosen = choice()
    chosen.name, chosen.seen = "auto", 0
    assert not chosen.compiled_for(1000)
    assert chosen.compiled_for(dispatch.COMPILE_FROM)
