import hashlib
import struct
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.stats import kstest

from assessor import PlanFormatError, SampleOrder, SettingError, fingerprint, hash_rows
from assessor import order as order_module
from assessor.order import sort_by_hash

MASK = 2**64 - 1


def mix(z: int) -> int:
    """The finalizer of SplitMix64 in plain integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**62))
def test_the_hash_in_plain_integers(seed: int, row: int) -> None:
    golden = 0x9E3779B97F4A7C15
    start = mix((seed * golden + golden) & MASK)
    expected = mix((row * golden + start) & MASK)
    assert int(hash_rows(seed, np.array([row]))[0]) == expected


def test_hashes_are_distinct_and_uniform() -> None:
    rows = np.arange(100_000)
    for seed in (0, 1, 7):
        hashes = hash_rows(seed, rows)
        assert len(np.unique(hashes)) == len(rows)
        assert kstest(hashes / 2.0**64, "uniform").pvalue > 1e-3
    a, b = hash_rows(0, rows) / 2.0**64, hash_rows(1, rows) / 2.0**64
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(rows))


@given(st.integers(0, 300), st.integers(-5, 2**65))
def test_orders_are_permutations_that_sort_by_hash(n: int, seed: int) -> None:
    ids = SampleOrder.shuffled(seed).ids(n)
    assert sorted(ids.tolist()) == list(range(n))
    assert ids.dtype == np.int64
    assert (np.diff(hash_rows(seed, ids).astype(np.float64)) >= 0).all()
    assert SampleOrder.ROWS.ids(n).tolist() == list(range(n))


@given(n=st.integers(0, 600), seed=st.integers(-5, 2**65), at_once=st.integers(1, 700), bucket=st.integers(1, 700))
def test_rows_sorted_in_buckets_are_those_sorted_at_once(n: int, seed: int, at_once: int, bucket: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "HASHED_AT_ONCE", at_once)
        patch.setattr(order_module, "BUCKET_ROWS", bucket)
        rows = sort_by_hash(seed, n)
    np.testing.assert_array_equal(rows, np.argsort(hash_rows(seed, np.arange(n)), kind="stable"))
    assert rows.dtype == np.uint32


def test_many_rows_are_sorted_as_they_are_at_once() -> None:
    n = 2_500_000  # several runs and many buckets, as they are outside tests
    np.testing.assert_array_equal(sort_by_hash(7, n), np.argsort(hash_rows(7, np.arange(n)), kind="stable"))


def test_a_shuffled_order_is_frozen_for_ever() -> None:
    """Made once; another result means that stored plans no longer name their samples."""
    assert SampleOrder.shuffled(0).ids(10).tolist() == [6, 8, 0, 9, 3, 1, 4, 2, 7, 5]
    assert fingerprint(SampleOrder.ROWS, 100, 32, False) == (
        "sha256:5c0b9ff1c268b948b59dde0e61177da1f1cee69d6c8a44bc1ce86f0b37b12974"
    )
    assert fingerprint(SampleOrder.shuffled(0), 100, 32, True) == (
        "sha256:05a313dc1cb927f12e830c83fc01d8919bfbf41406aa6c1c125253adfe21923e"
    )


@pytest.mark.parametrize(
    "order", [SampleOrder.ROWS, SampleOrder.shuffled(5), SampleOrder.shuffled(-(2**70)), SampleOrder.explicit([2, 2])]
)
def test_dict_round_trip(order: SampleOrder) -> None:
    assert SampleOrder.from_dict(order.to_dict()) == order


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "random"},
        {"kind": "rows", "seed": 3},
        {"kind": "shuffled"},
        {"kind": "shuffled", "seed": "3", "version": 1},
        {"kind": "shuffled", "seed": True, "version": 1},
        {"kind": "shuffled", "seed": 1.5, "version": 1},
        {"kind": "shuffled", "seed": 3, "version": 2},
        {"kind": "shuffled", "seed": 3, "version": 1, "more": 0},
        {"kind": ["rows"]},
        {"kind": "explicit", "version": 1},
        {"kind": "explicit", "sha256": "ab", "version": 1},
        {"kind": "explicit", "sha256": "0" * 64, "version": 2},
        {"kind": "explicit", "sha256": "0" * 64, "seed": 1, "version": 1},
    ],
)
def test_from_dict_refuses_others(data: dict[str, Any]) -> None:
    with pytest.raises(PlanFormatError, match=r'expected a sample order \{"kind": "rows"\}, '):
        SampleOrder.from_dict(data)


@pytest.mark.parametrize(
    ("kind", "seed"), [("rows", 1), ("shuffled", None), ("shuffled", 1.5), ("shuffled", True), ("other", None)]
)
def test_orders_of_other_settings_are_refused(kind: str, seed: Any) -> None:
    with pytest.raises(SettingError, match=r"expected SampleOrder.ROWS, SampleOrder.shuffled\(seed\) or .*; got kind="):
        SampleOrder(kind, seed)


def test_the_fingerprint_names_every_setting() -> None:
    names = {
        fingerprint(order, n, size, drop)
        for order in (SampleOrder.ROWS, SampleOrder.shuffled(0), SampleOrder.shuffled(1))
        for n in (100, 101)
        for size in (4, 5)
        for drop in (False, True)
    }
    assert len(names) == 24
    assert all(name.startswith("sha256:") and len(name) == 71 for name in names)


def test_the_fingerprint_does_not_depend_on_number_types() -> None:
    rows: Any = np.int64(100)
    size: Any = np.int32(4)
    drop: Any = np.True_
    assert fingerprint(SampleOrder.ROWS, rows, size, drop) == fingerprint(SampleOrder.ROWS, 100, 4, True)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_an_explicit_order_is_its_ids(ids: list[int]) -> None:
    order = SampleOrder.explicit(ids)
    assert order.ids(len(ids)).tolist() == ids
    assert (order == SampleOrder.ROWS) == (ids == list(range(len(ids))))
    assert order == SampleOrder.explicit(np.array(ids, ">u8"))
    others = [*ids[1:], ids[0]]
    assert (order == SampleOrder.explicit(others)) == (ids == others)


def test_the_dataset_order_given_as_ids_has_its_fingerprint() -> None:
    """Canonical: one layout, one name."""
    assert fingerprint(SampleOrder.explicit(range(100)), 100, 32, False) == (
        "sha256:5c0b9ff1c268b948b59dde0e61177da1f1cee69d6c8a44bc1ce86f0b37b12974"
    )


def test_an_explicit_order_is_named_for_ever() -> None:
    name = hashlib.sha256(struct.pack("<3q", 4, 4, 1)).hexdigest()
    order = SampleOrder.explicit([4, 4, 1])
    assert order.to_dict() == {"kind": "explicit", "sha256": name, "version": 1}
    read = SampleOrder.from_dict(order.to_dict())
    assert fingerprint(read, 3, 2, False) == fingerprint(order, 3, 2, False)
    with pytest.raises(SettingError, match="holds only their SHA-256: give the sampler that made the plan"):
        read.ids(3)
    with pytest.raises(SettingError, match="expected the 3 samples of an explicit order; got 4 samples"):
        order.ids(4)


@pytest.mark.parametrize("ids", [[], [[1, 2]], [1.5], [-1, 2], ["a"]])
def test_ids_that_are_none(ids: Any) -> None:
    with pytest.raises(SettingError, match="expected sample ids as one axis of integers >= 0; got shape"):
        SampleOrder.explicit(ids)


def test_explicit_ids_are_a_frozen_copy() -> None:
    ids = np.array([3, 1])
    order = SampleOrder.explicit(ids)
    ids[0] = 7
    assert order.ids(2).tolist() == [3, 1]
    with pytest.raises(ValueError, match="read-only"):
        order.ids(2)[0] = 5
