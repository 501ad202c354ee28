"""Rows that hold NaN or infinity: left out to the bit for any cutting, and plans that say so."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from assessor import (
    NonFiniteError,
    Plan,
    Profile,
    SettingError,
    assess,
    make_plan,
    merge,
    profile_array,
    profile_dataset,
    profile_shard,
)
from assessor.kernels import choice

Floats = NDArray[np.float64]
BAD = {
    0: np.nan,
    5: np.inf,
    6: -np.inf,
    17: np.nan,
    18: np.nan,
    40: np.inf,
    41: np.nan,
    42: np.nan,
    43: np.nan,
    61: np.nan,
}


def data(n: int = 62, shape: tuple[int, ...] = (4, 3), bad: dict[int, float] | None = None) -> Floats:
    """Rows of which some hold a value that is not finite; with all of batch 10 of four rows among them."""
    rng = np.random.default_rng(1)
    x = rng.normal(1, 2, (n, *shape)) * np.arange(1, shape[-1] + 1)
    for row, value in (BAD if bad is None else bad).items():
        x[row].reshape(-1)[row % x[0].size] = value
    return x


def kept(x: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(x.reshape(len(x), -1)).all(axis=1))


def profile(x: Floats, **options: Any) -> Profile:
    return profile_array(x, **{"batch_sizes": [4, 7], "nonfinite": "exclude", **options})


@settings(max_examples=30)
@given(
    st.sets(st.integers(1, 61), max_size=12),
    st.sampled_from(["element", "channel"]),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_cutting_and_order_give_the_same_bytes(
    cuts: set[int], axis: str, labelled: bool, compared: bool, random: Any
) -> None:
    x, labels = data(), np.arange(62) % 3
    reference = profile_array(data(bad={}), batch_sizes=[5], feature_axis=axis) if compared else None

    def part(a: int, b: int) -> Profile:
        given = {"labels": labels[a:b]} if labelled else {}
        return profile(x[a:b], first_row=a, feature_axis=axis, reference=reference, **given)

    edges = sorted({0, 62, *cuts})
    parts = [part(a, b) for a, b in pairwise(edges)]
    random.shuffle(parts)
    whole = part(0, 62)
    merged = merge([Profile.from_bytes(piece.to_bytes()) for piece in parts])
    assert merged.to_bytes() == whole.to_bytes() == Profile.from_bytes(whole.to_bytes()).to_bytes()
    assert whole.left_out.tolist() == sorted(BAD)


@pytest.mark.parametrize("size", [1, 2, 4, 7, 16, 100])
@pytest.mark.parametrize("axis", ["element", "channel"])
def test_batches_are_judged_by_their_other_rows(size: int, axis: str) -> None:
    """Each batch against the plan of its other rows alone; the decisive numbers are per batch."""
    x = data(bad=BAD | {20: np.nan})
    plan = assess(x, batch_size=size, nonfinite="exclude", feature_axis=axis, threshold=0.1)
    for i, score in enumerate(plan.scores):
        batch = x[i * size : (i + 1) * size]
        rows = batch[kept(batch)]
        n_out = len(batch) - len(rows)
        assert plan.details["excluded_rows"][i] == n_out
        if len(rows) < 2 and (n_out or size * (3 if axis == "channel" else 1) < 2):
            assert np.isnan(score)
            assert not plan.normalize[i]
            continue
        alone = assess(rows, batch_size=len(rows), feature_axis=axis, threshold=0.1)
        assert_allclose(score, alone.scores[0], rtol=1e-12)
        assert (f"{n_out} of its rows hold values that are not finite and are left out" in plan[i].reason) == (
            n_out > 0
        )
    if plan.decomposition is not None:
        complete = plan.scores[: 62 // size]
        parts = plan.decomposition
        mean = complete[~np.isnan(complete)].mean()
        assert_allclose(parts["global"] + parts["feature"] + parts["drift"], mean, rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("heterogeneity", {}),
        ("gaussian", {"null": "normal"}),
        ("published", {}),
        ("bartlett", {"threshold": "quantile(0.5)"}),
        ("location_share", {"threshold": "mean"}),
        ("scale_dispersion", {"threshold": "otsu"}),
        ("population_divergence", {"threshold": "1"}),
    ],
)
def test_every_method_works_without_the_rows(method: str, options: dict[str, Any]) -> None:
    x = data(700, (12,), dict.fromkeys((3, 4, 5, *range(77, 87), 699), np.nan))
    reference = profile_array(x[kept(x)], batch_sizes=[9])
    made = {
        bad: profile_array(x, batch_sizes=[7], nonfinite=bad, reference=reference) for bad in ("exclude", "normalize")
    }
    plan = make_plan(made["exclude"], method=method, **options)
    for i in (0, 99):  # 3 rows left out of 7, and 1
        rows = x[7 * i : 7 * i + 7]
        alone = make_plan(
            profile_array(
                np.concatenate([rows[kept(rows)], x[14:21]]), batch_sizes=[kept(rows).sum()], reference=reference
            ),
            method=method,
            **({"threshold": "1", **options} if method != "gaussian" else options),
        )
        if method == "published":
            means = x[kept(x)].mean()
            assert_allclose(plan.scores[i], np.abs(rows[kept(rows)].mean(axis=1) - means).max() / abs(means))
        elif method != "heterogeneity":  # whose null is drawn from the dataset
            assert_allclose(plan.scores[i], alone.scores[0], rtol=1e-12)
    # Of rows 77 to 83 none is left, of rows 84 to 90 four.
    assert np.flatnonzero(np.isnan(plan.scores)).tolist() == [11]
    assert "too few rows are left" in plan[11].reason
    assert plan.notes[0].startswith("14 rows in 4 batches hold values that are not finite")
    marked = make_plan(made["normalize"], method=method, **options)
    assert np.flatnonzero(np.isposinf(marked.scores)).tolist() == [0, 11, 12, 99]
    assert marked.normalize[[0, 11, 12, 99]].all()
    assert marked[0].reason == "3 of its rows hold values that are not finite: normalize, as nonfinite='normalize' asks"
    clean = np.delete(np.arange(100), [0, 11, 12, 99])
    assert_allclose(marked.scores[clean], plan.scores[clean])
    assert marked.notes[0].endswith("these batches are to be normalized, as nonfinite='normalize' asks")
    for written in (plan, marked):
        assert Plan.from_json(written.to_json()) == written


@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_both_kernels_and_all_dtypes(kernel: str, dtype: str) -> None:
    x = data(2000, (70,), {}).astype(dtype)
    bad = np.array([0, 1, 31, 32, 500, 1023, 1024, 1999])
    x[bad, bad % 70] = np.nan
    before = choice().name
    choice().name = kernel
    try:
        made = profile_array(x, batch_sizes=[8, 32], nonfinite="exclude")
    finally:
        choice().name = before
    assert made.left_out.tolist() == bad.tolist()
    good = x[kept(x)].astype(np.float64)
    assert_allclose(made.moments.mean, good.mean(axis=0), rtol=1e-10)
    assert_allclose(made.moments.variance, good.var(axis=0), rtol=1e-10)
    records = made.lanes[8].records
    for i in (0, 3, 62, 249):
        rows = x[8 * i : 8 * i + 8].astype(np.float64)
        rows = rows[kept(rows)]
        assert_allclose(records["mean_log_variance"][i], np.log(rows.var(axis=0)).mean(), rtol=1e-9)
    finite = profile_array(data(300, (70,), {}), batch_sizes=[8])
    same = profile_array(data(300, (70,), {}), batch_sizes=[8], nonfinite="exclude")
    assert np.array_equal(finite.lanes[8].records, same.lanes[8].records)


def test_rows_are_left_out_of_the_calibration_sample_and_the_borders() -> None:
    made = profile(data())
    assert not set(made.calibration.rows.tolist()) & set(BAD)
    assert len(made.calibration.rows) == 52
    border = made.rows.border_means
    assert border is not None
    assert np.flatnonzero(np.isnan(border)).tolist() == sorted(BAD)
    assert_allclose(border[1], data()[1, :-1, :-1].mean())


def test_a_dataset_and_a_shard_take_the_setting() -> None:
    x = data()
    assert profile_dataset(list(x), batch_sizes=[4, 7], nonfinite="exclude").to_bytes() == profile(x).to_bytes()


def test_what_stays_an_error() -> None:
    with pytest.raises(NonFiniteError, match=r"row 0, element 0 is nan .* leave such rows out .nonfinite=exclude"):
        profile_array(data(), batch_sizes=[4])
    with pytest.raises(SettingError, match="nonfinite among raise, exclude, normalize; got 'drop'"):
        profile_array(data(), batch_sizes=[4], nonfinite="drop")
    nothing = profile_array(np.full((6, 3), np.nan), batch_sizes=[4], nonfinite="exclude")
    with pytest.raises(NonFiniteError, match="expected a row of finite values; every row holds others"):
        make_plan(nothing)
    large = np.zeros((6, 3))
    large[2, 0] = np.nan
    large[4] = 1.7e308
    with pytest.raises(NonFiniteError, match="sum over a sample fits float64; that of row 14 overflows"):
        profile_array(large, batch_sizes=[2], first_row=10, nonfinite="exclude")
    large[4] = 1e160
    with pytest.raises(NonFiniteError, match="squares and their sums fit float64"):
        profile_array(large, batch_sizes=[4], nonfinite="exclude")


@pytest.mark.parametrize("policy", ["exclude", "normalize"])
def test_long_runs_of_wide_rows_that_are_not_finite(policy: str) -> None:
    x = np.ones((300, 1000)) * np.arange(300)[:, None]
    x[100:250] = np.nan
    plan = assess(x, batch_size=50, nonfinite=policy)
    assert plan.normalize.tolist()[2:5] == [policy == "normalize"] * 3
    # The batches without such rows are those of the data as they would be alone.
    alone = profile_array(np.delete(x, slice(100, 250), axis=0), batch_sizes=[50], nonfinite=policy)
    assert profile_array(x, batch_sizes=[50], nonfinite=policy).lanes[50].records[0] == alone.lanes[50].records[0]


def test_memory_stays_bounded_where_every_batch_lacks_rows() -> None:
    """Batches without some rows are closed as others are: no node of them is kept."""
    x = data(3200, (64,), {})
    x[::5, 0] = np.nan
    made = profile_array(x.astype(np.float32), batch_sizes=[32], nonfinite="exclude", calibration_rows=0)
    assert len(made.lanes[32].records) == 100
    assert not made.lanes[32].cut
    assert len(made.to_bytes()) < x.size * 4 / 15


@pytest.mark.parametrize("ending", ["npy", "csv", "json", "jsonl", "parquet", "arrow"])
def test_shards_with_missing_values(tmp_path: Path, ending: str) -> None:
    """Empty fields and nulls are rows to leave out, in every format that can have them."""
    x = data(30, (3,), {4: np.nan, 21: np.nan})
    names = ["a", "b", "c"]
    columns = {name: [None if np.isnan(v) else float(v) for v in x[:, k]] for k, name in enumerate(names)}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    path = tmp_path / f"x.{ending}"
    if ending == "npy":
        np.save(path, x)
    elif ending == "csv":
        text = [",".join("" if v is None else repr(v) for v in row) for row in rows]
        path.write_text("\n".join([",".join(names), *text]))
    elif ending == "json":
        path.write_text(json.dumps({"x": rows}))
    elif ending == "jsonl":
        path.write_text("\n".join(json.dumps({"x": row}) for row in rows))
    elif ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        table = pyarrow.table(columns)
        with pyarrow.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    format_name = "json" if ending == "json" else None
    made = profile_shard(path, batch_sizes=[4, 7], nonfinite="exclude", format=format_name)
    assert made.left_out.tolist() == [4, 21]
    whole = profile(x)
    assert np.array_equal(made.lanes[4].records, whole.lanes[4].records)
    with pytest.raises(NonFiniteError):
        profile_shard(path, batch_sizes=[4], format=format_name)
