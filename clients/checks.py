"""What AssessedLoader asks of its dataset and arguments, before anything is read."""

import inspect
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from assessor import Plan, Profile
from assessor.profile import NONFINITE
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


def as_plan(plan: Any) -> Plan | None:
    """Return the plan: as given, or read from the file of that path.

    Raises:
        LoaderError: neither a plan nor a path.
        PlanFormatError: a file that holds no plan.
    """
    if plan is None or isinstance(plan, Plan):
        return plan
    if isinstance(plan, str | os.PathLike):
        return Plan.load(plan)
    raise LoaderError(f"expected a Plan, or the path of one that was saved (Plan.save); got {type(plan).__name__}")


def check_scored(scored: Any, n_samples: int | None) -> None:
    """Check that what is scored in the dataset's place has the same samples.

    Raises:
        DatasetError: no dataset, or one of another length.
    """
    if scored is None or n_samples is None:
        return
    n_scored = check_dataset(scored)
    if n_scored != n_samples:
        raise DatasetError(
            f"expected score_dataset to hold the dataset's {n_samples} samples as they are scored; it has {n_scored}"
        )


def check_service(service: Any) -> None:
    """Check that the service is one that the loader can assess at.

    Raises:
        LoaderError: neither a URL nor an AssessorClient.
    """
    if service is None:
        return
    if isinstance(service, str):
        from clients.wire import shown_url  # so that assessing here needs no httpx

        try:
            shown_url(service)
        except ValueError as error:
            raise LoaderError(f"service: {error}") from error
        return
    put_shards = getattr(service, "put_shards", None)
    if put_shards is None or inspect.iscoroutinefunction(put_shards):
        raise LoaderError(
            f"expected service to be the URL of a normgauge service or an AssessorClient; got {type(service).__name__}"
        )


def check_dataloader(dataloader_class: Any, arguments: Mapping[str, Any]) -> DataLoader[Any]:
    """Return a DataLoader of the arguments meant for it, which shows that it takes them; nothing is read by it.

    Raises:
        LoaderError: what it says of them.
    """
    if not isinstance(dataloader_class, type):
        raise LoaderError(
            "expected dataloader_class to be torch's DataLoader or a class made like it; got "
            f"{type(dataloader_class).__name__}"
        )
    for name in ("collate_fn", "worker_init_fn"):
        if not (arguments.get(name) is None or callable(arguments[name])):
            raise LoaderError(f"expected {name} to be a function; got {type(arguments[name]).__name__}")
    # torch finds these out when the first worker starts, an hour into an assessment or after it
    num_workers, generator = arguments.get("num_workers", 0), arguments.get("generator")
    if isinstance(num_workers, float):
        raise LoaderError(f"expected num_workers to be an integer; got {num_workers!r}")
    if not (generator is None or isinstance(generator, torch.Generator)):
        raise LoaderError(f"expected generator to be a torch.Generator; got {type(generator).__name__}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come where the loader is made to be used
        try:
            made: DataLoader[Any] = dataloader_class(range(1), batch_sampler=[[0]], **arguments)
        except (TypeError, ValueError, AssertionError) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise LoaderError(
                f"expected arguments that {dataloader_class.__name__} takes; got {given}: {error}"
            ) from error
    return made


def settle_batches(batch_size: Any, drop_last: bool | None, plan: Plan | None) -> tuple[Any, bool]:
    """Return batch_size and drop_last, those not given as the plan has them, else 32 and False.

    Raises:
        LoaderError: drop_last is neither.
    """
    if batch_size is None:
        batch_size = DEFAULT_BATCH_SIZE if plan is None else plan.batch_size
    elif isinstance(batch_size, np.integer):
        batch_size = int(batch_size)
    if drop_last is None:
        drop_last = False if plan is None else plan.drop_last
    elif not isinstance(drop_last, int | np.bool_):
        raise LoaderError(f"expected drop_last to be True or False; got {drop_last!r}")
    return batch_size, bool(drop_last)


def check_arguments(
    *,
    batch_size: Any,
    shuffle: Any,
    reshuffle: Any,
    on_mismatch: Any,
    input_key: InputKey,
    label_key: InputKey,
    nonfinite: Any,
    method_options: Any,
    reference: Any,
    with_service: bool,
    standardize_input: Any,
    seed: Any,
    agree: Any,
    progress: Any,
    cache: Any,
    with_plan: bool,
) -> None:
    """Check AssessedLoader's arguments against each other.

    Raises:
        LoaderError: says which, and what to give instead.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise LoaderError(f"expected batch_size to be an integer >= 1; got {batch_size!r}: a decision is about a batch")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise LoaderError(f"expected seed to be an integer; got {seed!r}")
    for name, key in (("input_key", input_key), ("label_key", label_key)):
        if isinstance(key, bool) or not (key is None or isinstance(key, int | str) or callable(key)):
            raise LoaderError(
                f"expected {name} to be an item's number or name, or a function of the sample; got {key!r}"
            )
    _check_choice("shuffle", shuffle, (True, False, "batches"), unset=True)
    _check_choice("reshuffle", reshuffle, ("batches", "samples", False), unset=True)
    _check_choice("on_mismatch", on_mismatch, ("error", "warn", "rescore"))
    _check_choice("nonfinite", nonfinite, NONFINITE)
    if not (method_options is None or isinstance(method_options, Mapping)) or any(
        not isinstance(name, str) for name in method_options or ()
    ):
        raise LoaderError(
            "expected method_options to be a dict, such as {'published_exact': True}; got "
            f"{type(method_options).__name__} {method_options!r:.80}"
        )
    _check_choice("agree", agree, (True, False), unset=True)
    _check_choice("progress", progress, (True, False), unset=True)
    if not (cache is None or cache is False or isinstance(cache, str | os.PathLike)):
        raise LoaderError(f"expected cache to be a folder, False or None; got {cache!r}")
    if reference is not None and (with_service or not isinstance(reference, Profile)):
        got = "one beside service=" if with_service else type(reference).__name__
        raise LoaderError(
            f"expected reference to be a Profile, for assessing in this process; got {got}: "
            "profile_array or profile_dataset makes one"
        )
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
