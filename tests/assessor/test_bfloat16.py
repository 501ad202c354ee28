"""bfloat16 in every form that it comes in, against the float32 values that ml_dtypes gives."""

import io
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assessor import DtypeError, Moments, profile_array, profile_dataset, profile_shard
from assessor.bfloat16 import as_bits, widen
from assessor.kernels import choice

X: NDArray[Any] = np.random.default_rng(0).normal(3, 2, (50, 4, 3)).astype(ml_dtypes.bfloat16)
WIDE = X.astype(np.float32)


def tensor() -> torch.Tensor:
    return torch.from_numpy(WIDE.copy()).to(torch.bfloat16)


def npy(x: NDArray[Any]) -> io.BytesIO:
    stream = io.BytesIO()
    np.save(stream, x)
    stream.seek(0)
    return stream


def test_every_pattern_of_bits_is_what_ml_dtypes_says() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = widen(bits)
    expected = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(wide, expected, equal_nan=True)


@pytest.mark.parametrize("form", [X, X[::-1], tensor(), tensor().requires_grad_(), tensor().permute(0, 2, 1)])
def test_arrays_and_tensors(form: Any) -> None:
    made = profile_array(form, batch_sizes=[4, 7])
    wide = np.asarray(form.detach().float() if isinstance(form, torch.Tensor) else form.astype(np.float32))
    expected = profile_array(wide, batch_sizes=[4, 7])
    assert made.dtype == "bfloat16"
    assert np.array_equal(made.lanes[7].records, expected.lanes[7].records)
    assert np.array_equal(made.rows.means, expected.rows.means)
    assert np.array_equal(Moments.of(form).mean, Moments.of(wide).mean)


def test_npy_and_npz_and_a_dataset_and_one_row(tmp_path: Any) -> None:
    expected = profile_array(X, batch_sizes=[4])
    assert profile_shard(npy(X), batch_sizes=[4]).to_bytes() == expected.to_bytes()
    np.savez(tmp_path / "x.npz", x=X)
    assert profile_shard(tmp_path / "x.npz", batch_sizes=[4]).to_bytes() == expected.to_bytes()
    rows = profile_dataset(list(tensor()), batch_sizes=[4])
    assert np.array_equal(rows.lanes[4].records, expected.lanes[4].records)
    assert profile_array(X[:1], batch_sizes=[4]).dtype == "bfloat16"


def test_other_bytes_without_a_kind_are_refused() -> None:
    for kind in ("V4", "V1", "V3"):
        with pytest.raises(DtypeError, match=f"{kind}"):
            profile_shard(npy(np.zeros((4, 2), kind)), batch_sizes=[2])
    big = npy(X).getvalue().replace(b"'<V2'", b"'>V2'")
    with pytest.raises(DtypeError, match=">V2"):
        profile_shard(io.BytesIO(big), batch_sizes=[2])


def test_no_float_copy_of_the_whole_data() -> None:
    x = torch.zeros((40_000, 1000), dtype=torch.bfloat16)  # 80 MB, 160 MB as float32
    bits = as_bits(x)
    assert bits is not None
    assert bits.ctypes.data == x.data_ptr()
    before, choice().name = choice().name, "compiled"
    try:
        profile_array(x[:64], batch_sizes=[32], calibration_rows=0)
        tracemalloc.start()
        profile_array(x, batch_sizes=[32], calibration_rows=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        choice().name = before
    assert peak < 60e6
