"""What AssessedLoader asks of its dataset and arguments, before anything is read."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import IterableDataset

from clients.errors import DatasetError, LoaderError
from clients.samples import InputKey

# Arguments of DataLoader that choose batches, which here the plan does.
_CHOOSING = {
    "sampler": "give shuffle, or order the dataset itself (torch.utils.data.Subset)",
    "batch_sampler": "give batch_size and shuffle, or order the dataset itself and shuffle='batches'",
}


def check_dataset(dataset: Any) -> int:
    """Return the number of samples of a dataset that can be assessed.

    Raises:
        DatasetError: an iterable dataset, one without a length or items, or an empty one.
    """
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise DatasetError(
            f"expected a map-style dataset; got {name}, an IterableDataset, whose batches cannot be "
            "known before they are read: list its samples once, or write them as a map-style dataset"
        )
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DatasetError(
            f"expected a dataset with __len__ and __getitem__; got {name}: batches are fixed before "
            "training, so the number of samples must be known"
        )
    n_rows = len(dataset)
    if n_rows < 1:
        raise DatasetError(f"expected at least one sample; {name} is empty")
    return n_rows


def check_arguments(
    *,
    batch_size: Any,
    shuffle: Any,
    reshuffle: Any,
    on_mismatch: Any,
    input_key: InputKey,
    standardize_input: bool,
    with_plan: bool,
    dataloader_arguments: Mapping[str, Any],
) -> None:
    """Check AssessedLoader's arguments against each other.

    Raises:
        LoaderError: says which, and what to give instead.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise LoaderError(f"expected batch_size to be an integer >= 1; got {batch_size!r}: a decision is about a batch")
    _check_choice("shuffle", shuffle, (True, False, "batches"))
    _check_choice("reshuffle", reshuffle, ("batches", "samples", False))
    _check_choice("on_mismatch", on_mismatch, ("error", "warn", "rescore"))
    if reshuffle == "samples" and (shuffle is False or (shuffle == "batches" and not with_plan)):
        raise LoaderError(
            f"expected shuffle=True with reshuffle='samples', which draws the batches anew each epoch; "
            f"got shuffle={shuffle!r}"
        )
    for name, advice in _CHOOSING.items():
        if dataloader_arguments.get(name) is not None:
            raise LoaderError(f"expected no {name}: the plan says which samples form a batch; {advice}")
    if standardize_input and callable(input_key):
        raise LoaderError(
            "standardize_input=True needs an input_key that is an item's number or name: a function "
            "reads the input but cannot put it back"
        )


def _check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    # by type too: 0 and 1 are no choices
    if not any(value == choice and type(value) is type(choice) for choice in known):
        raise LoaderError(f"expected {name} among {known}; got {value!r}")
