import tempfile
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from assessor import (
    AssessorError,
    DtypeError,
    EmptyShardError,
    LabelError,
    NonFiniteError,
    NoRoomError,
    Profiler,
    SettingError,
    ShapeError,
    assess,
    make_plan,
    merge,
    profile_array,
)
from assessor import batches as batches_module
from assessor.growing import GrowingArray
from assessor.kernels import warm
from tests.assessor import reference
from tests.tolerances import STORED, SUMS

RNG = np.random.default_rng(11)
X = RNG.normal(2, 3, size=(23, 4, 5))


def check_record(record: Any, batch: NDArray[Any]) -> None:
    """One batch (values, features) against NumPy float64."""
    variance, mean = batch.var(axis=0), batch.mean(axis=0)
    constant = (batch == batch[0]).all(axis=0)
    assert record["n_varying"] == (~constant).sum()
    varying = batch[:, ~constant]
    if varying.size:
        assert_allclose(record["pooled_mean"], varying.mean(), rtol=SUMS, atol=SUMS * np.abs(batch).max())
        assert_allclose(record["pooled_variance"], varying.var(), rtol=1e-11)
        assert_allclose(record["mean_variance"], variance[~constant].mean(), rtol=1e-11)
        assert_allclose(record["mean_log_variance"], np.log(variance[~constant]).mean(), rtol=1e-10, atol=1e-10)
    kept = record["constant_second_moment"] + record["constant_second_moment_low"]
    assert_allclose(kept, (mean[constant] ** 2).sum(), rtol=SUMS)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 16, 23])
def test_element_batches_against_numpy(size: int) -> None:
    x = X.copy()
    x[:, 1, 2] = np.round(x[:, 1, 2] / 4)  # constant in some batches
    x[:, 0, 0] = 0.1
    profile = profile_array(x, batch_sizes=[size])
    flat = x.reshape(23, 20)
    records = profile.lanes[size].records
    assert records["index"].tolist() == list(range(23 // size))
    for i, record in enumerate(records):
        check_record(record, flat[i * size : (i + 1) * size])
    assert_allclose(profile.moments.mean, flat.mean(axis=0), atol=SUMS * 10)
    assert_allclose(profile.moments.variance, flat.var(axis=0), rtol=1e-11, atol=1e-30)
    constant = [
        sum(len(set(column)) == 1 for column in (flat[i : i + size, f] for i in range(0, 23 // size * size, size)))
        for f in range(20)
    ]
    assert profile.lanes[size].constant_batches.tolist() == constant


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_channel_batches_against_numpy(size: int) -> None:
    profile = profile_array(X, batch_sizes=[size], feature_axis="channel")
    assert profile.n_features == 4
    by_channel = X.transpose(0, 2, 1)  # samples, positions, channels
    for i, record in enumerate(profile.lanes[size].records):
        check_record(record, by_channel[i * size : (i + 1) * size].reshape(-1, 4))
    assert_allclose(profile.moments.mean, X.mean(axis=(0, 2)), rtol=SUMS)
    assert_allclose(profile.moments.variance, X.var(axis=(0, 2)), rtol=1e-11)
    assert profile.moments.count == 23 * 5


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-12, 12345.6789])
@pytest.mark.parametrize("positions", [2, 3, 7, 100, 1001])
def test_a_constant_channel_is_constant_exactly(value: float, positions: int) -> None:
    """A mean of equal values that is off by one rounding would give a variance of 1e-34, and a score of 39 nats."""
    x = RNG.normal(size=(12, 3, positions))
    x[:, 1] = value
    profile = profile_array(x, batch_sizes=[4], feature_axis="channel")
    assert profile.lanes[4].records["n_varying"].tolist() == [2, 2, 2]
    assert profile.moments.m2[1] == 0
    assert profile.moments.mean[1] == value
    assert (np.abs(make_plan(profile).scores) < 1).all()


@pytest.mark.parametrize("axes", [(4, 5), (20,)])
@pytest.mark.parametrize("feature_axis", ["element", "channel"])
def test_the_memory_layout_does_not_matter(axes: tuple[int, ...], feature_axis: str) -> None:
    if feature_axis == "channel" and len(axes) == 1:
        axes = (20, 3)
    x = RNG.normal(size=(37, *axes)) * 1e3
    expected = profile_array(x, batch_sizes=[1, 5], feature_axis=feature_axis).to_bytes()
    wide = np.zeros((74, *axes, 2))
    wide[::2, ..., 1] = x
    for same in (np.asfortranarray(x), wide[::2, ..., 1], x[::-1].copy()[::-1], x.astype(">f8"), x.tolist()):
        assert profile_array(same, batch_sizes=[5, 1], feature_axis=feature_axis).to_bytes() == expected


def test_row_means_and_means_without_the_border() -> None:
    profile = profile_array(X, batch_sizes=[4], labels=np.arange(23) % 3)
    assert_allclose(profile.rows.means, X.reshape(23, -1).mean(axis=1), rtol=SUMS)
    assert profile.rows.border_means is not None
    assert_allclose(profile.rows.border_means, X[:, :-1, :-1].reshape(23, -1).mean(axis=1), rtol=SUMS)
    assert profile.rows.labels is not None
    assert profile.rows.labels.tolist() == [i % 3 for i in range(23)]
    assert profile_array(X.reshape(23, -1), batch_sizes=[4]).rows.border_means is None


def test_a_border_that_outweighs_the_rest_takes_no_digits_from_it() -> None:
    images = RNG.normal(size=(30, 2, 4, 5))
    images[:, :, -1, :] *= 1e15
    images[:, :, :, -1] *= 1e15
    images[:10, :, :-1, :-1] = 0
    got = profile_array(images, batch_sizes=[4]).rows.border_means
    assert got is not None
    assert_array_equal(got[:10], 0)
    assert_allclose(got, images[:, :, :-1, :-1].reshape(30, -1).mean(axis=1), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64", "bool"])
def test_integers_are_read_exactly(dtype: str) -> None:
    x = RNG.integers(0, 2 if dtype == "bool" else 100, size=(30, 6)).astype(dtype)
    plan = assess(x, batch_size=5)
    assert_allclose(plan.scores, assess(x.astype(np.float64), batch_size=5).scores, rtol=0, atol=0)
    assert profile_array(x, batch_sizes=[5]).dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_against_the_values_before_they_were_stored(dtype: str) -> None:
    x = RNG.normal(5, 2, size=(64, 6))
    profile = profile_array(x.astype(dtype), batch_sizes=[64])
    assert_allclose(profile.moments.mean, x.mean(axis=0), rtol=STORED[dtype] + SUMS)
    # v is off by at most 2 std |x| rounding, plus smaller terms
    assert_allclose(profile.moments.variance, x.var(axis=0), rtol=2 * 6 * STORED[dtype] + SUMS)
    assert_allclose(profile.moments.variance, x.astype(dtype).astype(float).var(axis=0), rtol=SUMS)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.sets(st.integers(1, 12), min_size=1, max_size=3))
def test_blocks_of_any_length_give_the_same_profile(lengths: list[int], sizes: set[int]) -> None:
    n = sum(lengths)
    x = np.arange(n * 3.0).reshape(n, 3) ** 1.5
    profiler = Profiler(batch_sizes=sorted(sizes), first_row=5)
    at = 0
    for length in lengths:
        profiler.add(x[at : at + length])
        profiler.add_labels(np.arange(at, at + length))
        at += length
    if n:
        expected = profile_array(x, batch_sizes=sorted(sizes), first_row=5, labels=np.arange(n))
        assert profiler.finish().to_bytes() == expected.to_bytes()
    else:
        with pytest.raises(EmptyShardError, match="expected at least one row"):
            profiler.finish()


def test_batch_sizes_are_sorted_and_taken_once() -> None:
    sizes: Any = [8, np.int32(2), 8, 3]
    assert profile_array(X, batch_sizes=sizes).batch_sizes == (2, 3, 8)
    assert profile_array(X, batch_sizes=iter([4])).batch_sizes == (4,)  # type: ignore[arg-type]  # any iterable will do


def bad_settings() -> Iterator[Any]:
    for sizes in (0, -1, True, 1.5, 4.0, "4", None, 2**63, np.array(4.0)):
        yield {"batch_sizes": [sizes]}, "expected batch sizes that are integers >= 1"
    yield {"batch_sizes": []}, "expected at least one batch size; got none"
    for sizes in (4, None, "32", 1.5):
        yield {"batch_sizes": sizes}, "expected a list of batch sizes"
    for first in (-1, True, 1.5, "1", None, 2**63):
        yield {"first_row": first}, "expected first_row to be an integer >= 0"
    for axis in ("rows", None, 1, ["element"]):
        yield {"feature_axis": axis}, r"expected feature_axis among \('element', 'channel'\); got"
    for rows in (-1, 1.5, True):
        yield {"calibration_rows": rows}, "expected calibration_rows to be an integer >= 0"


@pytest.mark.parametrize(("settings", "message"), list(bad_settings()))
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        profile_array(X, **{"batch_sizes": [4], **settings})


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_assess_refuses_a_batch_size_that_is_none(size: Any) -> None:
    with pytest.raises(SettingError, match=f"expected batch sizes that are integers >= 1 .*; got {size}"):
        assess(X, batch_size=size)


class Unreadable:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no grad, please")


BAD_ARRAYS: list[tuple[Any, type[AssessorError], str]] = [
    (np.zeros((0, 3)), EmptyShardError, "expected at least one row; the shard has none: leave it out"),
    ([], EmptyShardError, "expected at least one row; the shard has none: leave it out"),
    (np.zeros((3, 0)), EmptyShardError, r"expected at least one feature; got rows of shape \(0,\)"),
    (np.zeros((3, 4, 0)), EmptyShardError, "expected at least one feature"),
    (3.0, ShapeError, "got a scalar: give it an axis of samples"),
    ([[1.0], [2.0, 3.0]], ShapeError, "expected rows of one shape; got ragged data"),
    (np.array([[1, None]]), DtypeError, "got dtype object: convert the data to numbers first"),
    ([[10**400]], DtypeError, "got dtype object"),
    (None, DtypeError, "got dtype object"),
    ({"x": 1}, DtypeError, "got dtype object"),
    ([["a", "b"]], DtypeError, "got dtype <U1"),
    ([[b"a"]], DtypeError, "got dtype |S1"),
    (np.zeros((2, 2), complex), DtypeError, "got dtype complex128"),
    (np.zeros((2, 2), "datetime64[s]"), DtypeError, "got dtype datetime64"),
    (np.zeros((2, 2), "timedelta64[s]"), DtypeError, "got dtype timedelta64"),
    (np.zeros((2, 2), "f4,f4"), DtypeError, "got dtype"),
    (np.zeros((2, 2), np.clongdouble), DtypeError, "got dtype"),
    (Unreadable(), DtypeError, "expected what NumPy can read as numbers; got Unreadable: no grad, please"),
    (np.ma.masked_greater(np.arange(6.0).reshape(3, 2), 3), NonFiniteError, "the array has masked ones"),
]
if np.dtype(np.longdouble).itemsize > 8:
    BAD_ARRAYS.append((np.zeros((2, 2), np.longdouble), DtypeError, "of at most 64 bits; got dtype"))


@pytest.mark.parametrize(("x", "error", "message"), BAD_ARRAYS)
def test_bad_arrays(x: Any, error: type[AssessorError], message: str) -> None:
    with pytest.raises(error, match=message):
        profile_array(x, batch_sizes=[2])
    with pytest.raises(error, match=message):
        assess(x, batch_size=2)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
@pytest.mark.parametrize("n", [1, 11])
def test_rows_of_one_number_are_one_feature(dtype: str, n: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(3).uniform(0, 9, n).astype(getattr(ml_dtypes, dtype, dtype))
    profile = profile_array(x, batch_sizes=[2])
    assert profile.sample_shape == (1,)
    assert profile.to_bytes() == profile_array(x[:, None], batch_sizes=[2]).to_bytes()
    profiler = Profiler(batch_sizes=[2])
    profiler.add(x[:, None])
    profiler.add(x)
    assert profiler.finish().n_rows == 2 * n


def test_a_masked_array_without_a_mask_is_an_array() -> None:
    assert profile_array(np.ma.array(X), batch_sizes=[4]).to_bytes() == profile_array(X, batch_sizes=[4]).to_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("feature_axis", ["element", "channel"])
def test_non_finite_values_are_named(dtype: str, value: float, feature_axis: str) -> None:
    x = X.astype(dtype)
    x[17, 2, 3] = value
    x[20, 0, 0] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        profile_array(x, batch_sizes=[5, 8], first_row=100, feature_axis=feature_axis)
    assert str(caught.value) == (
        f"expected finite values; row 117, element 13 is {value} (batch 23 of size 5, batch 14 of size 8): "
        "remove or impute such values first, or leave such rows out (nonfinite=exclude)"
    )


def test_opposite_infinities_in_one_row_are_found() -> None:
    x = X.copy()
    x[3, 0, 0], x[3, 0, 1] = np.inf, -np.inf
    with pytest.raises(NonFiniteError, match="row 3, element 0 is inf"):
        profile_array(x, batch_sizes=[4])


def test_a_signalling_nan_is_a_nan() -> None:
    with pytest.raises(NonFiniteError, match="row 0, element 0 is nan"):
        profile_array(np.full((4, 2), 0x7F800001, np.uint32).view(np.float32), batch_sizes=[2])


LARGE: list[NDArray[np.float64]] = [
    X.reshape(23, 20) * 1e200,
    np.full((23, 20), 1e200),
    np.repeat(np.arange(1.0, 24.0), 20).reshape(23, 20) // 4 * 1e200,
    np.full((23, 20), 1.7e308),
    np.where(np.arange(20) % 2, 1.7e308, -1.7e308) * np.ones((23, 1)),
    np.full((23, 20), 1e160) + X.reshape(23, 20) * 1e146,
]


@pytest.mark.parametrize("x", LARGE)
@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("feature_axis", ["element", "channel"])
def test_values_whose_squares_overflow(x: NDArray[Any], size: int, feature_axis: str) -> None:
    shaped = x.reshape(23, 4, 5) if feature_axis == "channel" else x
    with pytest.raises(NonFiniteError, match="divide the data"):
        make_plan(profile_array(shaped, batch_sizes=[size], feature_axis=feature_axis))


def test_large_values_whose_squares_fit() -> None:
    x = X.reshape(23, 20)
    scale = 1e140
    scores = assess(x * scale, batch_size=4).scores
    # D of a scaled batch: v and m^2 outweigh the rest
    for i, batch in enumerate(reference.batches(x.tolist(), 4)):
        moment = reference.mean([reference.variance(c) + reference.mean(c) ** 2 for c in reference.columns(batch)])
        assert_allclose(scores[i], moment / 2 * scale**2, rtol=1e-11)


def test_labels() -> None:
    def profile(labels: Any) -> Any:
        return profile_array(X, batch_sizes=[4], labels=labels).rows.labels

    expected = [i % 5 for i in range(23)]
    for dtype in ("int64", "uint8", "int32", "uint64", ">i2"):
        assert_array_equal(profile(np.array(expected, dtype)), expected)
    assert_array_equal(profile(np.arange(23) > 3), np.arange(23) > 3)
    assert_array_equal(profile(-np.arange(23)), -np.arange(23))
    kind = r"expected labels of shape \(rows,\) and an integer dtype; got shape"
    for bad in (np.zeros(23), np.zeros((23, 1), int), 3, ["a"] * 23, np.array([None] * 23)):
        with pytest.raises(LabelError, match=kind):
            profile(bad)
    for n in (22, 24, 0):
        with pytest.raises(LabelError, match=f"expected one label a row, 23 in all; got {n}"):
            profile(np.zeros(n, int))
    with pytest.raises(LabelError, match=r"expected labels below 2\^63; got 9223372036854775808"):
        profile(np.full(23, 2**63, np.uint64))
    with pytest.raises(LabelError, match=r"expected labels of shape .*; got others: "):
        profile([[1], [2, 3]])


def test_rows_of_another_shape_name_the_row() -> None:
    profiler = Profiler(batch_sizes=[4], first_row=10)
    profiler.add(X[:5])
    with pytest.raises(ShapeError, match=r"expected rows of shape \(4, 5\) as before; got \(5, 4\) at row 15"):
        profiler.add(X[5:].transpose(0, 2, 1))


def test_channels_without_positions_are_elements() -> None:
    x = X.reshape(23, 20)
    channels = make_plan(profile_array(x, batch_sizes=[4], feature_axis="channel"))
    elements = make_plan(profile_array(x, batch_sizes=[4]))
    assert_allclose(channels.scores, elements.scores, rtol=1e-12)


def test_torch_tensors_are_taken_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(24.0).reshape(6, 4)
    expected = profile_array(x.numpy(), batch_sizes=[3]).to_bytes()
    assert profile_array(x.requires_grad_(), batch_sizes=[3]).to_bytes() == expected
    half = profile_array(x.detach().bfloat16(), batch_sizes=[3])
    assert_allclose(half.moments.mean, [10, 11, 12, 13])


def test_the_input_is_left_alone() -> None:
    for dtype in ("float64", "float32"):
        x = X.astype(dtype)
        before = x.copy()
        profile_array(x, batch_sizes=[3], feature_axis="channel")
        assert_array_equal(x, before)


def test_a_profiler_gives_its_profile_once() -> None:
    """What comes later would change what it gave; a merge of two goes on."""
    x = np.random.default_rng(2).normal(size=(30, 3))
    profiler = Profiler(batch_sizes=[4])
    profiler.add(x[:10])
    first = profiler.finish()
    before = first.to_bytes()
    for late in (lambda: profiler.add(x[10:]), lambda: profiler.add_labels([1]), profiler.finish):
        with pytest.raises(SettingError, match="this one has given its profile: make another with first_row"):
            late()
    assert first.to_bytes() == before
    following = Profiler(batch_sizes=[4], first_row=10)
    following.add(x[10:])
    whole = Profiler(batch_sizes=[4])
    whole.add(x)
    assert merge([first, following.finish()]).to_bytes() == whole.finish().to_bytes()


def test_a_profiler_that_could_not_finish_goes_on() -> None:
    x = np.random.default_rng(2).normal(size=(8, 3))
    profiler = Profiler(batch_sizes=[4])
    with pytest.raises(EmptyShardError):
        profiler.finish()
    profiler.add(x)
    profiler.add_labels([1] * 5)
    with pytest.raises(LabelError, match="one label a row, 8 in all; got 5"):
        profiler.finish()
    profiler.add_labels([1] * 3)
    assert profiler.finish().rows.labels is not None


WIDE = 256 * 256 * 3
"""Features of a picture."""


@pytest.mark.parametrize(
    ("rows", "dtype", "settings"),
    [
        (31, "uint8", {}),
        (60, "uint8", {"batch_sizes": [128]}),
        (96, "int32", {}),
        (96, "float16", {}),
        (40, "float32", {"nonfinite": "exclude"}),
        (40, "float32", {"with_reference": True}),
    ],
)
def test_memory_for_wide_rows_is_bounded(rows: int, dtype: str, settings: dict[str, Any]) -> None:
    warm("uint8" if dtype == "uint8" else "float64" if dtype == "int32" else "float32")
    x = np.ones((rows, WIDE), dtype)
    x[rows // 2 :] *= 2
    given = {"batch_sizes": [32], **settings}
    if given.pop("with_reference", False):
        given["reference"] = profile_array(x, batch_sizes=[32])
    if "nonfinite" in given:
        x[3, 5] = np.nan
    tracemalloc.start()
    profile = profile_array(x, **given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert profile.n_rows == rows


@pytest.mark.parametrize("most", [0, 100, 1000])
def test_a_profile_from_temporary_files_is_the_same(most: int) -> None:
    """Labels, images' borders and divergences are columns too."""
    earlier = profile_array(X, batch_sizes=[4])
    x = RNG.normal(size=(300, 4, 5))
    saved = []
    for in_memory_bytes in (None, most):
        profiler = Profiler(batch_sizes=[2, 7], reference=earlier, in_memory_bytes=in_memory_bytes)
        for start in range(0, 300, 9):
            profiler.add(x[start : start + 9])
            profiler.add_labels(np.arange(start, min(300, start + 9)) % 3)
        saved.append(profiler.finish().to_bytes())
    assert saved[0] == saved[1]


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 200))
def test_merged_profiles_from_temporary_files_are_the_same(lengths: list[int], most: int) -> None:
    x = RNG.normal(size=(sum(lengths) + 1, 3))

    def part(start: int, stop: int, in_memory_bytes: int | None) -> Any:
        profiler = Profiler(batch_sizes=[2], first_row=start, in_memory_bytes=in_memory_bytes)
        profiler.add(x[start:stop])
        return profiler.finish()

    edges = np.cumsum([0, *(length for length in lengths if length), 1]).tolist()
    edges[-1] = len(x)
    parts = [part(start, stop, most) for start, stop in pairwise(edges)]
    assert merge(reversed(parts)).to_bytes() == part(0, len(x), None).to_bytes()


def test_a_stream_of_many_rows_takes_little_memory() -> None:
    block = np.zeros((10_000, 2))
    block[1::3] = 1
    profiler = Profiler(batch_sizes=[2], in_memory_bytes=1 << 14)
    profiler.add(block)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(50):
        profiler.add(block)
    profile = profiler.finish()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # half a million rows and a quarter of a million batches: 27 MB in columns
    assert held < 1 << 20
    assert profile.n_rows == 510_000
    assert len(profile.lanes[2].records) == 255_000


def test_no_rows_settle_no_shape() -> None:
    profiler = Profiler(batch_sizes=[2])
    profiler.add([])
    profiler.add(X)
    profiler.add([])
    assert profiler.finish().to_bytes() == profile_array(X, batch_sizes=[2]).to_bytes()


def test_what_a_full_disk_took_in_part_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that made room may go on; nothing stands in the column twice."""
    column = GrowingArray(np.dtype(np.float64), 16)
    column.extend(np.arange(5.0))
    file: Any = column._file

    class Full:
        def write(self, data: memoryview) -> int:
            file.write(data[:8])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

    monkeypatch.setattr(column, "_file", Full())
    with pytest.raises(NoRoomError):
        column.extend(np.arange(5.0, 9.0))
    monkeypatch.setattr(column, "_file", file)
    column.extend(np.arange(9.0, 12.0))
    assert column.finish().tolist() == list(range(12))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to fill")
def test_no_room_for_a_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: open("/dev/full", "w+b", buffering=buffering))  # noqa: SIM115
    profiler = Profiler(batch_sizes=[2], in_memory_bytes=0)
    with pytest.raises(NoRoomError, match=r"expected room for a temporary file of \d+ bytes in .*: make room"):
        profiler.add(X)


@pytest.mark.parametrize("values", [1, 40, 100])
@pytest.mark.parametrize("size", [2, 8, 16, 40])
def test_how_many_values_are_widened_at_a_time_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, size: int, values: int
) -> None:
    earlier = profile_array(X, batch_sizes=[4])

    def saved() -> list[bytes]:
        x = X.copy()
        x[5, 0, 0] = np.nan
        return [
            profile_array(X, batch_sizes=[3, size]).to_bytes(),
            profile_array(X, batch_sizes=[size], reference=earlier, first_row=3).to_bytes(),
            profile_array(x, batch_sizes=[size], nonfinite="exclude").to_bytes(),
        ]

    before = saved()
    monkeypatch.setattr(batches_module, "PART_VALUES", values)
    assert saved() == before
