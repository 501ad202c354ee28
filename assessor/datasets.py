"""Datasets of other libraries, by what they can do: Hugging Face `datasets`, torch Datasets, lists of rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.bfloat16 import as_bits, widen
from assessor.errors import DtypeError, FormatError, LabelError, NonFiniteError, ShapeError
from assessor.formats.columns import choose_columns
from assessor.formats.gather import gather
from assessor.formats.images import BANDS, as_sample
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.moments import as_numbers
from assessor.profile import Profile
from assessor.profiler import Profiler

LABEL_TYPES = (int, np.integer, np.bool_)


def profile_dataset(
    dataset: Any,
    *,
    batch_sizes: Sequence[int],
    first_row: int = 0,
    feature_axis: str = "element",
    calibration_rows: int | None = None,
    reference: Profile | None = None,
    nonfinite: str = "raise",
    settings: DecodeSettings = DEFAULT,
    on_rows: Callable[[int], None] | None = None,
) -> Profile:
    """Return the profile of a dataset, read sample by sample in its order.

    Args:
        dataset: with `__len__` and `__getitem__` (indexed from 0), or iterable. A sample is an array, tensor, picture
            or list of numbers; a tuple (x,) or (x, y) of one and its label; or a mapping by column.
        batch_sizes, first_row, feature_axis, calibration_rows, reference, nonfinite: see `Profiler`.
        settings: which columns are what, for mappings. One column of arrays is samples of that shape; several are
            joined, each flattened.
        on_rows: called with the number of rows taken, for a progress bar.

    Raises:
        AssessorError: a sample is not of numbers, or of another shape; the row is named.

    >>> profile_dataset([([1.0, 2.0], 0), ([3.0, 5.0], 1)], batch_sizes=[2]).n_rows
    2
    """
    profiler = Profiler(
        batch_sizes=batch_sizes,
        first_row=first_row,
        feature_axis=feature_axis,
        calibration_rows=calibration_rows,
        reference=reference,
        nonfinite=nonfinite,
    )
    for part in gather(_Samples(settings).read(dataset)):
        if part.name == "x":
            profiler.add(part.block)
            if on_rows is not None:
                on_rows(len(part.block))
        else:
            profiler.add_labels(part.block)
    return profiler.finish()


def _rows(dataset: Any) -> Iterator[Any]:
    """Yield a dataset's samples; by index where it has a length, since iteration may be over something else."""
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, Mapping):
        return (dataset[k] for k in range(len(dataset)))
    if isinstance(dataset, Iterable) and not isinstance(dataset, Mapping | str | bytes):
        return iter(dataset)
    raise FormatError(
        f"expected a dataset with __len__ and __getitem__, or an iterable of samples; got {type(dataset).__name__}"
    )


class _Samples:
    """Turns a dataset's samples into arrays and labels; remembers the columns of the first."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._names: list[str] | None = None
        self._columns: list[str] = []
        self._label: str | None = None
        self._labelled: bool | None = None

    def read(self, dataset: Any) -> Iterator[tuple[NDArray[Any], int | None]]:
        """Yield each sample and its label."""
        for row, sample in zip(count(), _rows(dataset), strict=False):
            x, y = self._split(sample, row)
            if self._labelled is None:
                self._labelled = y is not None
            if self._labelled != (y is not None):
                raise LabelError(f"expected a label with every sample or with none; row {row} differs from row 0")
            yield x, None if y is None else _label(y, row)

    def _split(self, sample: Any, row: int) -> tuple[NDArray[Any], Any]:
        if isinstance(sample, Mapping):
            return self._columns_of(sample, row)
        if isinstance(sample, tuple):
            if not 1 <= len(sample) <= 2:
                raise FormatError(
                    f"expected a sample (x,) or (x, y); row {row} is a tuple of {len(sample)}: "
                    "map the dataset to such samples first"
                )
            return _array(sample[0], row, "x"), sample[1] if len(sample) == 2 else None
        return _array(sample, row, "x"), None

    def _columns_of(self, sample: Mapping[str, Any], row: int) -> tuple[NDArray[Any], Any]:
        names = [str(name) for name in sample]
        if self._names is None:
            features, label = choose_columns(names, self._settings)
            self._names = sorted(names)
            self._columns = [names[k] for k in features]
            self._label = None if label is None else names[label]
        if sorted(names) != self._names:
            raise ShapeError(f"expected the columns {self._names!r:.200} as before; row {row} has {names!r:.200}")
        arrays = [_array(sample[name], row, name) for name in self._columns]
        label = None
        if self._label is not None:
            label = sample[self._label]
            if label is None:
                raise NonFiniteError(f"expected a label; row {row}, column {self._label!r:.80} is None: remove the row")
        return (arrays[0] if len(arrays) == 1 else np.concatenate([array.ravel() for array in arrays])), label


def _array(value: Any, row: int, name: str) -> NDArray[Any]:
    """Return one value of a sample as an array of rank 1 or more."""
    if value is None:
        raise NonFiniteError(f"expected numbers; row {row}, column {name!r:.80} is None: remove or impute it first")
    try:
        if hasattr(value, "detach"):
            value = _from_tensor(value)
        mode = getattr(value, "mode", None)
        if isinstance(mode, str) and hasattr(value, "getbands"):
            if mode not in BANDS:
                raise DtypeError(f"got a picture of mode {mode!r}: convert it, such as with image.convert('RGB')")
            return as_sample(np.asarray(value), mode)
        array = as_numbers(value)
    except (DtypeError, ShapeError) as error:
        raise type(error)(f"expected numbers in row {row}, column {name!r:.80}: {error}") from error
    return array if array.ndim else array[None]


def _from_tensor(tensor: Any) -> Any:
    """Return a torch tensor as an array; NumPy has no bfloat16, which float32 holds exactly."""
    bits = as_bits(tensor)
    return tensor.detach().cpu().numpy() if bits is None else widen(bits)


def _label(value: Any, row: int) -> int:
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if not isinstance(value, LABEL_TYPES) or not -(2**63) <= value < 2**63:
        raise LabelError(f"expected an integer label below 2^63; row {row} has {value!r:.80}: number the classes")
    return int(value)
