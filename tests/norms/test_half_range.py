"""Values so large that their squares overflow: where a variance is infinite, a mean distance is not."""

import pytest
import torch

from norms import create


@pytest.mark.parametrize("name", ["l1_batch", "topk_batch", "linf_batch"])
def test_float16_arithmetic_overflows_with_squares_and_not_with_distances(name: str) -> None:
    x = (torch.randn(256, 4) * 2000).half()
    centred = x - x.mean(0)
    assert centred.square().mean(0).isinf().all()  # L2, taken in float16
    scale = create(name, 4).scale(centred.abs().T.contiguous())  # type: ignore[operator]  # a ScaleBatchNorm
    assert scale.dtype == torch.float16
    assert scale.isfinite().all()
    wide = create(name, 4).scale(centred.double().abs().T.contiguous())  # type: ignore[operator]  # as above
    # A sum of 256 values in half precision: 2^-11 for each of the eight levels of its tree.
    torch.testing.assert_close(scale.double(), wide, rtol=8 * 2.0**-11, atol=0)


@pytest.mark.parametrize("name", ["l1_batch", "topk_batch", "linf_batch"])
def test_float32_deviations_of_1e25(name: str) -> None:
    x = torch.randn(64, 4) * 1e25
    norm = create(name, 4)
    want = create(name, 4, eps=0.0).double()(x.double())
    torch.testing.assert_close(norm(x).double(), want, rtol=1e-5, atol=1e-5)
    assert norm.get_buffer("running_scale").isfinite().all()
    batch = create("batch", 4)(x)
    assert not batch.isfinite().all() or (batch == 0).all()  # the variance is infinite


@pytest.mark.parametrize("name", ["batch", "l1_batch", "topk_batch", "linf_batch"])
def test_float16_input_at_the_end_of_its_range(name: str) -> None:
    x = (torch.randn(64, 4) * 15000).clamp(-65000, 65000).half()
    y = create(name, 4)(x)
    assert y.dtype == torch.float16
    # Statistics are float32, so that batch norm is safe here too.
    torch.testing.assert_close(y.double(), create(name, 4).double()(x.double()), rtol=0, atol=8 * 2.0**-11)
