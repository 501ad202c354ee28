"""Datasets by what they can do: those of torch itself, and stand-ins that behave as Hugging Face's do."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from assessor import AssessorError, DecodeSettings, profile_array, profile_dataset
from assessor.errors import DtypeError, EmptyShardError, FormatError, LabelError, NonFiniteError, ShapeError

X = np.random.default_rng(2).normal(size=(17, 3, 2)).astype(np.float32)
Y = np.arange(17) % 3
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 5, 6, 3), np.uint8)


def expected(x: Any, y: Any = None) -> bytes:
    return profile_array(x, labels=y, batch_sizes=[4]).to_bytes()


class Rows:
    """As a Hugging Face dataset: mappings by index, columns by name."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(torch.from_numpy(X), Y.tolist(), strict=True)


DATASETS: dict[str, tuple[Any, bytes]] = {
    "tensors": (TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), expected(X, Y)),
    "unlabelled": (TensorDataset(torch.from_numpy(X)), expected(X)),
    "array": (X, expected(X)),
    "stream": (Stream(), expected(X, Y)),
    "bfloat16": (torch.ones(8, 2, dtype=torch.bfloat16, requires_grad=True), expected(np.ones((8, 2), np.float32))),
    "mapping": (Rows(image=list(X), label=Y.tolist()), expected(X, Y)),
    "columns": (Rows(a=X[:, 0, 0], y=list(Y), b=X[:, 0, 1]), expected(X[:, 0], Y)),
    "pictures": (Rows(image=[Image.fromarray(p) for p in PIXELS]), expected(PIXELS.transpose(0, 3, 1, 2))),
    "lists": ([([1.0, 2.0], 0), ([3.0, 4.0], True)], expected([[1.0, 2.0], [3.0, 4.0]], [0, 1])),
    "generator": ((row for row in X), expected(X)),
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_profiled_as_its_array(name: str) -> None:
    dataset, same = DATASETS[name]
    seen: list[int] = []
    profile = profile_dataset(dataset, batch_sizes=[4], on_rows=seen.append)
    assert profile.to_bytes() == same
    assert sum(seen) == profile.n_rows


def test_columns_by_name() -> None:
    dataset = Rows(id=["a", "b"], pixel_values=[X[0], X[1]], fine=[3, 4], label=[0, 0])
    settings = DecodeSettings(columns=("pixel_values",), label="fine")
    assert profile_dataset(dataset, batch_sizes=[4], settings=settings).to_bytes() == expected(X[:2], [3, 4])


BAD: list[tuple[Any, type[AssessorError], str]] = [
    ([], EmptyShardError, "expected at least one row"),
    (3, FormatError, "expected a dataset with __len__ and __getitem__, or an iterable of samples; got int"),
    ({"x": X}, FormatError, "got dict"),
    ([(X[0], 1, 2)], FormatError, "row 0 is a tuple of 3: map the dataset"),
    ([X[0], X[0, 0]], ShapeError, r"expected rows of shape \(3, 2\) as before; got \(2,\) at row 1"),
    ([(X[0], 0), (X[0], 0.5)], LabelError, "row 1 has 0.5: number the classes"),
    ([(X[0], 0), (X[0], None)], LabelError, "row 1 differs from row 0"),
    ([X[0], None], NonFiniteError, "row 1, column 'x' is None"),
    (Rows(a=[1.0, None], b=[0, 1]), NonFiniteError, "row 1, column 'a' is None"),
    (Rows(a=[1.0], y=[None]), NonFiniteError, "expected a label; row 0, column 'y' is None"),
    (Rows(a=[1.0], text=["red"]), DtypeError, "row 0, column 'text'"),
    (Rows(a=[1.0], y=[0], label=[0]), LabelError, "got y and label"),
    ([{"a": 1.0}, {"b": 1.0}], ShapeError, "as before; row 1 has"),
    (Rows(image=[Image.new("P", (2, 2))]), DtypeError, "a picture of mode 'P': convert it"),
]


@pytest.mark.parametrize(("dataset", "error", "message"), BAD)
def test_bad_datasets(dataset: Any, error: type[AssessorError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        profile_dataset(dataset, batch_sizes=[4])
    assert str(caught.value).startswith("expected ")


def test_a_reference_as_for_arrays() -> None:
    x = np.random.default_rng(3).normal(size=(20, 4))
    reference = profile_array(x[:10], batch_sizes=[5])
    made = profile_dataset(list(x), batch_sizes=[5], reference=reference)
    assert made.to_bytes() == profile_array(x, batch_sizes=[5], reference=reference).to_bytes()
