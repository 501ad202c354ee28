"""From samples to what is scored."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from clients.errors import SampleError
from clients.samples import label_of, scored_tensor, stack


@dataclass
class Scan:
    image: torch.Tensor
    site: int


class Named(NamedTuple):
    image: torch.Tensor
    site: int


X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("sample", "key"),
    [
        (X, None),
        (X.numpy(), None),
        ((X, 1), None),
        ([X, 1], None),
        ((1, X), 1),
        ({"image": X}, "image"),
        (Scan(X, 1), "image"),
        (Named(X, 1), None),
        (Named(X, 1), "image"),
        ({"a": {"b": X}}, lambda s: s["a"]["b"]),
    ],
)
def test_scored_part(sample: Any, key: Any) -> None:
    assert torch.equal(scored_tensor(sample, key), X)


def test_exact_widenings() -> None:
    assert scored_tensor(X.bfloat16(), None).dtype == torch.float32
    assert scored_tensor(X > 2, None).dtype == torch.uint8
    assert scored_tensor(X.half(), None).dtype == torch.float16


@pytest.mark.parametrize(
    ("sample", "key", "message"),
    [
        ("text", None, "expected a tensor, an array, or a tuple that begins with one; got str"),
        (("text", 1), None, r"expected a tensor or array to score; got str in tuple\(str, int\). Give input_key"),
        ({"image": X}, None, r"got dict with keys \['image'\]. Give input_key"),
        (Scan(X, 1), None, r"got Scan with fields \['image', 'site'\]"),
        ({"image": X}, "picture", "expected a sample with 'picture'; got dict with keys"),
        ((X,), 3, "expected a sample with 3"),
        (X.to(torch.complex64), None, "expected real numbers"),
        (np.array(["a"]), None, "expected numbers; got ndarray"),
    ],
)
def test_nothing_to_score(sample: Any, key: Any, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        scored_tensor(sample, key)


@pytest.mark.parametrize(
    ("sample", "key", "label"),
    [
        ((X, 3), None, 3),
        ((X, torch.tensor(3)), None, 3),
        ((X, np.int16(3)), None, 3),
        ((X, np.array(3)), None, 3),
        ((X, 3.5), None, None),
        ((X, torch.tensor(3.5)), None, None),
        ((X, torch.tensor([3, 4])), None, None),
        (X, None, None),
        ((X,), None, None),
        ({"image": X, "site": 3}, "site", 3),
        (Scan(X, 3), lambda scan: scan.site, 3),
    ],
)
def test_label(sample: Any, key: Any, label: int | None) -> None:
    assert label_of(sample, key) == label


def test_named_label_must_be_an_integer() -> None:
    with pytest.raises(SampleError, match="expected an integer label; got float"):
        label_of((X, 3.5), 1)


def test_stack_names_the_sample_that_differs() -> None:
    assert stack([X, X], [0, 1]).shape == (2, 2, 3)
    with pytest.raises(SampleError, match=r"sample 5 has Tensor \(2, 3\) float32, sample 9 has Tensor \(1, 3\)"):
        stack([X, X, X[:1]], [5, 7, 9])
    with pytest.raises(SampleError, match=r"sample 7 has Tensor .* float64"):
        stack([X, X.double()], [5, 7])
