import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from assessor import (
    FormatError,
    GapError,
    LabelError,
    NonFiniteError,
    OverlapError,
    Profile,
    SettingError,
    ShapeError,
    make_plan,
    merge,
    missing_rows,
    profile_array,
)

RNG = np.random.default_rng(31)
DTYPES = ["uint8", "int64", "float16", "float32", "float64"]


def data(dtype: str, n: int, axes: tuple[int, ...]) -> NDArray[Any]:
    x = RNG.normal(40, 12, size=(n, *axes))
    x[:, 0] = np.round(x[:, 0] / 20)  # constant in some batches
    x[: n // 2, -1] = 7  # and in some shards
    return np.clip(x, 0, 250).astype(dtype)


CASES = [
    pytest.param(dtype, axes, axis, labelled, id=f"{dtype}-{axes}-{axis}-{'y' if labelled else 'no y'}")
    for dtype, labelled in zip(DTYPES, [True, False, True, False, True], strict=True)
    for axes, axis in (((6,), "element"), ((3, 4, 2), "element"), ((3, 4, 2), "channel"))
]


def profiled(
    x: NDArray[Any], labels: NDArray[Any] | None, edges: list[int], sizes: list[int], axis: str, rows: int | None = None
) -> list[Profile]:
    return [
        profile_array(
            x[a:b],
            batch_sizes=sizes,
            labels=None if labels is None else labels[a:b],
            first_row=a,
            feature_axis=axis,
            calibration_rows=rows,
        )
        for a, b in pairwise(edges)
    ]


@pytest.mark.parametrize(("dtype", "axes", "axis", "labelled"), CASES)
@settings(max_examples=12, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 66), max_size=20),
    sizes=st.sets(st.sampled_from([1, 2, 3, 5, 6, 7, 8, 12, 16, 31, 67, 68, 100]), min_size=1, max_size=4),
    random=st.randoms(use_true_random=False),
)
def test_any_cutting_and_order_gives_the_profile_of_a_single_pass(
    dtype: str, axes: tuple[int, ...], axis: str, labelled: bool, cuts: set[int], sizes: set[int], random: Random
) -> None:
    x = data(dtype, 67, axes)
    labels = np.arange(67) % 4 - 1 if labelled else None
    once = profiled(x, labels, [0, 67], sorted(sizes), axis, 16)[0].to_bytes()
    parts = profiled(x, labels, sorted({0, 67, *cuts}), sorted(sizes), axis, 16)
    random.shuffle(parts)
    assert merge(parts).to_bytes() == once
    while len(parts) > 1:  # in pairs, along a random tree
        a, b = parts.pop(random.randrange(len(parts))), parts.pop(random.randrange(len(parts)))
        parts.append(merge([Profile.from_bytes(a.to_bytes()), b]))
    assert parts[0].to_bytes() == once


@pytest.mark.parametrize("feature_axis", ["element", "channel"])
def test_rows_one_by_one(feature_axis: str) -> None:
    x = data("float32", 41, (3, 5))
    parts = profiled(x, None, list(range(42)), [1, 4, 6, 41, 50], feature_axis)
    once = profiled(x, None, [0, 41], [1, 4, 6, 41, 50], feature_axis)[0]
    for way in (parts, parts[::-1], parts[::2] + parts[1::2]):
        assert merge(way).to_bytes() == once.to_bytes()


def test_blocks_that_do_not_end_where_batches_do() -> None:
    """More values than one block holds, so that a shard is worked on in pieces."""
    x = RNG.normal(size=(700, 1000)).astype(np.float32)
    sizes = [3, 32, 200, 300]
    once = profile_array(x, batch_sizes=sizes).to_bytes()
    assert merge(profiled(x, None, [0, 1, 250, 333, 700], sizes, "element")[::-1]).to_bytes() == once


def test_merge_leaves_its_parts_alone() -> None:
    x = data("float64", 20, (3,))
    parts = profiled(x, None, [0, 7, 20], [4, 6], "element")
    before = [part.to_bytes() for part in parts]
    merge(parts)
    merge(parts)
    assert [part.to_bytes() for part in parts] == before


@pytest.mark.parametrize(("dtype", "axes", "axis", "labelled"), CASES)
def test_bytes_round_trip(dtype: str, axes: tuple[int, ...], axis: str, labelled: bool) -> None:
    x = data(dtype, 30, axes)
    labels = np.arange(30) - 5 if labelled else None
    for profile in (profiled(x, labels, [0, 30], [1, 4, 40], axis)[0], profiled(x, labels, [0, 11, 30], [4], axis)[1]):
        again = Profile.from_bytes(profile.to_bytes())
        assert again.to_bytes() == profile.to_bytes()
        for name in ("schema", "dtypes", "spans", "batch_sizes", "n_rows", "n_features", "labelled", "dtype"):
            assert getattr(again, name) == getattr(profile, name), name
        assert_array_equal(again.moments.mean, profile.moments.mean)
        assert_array_equal(again.moments.m2, profile.moments.m2)


def test_moments_of_a_part_and_of_all() -> None:
    x = data("float64", 50, (3,))
    parts = profiled(x, None, [0, 9, 31, 50], [4, 8], "element")
    some = merge([parts[0], parts[2]])
    rows = np.concatenate([x[:9], x[31:]])
    assert some.n_rows == some.moments.count == 28
    assert some.spans == ((0, 9), (31, 50))
    assert_allclose(some.moments.mean, rows.mean(axis=0), rtol=1e-12)
    assert_allclose(some.moments.variance, rows.var(axis=0), rtol=1e-12)
    assert_array_equal(some.rows.means, np.concatenate([parts[0].rows.means, parts[2].rows.means]))


def test_a_profile_keeps_little() -> None:
    """Per batch 56 bytes, per row a mean, two moments a feature and node: the data itself is gone."""
    x = RNG.normal(size=(20_000, 64))
    kept = len(profile_array(x, batch_sizes=[8], calibration_rows=0, first_row=3).to_bytes())
    nodes = 2 * (2500).bit_length() + 2 * 2 * (8).bit_length()
    assert kept < 2500 * 56 + 20_000 * 8 + nodes * 64 * 16 + 8_000
    assert kept < x.nbytes / 30


def test_what_follows_from_the_rest_is_not_written() -> None:
    x = RNG.normal(size=(40, 6))
    names = set(safetensors.numpy.load(profile_array(x, batch_sizes=[8]).to_bytes()))
    left_out = {"index", "pooled_variance", "n_varying", "constant_second_moment", "constant_second_moment_low"}
    assert not names & {f"lane.8.records.{name}" for name in left_out}
    assert "lane.8.constant_batches" not in names
    x[:8, 2] = 3.0
    blank = profile_array(x, batch_sizes=[8])
    assert {"lane.8.records.n_varying", "lane.8.constant_batches"} <= set(safetensors.numpy.load(blank.to_bytes()))
    records = Profile.from_bytes(blank.to_bytes()).lanes[8].records
    assert np.array_equal(records, blank.lanes[8].records)
    assert np.array_equal(records["pooled_variance"], records["mean_variance"] + records["location_variance"])


@pytest.mark.parametrize(("version", "nonfinite"), [(1, "raise"), (2, "exclude")])
def test_profiles_of_earlier_versions_are_still_read(version: int, nonfinite: str) -> None:
    """The files were written by the releases that had these versions, of the array below."""
    x = np.arange(66.0).reshape(22, 3) ** 1.5
    x[:, 1], x[4:8, 2] = 2.0, 7.0
    labels = np.arange(22) % 2
    now = profile_array(x.astype(np.float32), batch_sizes=[4], labels=labels, calibration_rows=4, nonfinite=nonfinite)
    then = Profile.from_bytes((Path(__file__).parent / "files" / f"version{version}.profile").read_bytes())
    assert then.schema == now.schema
    assert then.to_bytes() == now.to_bytes()
    assert make_plan(then) == make_plan(now)
    assert merge([then, Profile.empty()]) is then


@pytest.mark.parametrize(("dtype", "factor"), [("float32", 4), ("float64", 8), ("int64", 4)])
def test_sampled_values_are_float32_where_that_holds_them_exactly(dtype: str, factor: int) -> None:
    x = data("float64", 300, (5,))
    if dtype == "int64":
        x = np.rint(x * 2**10)
    profile = profile_array(x.astype(dtype), batch_sizes=[4])
    stored = safetensors.numpy.load(profile.to_bytes())["calibration.values"]
    assert stored.nbytes == 300 * 5 * factor
    read = Profile.from_bytes(profile.to_bytes()).calibration.values
    assert read.dtype == stored.dtype
    assert_array_equal(read, profile.calibration.values)


@given(hnp.arrays(np.float64, (6, 2), elements=st.floats(-1e150, 1e150)))
def test_no_sampled_value_is_changed_by_writing_it(x: NDArray[np.float64]) -> None:
    profile = profile_array(x, batch_sizes=[2])
    read = Profile.from_bytes(profile.to_bytes()).calibration.values
    assert read.astype(np.float64).tobytes() == profile.calibration.values.tobytes()


@pytest.mark.parametrize(("dtype", "axes", "axis", "labelled"), CASES)
def test_the_empty_profile_is_the_identity(dtype: str, axes: tuple[int, ...], axis: str, labelled: bool) -> None:
    profile = profiled(data(dtype, 30, axes), np.arange(30) if labelled else None, [0, 11, 30], [4, 7], axis)[1]
    empty = Profile.empty()
    for parts in ([empty, profile], [profile, empty], [empty, profile, empty]):
        assert merge(parts).to_bytes() == profile.to_bytes()


def test_no_rows() -> None:
    empty = Profile.empty()
    again = Profile.from_bytes(empty.to_bytes())
    for same in (merge([]), merge([empty]), merge([empty, again]), again):
        assert same.to_bytes() == empty.to_bytes()
        assert (same.n_rows, same.n_features, same.spans, same.batch_sizes, same.dtype) == (0, 0, (), (), "")
        assert (same.labelled, same.moments.count, same.schema.values_per_row) == (False, 0, 0)
        for size in (None, 4):
            with pytest.raises(GapError, match="expected at least one shard; none has come: send the shards first"):
                make_plan(same, batch_size=size)


def test_overlaps_are_named() -> None:
    x = data("float64", 40, (3,))
    a, b = profile_array(x[:10], batch_sizes=[4]), profile_array(x[8:], batch_sizes=[4], first_row=8)
    for parts in ([a, b], [b, a]):
        with pytest.raises(OverlapError, match="expected each row once; rows 8 to 9 came twice: give each shard its"):
            merge(parts)
    with pytest.raises(OverlapError, match="rows 0 to 9 came twice"):
        merge([a, a])
    inside = profile_array(x[3:5], batch_sizes=[4], first_row=3)
    with pytest.raises(OverlapError, match="rows 3 to 4 came twice"):
        merge([inside, a])


def test_gaps_are_named() -> None:
    x = data("float64", 40, (3,))
    parts = [profile_array(x[a:b], batch_sizes=[4], first_row=a) for a, b in ((3, 7), (10, 11), (20, 40))]
    profile = merge(parts)
    assert missing_rows(profile.spans) == ((0, 3), (7, 10), (11, 20))
    with pytest.raises(GapError) as caught:
        make_plan(profile)
    assert str(caught.value) == (
        "expected every row from 0 to 39; missing rows 0 to 2, 7 to 9, 11 to 19: send the shards that hold them"
    )
    many = merge([profile_array(x[i : i + 1], batch_sizes=[4], first_row=i) for i in range(1, 40, 2)])
    with pytest.raises(GapError, match=r"missing rows 0 to 0, 2 to 2, 4 to 4, 6 to 6, 8 to 8 and 15 more gaps"):
        make_plan(many)


def test_merge_refuses_what_does_not_belong_together() -> None:
    x = data("float64", 20, (4, 3))
    a = profile_array(x[:10], batch_sizes=[4])

    def other(rows: NDArray[Any] = x[10:], **settings: Any) -> Profile:
        return profile_array(rows, **{"batch_sizes": [4], "first_row": 10, **settings})

    with pytest.raises(ShapeError, match=r"expected samples of shape \(4, 3\) as in the other shards; got \(3, 4\)"):
        merge([a, other(x[10:].reshape(10, 3, 4))])
    with pytest.raises(SettingError, match=r"one setting of batch sizes; got \(4,\) and \(2, 4\)"):
        merge([a, other(batch_sizes=[4, 2])])
    with pytest.raises(SettingError, match="one setting of feature axis; got element and channel"):
        merge([a, other(feature_axis="channel")])
    with pytest.raises(SettingError, match="one setting of calibration rows; got 4096 and 7"):
        merge([a, other(calibration_rows=7)])
    with pytest.raises(SettingError, match="one setting of nonfinite; got raise and exclude"):
        merge([a, other(nonfinite="exclude")])
    with pytest.raises(LabelError, match="expected labels in every shard or in none; some have them and some do not"):
        merge([a, other(labels=np.zeros(10, int))])
    with pytest.raises(SettingError, match="expected a profile; got ndarray: profile_array"):
        merge([a, x])  # type: ignore[list-item]  # what must be refused
    with pytest.raises(SettingError, match="expected a profile; got ndarray"):
        make_plan(x)  # type: ignore[arg-type]  # likewise


def test_dtypes_of_the_shards_are_collected() -> None:
    x = data("float64", 20, (3,))
    parts = [
        profile_array(x[:9].astype("float32"), batch_sizes=[4]),
        profile_array(x[9:].astype("uint8"), batch_sizes=[4], first_row=9),
    ]
    assert merge(parts).dtype == "float32,uint8"


def test_a_batch_that_overflows_only_when_its_parts_meet() -> None:
    x = np.concatenate([np.full((2, 1), 1e154), np.full((2, 1), -1e154)]) * 1.3
    parts = [profile_array(x[a : a + 2], batch_sizes=[4], first_row=a) for a in (0, 2)]
    with pytest.raises(NonFiniteError, match="batch 0 has larger ones: divide the data"):
        merge(parts)


def test_bytes_that_are_no_profile() -> None:
    profile = profile_array(data("float32", 30, (3,)), batch_sizes=[4, 7], first_row=2, labels=np.arange(30))
    whole = profile.to_bytes()
    other = whole.replace(b"normgauge.profile/3", b"normgauge.profile/9")
    with pytest.raises(FormatError, match=r"schema normgauge.profile/3; got 'normgauge.profile/9'"):
        Profile.from_bytes(other)
    for bad in (b"", b"{}", b"abc", whole[:7], whole[:100], whole[:-1], whole + b"\0"):
        with pytest.raises(FormatError, match="expected a profile written by to_bytes; got other bytes"):
            Profile.from_bytes(bad)
    with pytest.raises(FormatError, match=r"do not hold 31 rows|another length than 31 rows"):
        Profile.from_bytes(whole.replace(rb"\"spans\": [[2, 32]]", rb"\"spans\": [[2, 33]]"))
    with pytest.raises(FormatError, match="expected a consistent profile"):
        Profile.from_bytes(whole.replace(b"rows.means", b"rows.meanz"))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("calibration.values", lambda v: np.where(np.arange(v.size).reshape(v.shape) == 5, np.nan, v)),
        ("calibration.values", lambda v: np.where(v > v.min(), v, -np.inf).astype(np.float64)),
        ("calibration.values", lambda v: v.astype(np.int64)),
        ("calibration.values", lambda v: v[:-1]),
        ("calibration.rows", lambda v: v.astype(np.float64)),
        ("calibration.rows", lambda v: v.astype(np.int32)),
        ("calibration.rows", lambda v: v[::-1].copy()),
        ("rows.means", lambda v: v.astype(np.float32)),
    ],
)
def test_forged_samples_are_refused(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    whole = profile_array(data("float32", 30, (3,)), batch_sizes=[4]).to_bytes()
    tensors = safetensors.numpy.load(whole)
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    assert Profile.from_bytes(safetensors.numpy.save(tensors, header)).to_bytes() == whole
    forged = safetensors.numpy.save(tensors | {name: change(tensors[name])}, header)
    with pytest.raises(FormatError, match="expected a consistent profile"):
        Profile.from_bytes(forged)


def test_a_signalling_nan_in_a_sample_is_refused() -> None:
    whole = profile_array(data("float32", 30, (3,)), batch_sizes=[4]).to_bytes()
    for value in (b"\x01\x00\x80\x7f", b"\x00\x00\x80\xff"):
        sampled = safetensors.numpy.load(whole)["calibration.values"].tobytes()
        at = whole.index(sampled)
        with pytest.raises(FormatError, match="not all finite"):
            Profile.from_bytes(whole[:at] + value + whole[at + 4 :])


def test_writing_heeds_no_setting_of_numpy() -> None:
    x = np.array([[1.0, 1e-50], [2.0, 3e50]])
    with np.errstate(all="raise"):
        profile = profile_array(x, batch_sizes=[1])
        written = profile.to_bytes()
    assert_array_equal(Profile.from_bytes(written).calibration.values, profile.calibration.values)


def test_altered_bytes_are_a_profile_or_a_format_error() -> None:
    whole = profile_array(data("float32", 30, (3,)), batch_sizes=[4, 7], labels=np.arange(30)).to_bytes()
    random = Random(5)
    refused = 0
    for _ in range(1500):
        changed = bytearray(whole)
        for _ in range(random.choice([1, 1, 1, 3])):
            changed[random.randrange(3000)] = random.randrange(256)
        try:
            Profile.from_bytes(bytes(changed))
        except FormatError:
            refused += 1
    assert refused > 300
