"""What AssessedLoader asks of its dataset and arguments, before anything is read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from assessor import Plan
from clients.errors import DatasetError, LoaderError
from clients.samples import InputKey

DEFAULT_BATCH_SIZE = 32


def check_dataset(dataset: Any) -> int | None:
    """Return the number of samples of a dataset that can be assessed; None for an iterable one.

    Raises:
        DatasetError: one without a length or items, or an empty one.
    """
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        return None
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DatasetError(
            f"expected a dataset with __len__ and __getitem__; got {name}: batches are fixed before "
            "training, so the number of samples must be known"
        )
    n_rows = len(dataset)
    if n_rows < 1:
        raise DatasetError(f"expected at least one sample; {name} is empty")
    return n_rows


def settle_batches(batch_size: Any, drop_last: bool | None, plan: Plan | None) -> tuple[Any, bool]:
    """Return batch_size and drop_last, those not given as the plan has them, else 32 and False."""
    if batch_size is None:
        batch_size = DEFAULT_BATCH_SIZE if plan is None else plan.batch_size
    elif isinstance(batch_size, np.integer):
        batch_size = int(batch_size)
    if drop_last is None:
        drop_last = False if plan is None else plan.drop_last
    return batch_size, drop_last


def check_arguments(
    *,
    batch_size: Any,
    shuffle: Any,
    reshuffle: Any,
    on_mismatch: Any,
    input_key: InputKey,
    standardize_input: Any,
    with_plan: bool,
) -> None:
    """Check AssessedLoader's arguments against each other.

    Raises:
        LoaderError: says which, and what to give instead.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise LoaderError(f"expected batch_size to be an integer >= 1; got {batch_size!r}: a decision is about a batch")
    _check_choice("shuffle", shuffle, (True, False, "batches"), unset=True)
    _check_choice("reshuffle", reshuffle, ("batches", "samples", False), unset=True)
    _check_choice("on_mismatch", on_mismatch, ("error", "warn", "rescore"))
    _check_choice("standardize_input", standardize_input, (True, False, "model"))
    if reshuffle == "samples" and (shuffle is False or (shuffle == "batches" and not with_plan)):
        raise LoaderError(
            f"expected shuffle=True with reshuffle='samples', which draws the batches anew each epoch; "
            f"got shuffle={shuffle!r}"
        )
    if standardize_input is True and callable(input_key):
        raise LoaderError(
            "standardize_input=True needs an input_key that is an item's number or name: a function "
            "reads the input but cannot put it back"
        )


def check_sampler(sampler: Any, batch_sampler: Any, *, batch_size: int, shuffle: Any, drop_last: bool) -> None:
    """Check the user's own sampler or batch_sampler, as torch's DataLoader does.

    Raises:
        LoaderError: both, one beside an argument that it replaces, or one without an end.
    """
    if sampler is not None and batch_sampler is not None:
        raise LoaderError("expected a sampler or a batch_sampler; got both")
    name = "sampler" if batch_sampler is None else "batch_sampler"
    if shuffle not in (None, False):
        raise LoaderError(
            f"expected no shuffle beside a {name}, which says in which order samples come; got shuffle={shuffle!r}. "
            "To read it once and shuffle the batches each epoch, give reshuffle='batches'"
        )
    if batch_sampler is not None and (batch_size != DEFAULT_BATCH_SIZE or drop_last):
        raise LoaderError("expected neither batch_size nor drop_last beside a batch_sampler, which says both")
    given = sampler if batch_sampler is None else batch_sampler
    if not hasattr(given, "__len__") or not hasattr(given, "__iter__"):
        raise LoaderError(
            f"expected a {name} with __iter__ and __len__; got {type(given).__name__}: it is read whole, once for "
            "the assessment and at the begin of each epoch"
        )


def check_stream(arguments: Mapping[str, Any]) -> None:
    """Check that nothing is asked of an iterable dataset that only known samples can give.

    Args:
        arguments: by name, what must be unset.

    Raises:
        DatasetError: names the first that is set.
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise DatasetError(
                f"expected no {name} with an iterable dataset, whose samples cannot be known before they are read; "
                f"got {value!r}. Give a map-style dataset for it"
            )


def _check_choice(name: str, value: Any, known: tuple[Any, ...], *, unset: bool = False) -> None:
    if unset and value is None:
        return
    # by type too: 0 and 1 are no choices
    if not any(value == choice and type(value) is type(choice) for choice in known):
        raise LoaderError(f"expected {name} among {known}; got {value!r}")
