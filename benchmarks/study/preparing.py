"""Data prepared once, before training, with the training samples' moments."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from benchmarks.study.records import Data

HOW = ("nothing", "scale", "standardize", "per_source")


def prepare(data: Data, how: str) -> Data:
    """Return the data with all its parts treated as `how` says.

    Args:
        data: of one cell and seed.
        how: "nothing"; "scale": one shift and scale for all values; "standardize": each element of a sample has mean 0
            and variance 1 over the training samples (constant ones are only shifted); "per_source": the same within
            each source, known in evaluation too.

    Raises:
        ValueError: another `how`, or validation and test parts that are not one a source.
    """
    if how not in HOW:
        raise ValueError(f"expected a preparation among: {', '.join(HOW)}; got {how!r}")
    if how == "nothing":
        return data
    if how == "per_source":
        return _per_source(data)
    treat = _shift_scale(data.x, each=how == "standardize")
    parts = [tuple((treat(x), y) for x, y in part) for part in (data.validation, data.test)]
    return replace(data, x=treat(data.x), validation=parts[0], test=parts[1])


def _per_source(data: Data) -> Data:
    found = sorted(set(data.source.tolist()))
    if len(data.validation) != len(found) or len(data.test) != len(found):
        raise ValueError(
            f"expected validation and test parts of the sources {found}, one each; got {len(data.validation)} and "
            f"{len(data.test)}"
        )
    x = data.x.clone()
    treats = []
    for source in found:
        rows = data.source == source
        treats.append(_shift_scale(data.x[rows], each=True))
        x[rows] = treats[-1](data.x[rows])
    validation = tuple((treat(part), y) for treat, (part, y) in zip(treats, data.validation, strict=True))
    test = tuple((treat(part), y) for treat, (part, y) in zip(treats, data.test, strict=True))
    return replace(data, x=x, validation=validation, test=test)


def _shift_scale(x: Tensor, *, each: bool) -> Callable[[Tensor], Tensor]:
    wide = x.double()
    mean = wide.mean(0) if each else wide.mean()
    std = wide.std(0, correction=0) if each else wide.std(correction=0)
    # Rounding leaves a constant column a deviation of some units in the last place of its mean.
    std = std.where(std > 1e-6 * mean.abs(), 1.0)
    return lambda part: ((part.double() - mean) / std).float()
