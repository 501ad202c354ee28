"""One pass over a dataset in assessed order, as blocks of rows: what assessing reads."""

import contextlib
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from assessor import NonFiniteError
from clients.batches import DatasetView, read_samples
from clients.collating import WorkerInit
from clients.errors import RandomSampleWarning, SampleError, warn
from clients.samples import InputKey, check_finite, describe, label_of, scored_tensor, stack

# A block is read by one worker at once: large enough to hide its overhead, small beside any model.
_BLOCK_BYTES = 4 * 2**20
_BLOCK_ROWS = 1024

# An augmentation that changes a sample half of the time, as a mirror does, is missed once in 2^8.
_READ_TWICE = 8

# The arguments of DataLoader that say how samples are read, and not how they are batched.
READING_ARGUMENTS = (
    "num_workers",
    "worker_init_fn",
    "multiprocessing_context",
    "prefetch_factor",
    "timeout",
)


class Block(NamedTuple):
    """Consecutive rows in assessed order, and their labels if the dataset has any."""

    x: NDArray[Any]
    labels: NDArray[np.int64] | None


class Chunks(Sampler[list[int]]):
    """Batch sampler: ids in order, `size` at a time."""

    def __init__(self, ids: NDArray[np.int64], size: int) -> None:
        self.ids = ids
        self.size = size

    def __len__(self) -> int:
        return -(-len(self.ids) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        return (self.ids[i : i + self.size].tolist() for i in range(0, len(self.ids), self.size))


class ScoredView(DatasetView):
    """The dataset reduced to what is scored, a block at a time."""

    def __init__(self, inner: Any, *, input_key: InputKey, label_key: InputKey, labelled: bool, all_finite: bool):
        super().__init__(inner)
        self.input_key = input_key
        self.label_key = label_key
        self.labelled = labelled
        self.all_finite = all_finite

    def __getitems__(self, ids: Sequence[int]) -> Any:
        """Return (rows, labels) as tensors, which pass between processes without a copy, or an error."""
        samples = read_samples(self.inner, ids)
        try:
            rows = stack([scored_tensor(sample, self.input_key) for sample in samples], ids)
            if self.all_finite:
                check_finite(rows, ids)
            return rows, self._labels(samples, ids) if self.labelled else None
        except (SampleError, NonFiniteError) as error:
            return error  # raised where the user is, without the worker's traceback around it

    def _labels(self, samples: Sequence[Any], ids: Sequence[int]) -> torch.Tensor:
        labels = [label_of(sample, self.label_key) for sample in samples]
        for sample, label, index in zip(samples, labels, ids, strict=True):
            if label is None:
                raise SampleError(
                    f"expected an integer label in every sample, as in the first one; sample "
                    f"{index} is {describe(sample)}"
                )
        return torch.tensor(labels, dtype=torch.int64)


def read_blocks(
    dataset: Any,
    ids: NDArray[np.int64],
    *,
    input_key: InputKey,
    label_key: InputKey,
    arguments: Mapping[str, Any],
    all_finite: bool = True,
) -> Generator[Block, None, None]:
    """Yield the dataset's rows in the order of ids, in blocks of bounded size.

    The samples are read by a plain DataLoader with the caller's workers. The global random
    generators of this process are as before when the pass is over, so that training after it is
    the same as training from a saved plan.

    Args:
        dataset: a map-style dataset.
        ids: the dataset indices in the order to read, shape (n,).
        input_key: what is scored; see `scored_tensor`.
        label_key: the label; see `label_of`.
        arguments: the user's DataLoader arguments; those of READING_ARGUMENTS are used.
        all_finite: a sample with NaN or infinity is an error.

    Raises:
        SampleError: a sample without a tensor to score, or unlike the first.
        NonFiniteError: a sample with NaN or infinity.
    """
    with untouched_generators():
        first = read_samples(dataset, [int(ids[0])])[0]
        rows = scored_tensor(first, input_key)
        _warn_if_random(dataset, ids[:_READ_TWICE].tolist(), input_key)
        view = ScoredView(
            dataset,
            input_key=input_key,
            label_key=label_key,
            labelled=label_of(first, label_key) is not None,
            all_finite=all_finite,
        )
        size = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(1, rows.nbytes)))
        loader: DataLoader[Any] = DataLoader(
            view,
            batch_sampler=Chunks(ids, size),
            collate_fn=_as_is,
            generator=torch.Generator().manual_seed(0),
            **_reading(arguments),
        )
        blocks = iter(loader)
        try:
            for block in blocks:
                if isinstance(block, Exception):
                    raise block
                x, labels = block
                yield Block(x.numpy(), None if labels is None else labels.numpy())
        finally:
            del blocks  # ends the workers now, though an error's traceback keeps this frame


def _reading(arguments: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: arguments[name] for name in READING_ARGUMENTS if name in arguments}
    chosen["worker_init_fn"] = WorkerInit(chosen.get("worker_init_fn"))
    return chosen


def _as_is(block: Any) -> Any:
    return block


def _warn_if_random(dataset: Any, ids: list[int], input_key: InputKey) -> None:
    once, again = ([scored_tensor(sample, input_key) for sample in read_samples(dataset, ids)] for _ in range(2))
    pairs = zip(ids, once, again, strict=True)
    differ = [index for index, one, other in pairs if not _same(one, other)]
    if not differ:
        return
    warn(
        f"two reads of sample {differ[0]} differ: the dataset augments at random, so the batches fed are not "
        "quite those assessed. Score what comes before the augmentation: give score_dataset, the same "
        'samples without it, or input_key a function of the sample, or use reshuffle="samples", which '
        "scores each batch as it is read",
        RandomSampleWarning,
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


@contextlib.contextmanager
def untouched_generators() -> Iterator[None]:
    """Put the global random generators of this process back as they were."""
    python, legacy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(torch_state)
