"""From a sample of the user's dataset to the tensor that is scored, and its label."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from assessor import NonFiniteError
from clients.errors import SampleError

InputKey = int | str | Callable[[Any], Any] | None


def pick(sample: Any, key: int | str | Callable[[Any], Any]) -> Any:
    """Return the part of a sample that a key names: an item, an attribute, or a call's result.

    >>> pick({"image": 1}, "image"), pick((1, 2), 1), pick(3, lambda s: s + 1)
    (1, 2, 4)

    Raises:
        SampleError: no such part.
    """
    if callable(key):
        return key(sample)
    try:
        if isinstance(key, str) and not isinstance(sample, Mapping):
            return getattr(sample, key)
        return sample[key]
    except (LookupError, AttributeError, TypeError) as error:
        raise SampleError(f"expected a sample with {key!r}; got {describe(sample)}") from error


def scored_tensor(sample: Any, key: InputKey) -> torch.Tensor:
    """Return the tensor of a sample that is scored, on the CPU, bfloat16 and float8 widened to float32.

    Args:
        sample: one item of the dataset.
        key: what `pick` takes; None takes the sample itself if it is a tensor or array, else its
            first item if it is a tuple or list.

    Raises:
        SampleError: no tensor or array there, or one that is not of numbers.
    """
    value = pick(sample, key) if key is not None else _default_input(sample)
    if isinstance(value, np.ndarray | np.generic):
        try:
            array = np.asarray(value)
            value = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        except TypeError as error:
            raise SampleError(f"expected numbers; got {describe(value)}") from error
    if not isinstance(value, torch.Tensor):
        raise SampleError(
            f"expected a tensor or array to score; got {describe(value)} in {describe(sample)}. "
            "Give input_key (an item's number or name, or a function of the sample)"
        )
    if value.layout is not torch.strided:
        raise SampleError(
            f"expected a dense tensor to score; got {describe(value)} of layout {value.layout}. Give an input_key "
            "function that calls to_dense()"
        )
    value = value.detach().cpu()
    if value.is_complex():
        raise SampleError(f"expected real numbers; got {describe(value)}")
    # exact widenings: NumPy has neither bfloat16 nor float8, and the assessor reads a bool as 0 or 1
    if value.dtype == torch.bfloat16 or (value.is_floating_point() and value.itemsize == 1):
        return value.float()
    return value.to(torch.uint8) if value.dtype == torch.bool else value


def _default_input(sample: Any) -> Any:
    if isinstance(sample, torch.Tensor | np.ndarray):
        return sample
    if isinstance(sample, tuple | list) and sample:
        return sample[0]
    raise SampleError(
        f"expected a tensor, an array, or a tuple that begins with one; got {describe(sample)}. "
        "Give input_key (an item's number or name, or a function of the sample)"
    )


def label_of(sample: Any, key: InputKey) -> int | None:
    """Return the sample's label, or None when it has none.

    Args:
        sample: one item of the dataset.
        key: what `pick` takes; None takes the second item of a tuple or list if it is an integer
            or an integer tensor of one element.

    Raises:
        SampleError: the key names something that is no integer.
    """
    if key is None:
        if not isinstance(sample, tuple | list) or len(sample) < 2:
            return None
        return _integer(sample[1])
    label = _integer(pick(sample, key))
    if label is None:
        raise SampleError(f"expected an integer label; got {describe(pick(sample, key))}")
    return label


def _integer(value: Any) -> int | None:
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return int(array) if array.dtype.kind in "iub" else None
    return None


def stack(tensors: Sequence[torch.Tensor], ids: Sequence[int]) -> torch.Tensor:
    """Return the samples' tensors as one, (n, *sample shape).

    Raises:
        SampleError: a sample of another shape or dtype, named by its index; more or fewer than were asked for.
    """
    if len(tensors) != len(ids):
        raise SampleError(f"expected {len(ids)} samples of the dataset's __getitems__, one an id; got {len(tensors)}")
    first = tensors[0]
    for tensor, index in zip(tensors, ids, strict=True):
        if tensor.shape != first.shape or tensor.dtype != first.dtype:
            raise SampleError(
                f"expected samples of one shape and dtype; sample {ids[0]} has {describe(first)}, "
                f"sample {index} has {describe(tensor)}. Resize or pad before scoring, or give an "
                "input_key function that does"
            )
    return torch.stack(list(tensors))


def check_finite(rows: torch.Tensor, ids: Sequence[int]) -> None:
    """Check that every value is finite.

    Args:
        rows: (n, *).
        ids: the rows' dataset indices, for the message.

    Raises:
        NonFiniteError: names the first sample that is not.
    """
    if not rows.is_floating_point() or bool(rows.isfinite().all()):
        return
    row = int(finite_rows(rows).logical_not().nonzero()[0])
    raise NonFiniteError(
        f"expected finite values; sample {ids[row]} of the dataset holds NaN or infinity: remove "
        "or impute such values, or leave such samples out of their batch's score (nonfinite=exclude)"
    )


def finite_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return which rows, of any shape, hold finite values only: (n,), bool."""
    return rows.isfinite().reshape(len(rows), -1).all(dim=1)


def describe(value: Any) -> str:
    """Return a short description of a value for a message.

    >>> describe((torch.zeros(2, 3), "a"))
    'tuple(Tensor (2, 3) float32, str)'
    """
    name = type(value).__name__
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"{name} with keys {list(value)[:8]}"
    if isinstance(value, tuple | list):
        inner = ", ".join(describe(v) for v in value[:4]) + (", ..." if len(value) > 4 else "")
        return f"{name}({inner})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{name} with fields {[f.name for f in dataclasses.fields(value)]}"
    return name
