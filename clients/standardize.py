"""What the published rule does with a flagged batch: standardize the input itself."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from clients.errors import LoaderError

# The published rule's own constant, far below float32's resolution at 1: a guard against 0 / 0.
_PUBLISHED_EPSILON = 2.22e-16


def standardize_input(x: torch.Tensor) -> torch.Tensor:
    """Return the batch standardized per element over the batch axis, on the device it is on.

    Args:
        x: (B, *). Integers become the default float dtype; float16 and bfloat16 are computed in
            float32 and returned in their own dtype.

    Returns:
        The same shape: (x - mean) / sqrt(variance + 2.22e-16), biased variance, no affine
        parameters. Elements that are constant over the batch, and any batch of one, give zeros.

    Source: what the released code of arXiv 2211.02050 does with a flagged batch (FORMULAS.md 2.1).

    >>> standardize_input(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    kept = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    computed = torch.promote_types(kept, torch.float32)
    # shifted by the first sample: a constant element is exactly zero, not rounding over epsilon
    shifted = x.to(computed) - x[:1].to(computed)
    variance, mean = torch.var_mean(shifted, dim=0, correction=0, keepdim=True)
    return ((shifted - mean) / torch.sqrt(variance + _PUBLISHED_EPSILON)).to(kept)


def standardize_in(batch: Any, key: int | str | Callable[[Any], Any] | None) -> Any:
    """Return the batch with its input standardized; its other parts are the same objects.

    Args:
        batch: what collate_fn returned: a tensor, a mapping, a list or a (named) tuple.
        key: the loader's input_key: where in the batch the input is, as in a sample.

    Raises:
        LoaderError: the key is a function, or the batch has no tensor there.
    """
    if key is None and isinstance(batch, torch.Tensor):
        return standardize_input(batch)
    if callable(key):
        raise LoaderError(
            "standardize_input=True needs an input_key that is an item's number or name: a "
            "function reads the input but cannot put it back"
        )
    place = 0 if key is None else key
    fields = getattr(batch, "_fields", None)
    try:
        if isinstance(batch, Mapping):
            entries = dict(batch)
            entries[place] = standardize_input(entries[place])
            return entries if type(batch) is dict else type(batch)(entries)  # type: ignore[call-arg]  # as torch's own collate rebuilds mappings
        if isinstance(batch, list | tuple):
            number = fields.index(place) if fields and isinstance(place, str) else int(place)
            items = list(batch)
            items[number] = standardize_input(items[number])
            return type(batch)(*items) if fields else type(batch)(items)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        raise _no_input(batch, place) from error
    raise _no_input(batch, place)


def _no_input(batch: Any, place: int | str) -> LoaderError:
    return LoaderError(
        f"standardize_input=True: expected a tensor at {place!r} of the batch; got "
        f"{type(batch).__name__}. Set input_key, or call clients.standardize_input in the "
        "training loop where loader.decision.normalize"
    )
