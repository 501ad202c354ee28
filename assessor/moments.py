"""Moments per feature, and the fixed tree along which they are merged.

Floating-point addition is not associative. So that any cutting of the data gives the same result to the bit, moments
are combined along a binary tree over row numbers: node (level l, index i) covers items [i 2^l, (i + 1) 2^l), and is
always made from its two halves by the same element-wise operations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assessor.bfloat16 import as_bits, widen
from assessor.errors import DtypeError, ShapeError

Floats = NDArray[np.float64]


def as_numbers(x: ArrayLike) -> NDArray[np.generic]:
    """Return x as an array of booleans, integers or floats of at most 64 bits.

    Raises:
        ShapeError: rows of different lengths.
        DtypeError: not such numbers.
    """
    if (bits := as_bits(x)) is not None:
        return widen(bits)
    if hasattr(x, "detach"):  # a torch tensor, of whose gradients NumPy knows nothing
        tensor: Any = x.detach()
        x = tensor
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ShapeError(f"expected rows of one shape; got ragged data: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise DtypeError(f"expected what NumPy can read as numbers; got {type(x).__name__}: {error}") from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DtypeError(
            f"expected booleans, integers or floats of at most 64 bits; got dtype {array.dtype}: "
            "convert the data to numbers first"
        )
    return array


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations from the mean, per feature.

    Attributes:
        count: values per feature; 0 is the identity of `merge`.
        mean: float64, any shape; numbers, lists and other dtypes are taken as such.
        m2: float64, the shape of `mean`; >= 0.

    Source: Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115.

    >>> a, b = Moments.of([[1.0], [3.0]]), Moments.of([[5.0]])
    >>> c = a.merge(b)
    >>> c.count, float(c.mean[0]), float(c.m2[0])
    (3, 3.0, 8.0)
    """

    count: int
    mean: Floats
    m2: Floats

    def __post_init__(self) -> None:
        for name in ("mean", "m2"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> "Moments":
        """Return the identity of `merge` for features of this shape; of shape (), for features of any."""
        return cls(0, np.zeros(shape), np.zeros(shape))

    @classmethod
    def of(cls, x: ArrayLike) -> "Moments":
        """Return the moments over axis 0 of x, shape (n, *), along the fixed tree over its rows.

        No rows give the identity; NaN and infinity spread to the results of their feature.

        Raises:
            DtypeError: not numbers. ShapeError: ragged, or a scalar.
        """
        rows = as_numbers(x).astype(np.float64)
        if rows.ndim == 0:
            raise ShapeError("expected values of shape (n, *); got a scalar: give it an axis of samples")
        tree = MomentsTree()
        tree.add(0, rows, None, 1)
        return tree.fold() if len(rows) else cls.empty(rows.shape[1:])

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of values together.

        Raises:
            ShapeError: the features' shapes differ.
        """
        if self.mean.shape != other.mean.shape:
            for nothing, rest in ((self, other), (other, self)):
                if nothing.count == 0 and not nothing.mean.shape:
                    return rest
            raise ShapeError(f"expected moments of features of shape {self.mean.shape}; got {other.mean.shape}")
        if self.count == 0:
            return other
        if other.count == 0:
            return self
        n = self.count + other.count
        d = other.mean - self.mean
        mean = self.mean + d * (other.count / n)
        m2 = (self.m2 + other.m2) + d * d * (self.count * other.count / n)
        return Moments(n, mean, m2)

    @property
    def variance(self) -> Floats:
        """Biased variance (divided by count), float64; NaN where count is 0."""
        return self.m2 / self.count if self.count else np.full_like(self.m2, np.nan)


def reduce_pairs(mean: Floats, m2: Floats | None, count: int) -> tuple[Floats, Floats]:
    """Return mean and m2 of 2^l items along axis -2, merged pair by pair.

    Args:
        mean: shape (..., 2^l, features).
        m2: the same shape, or None for zero (single values).
        count: values per item and feature.

    Returns:
        Two arrays of shape (..., features).
    """
    while mean.shape[-2] > 1:
        left = mean[..., 0::2, :]
        d = mean[..., 1::2, :] - left
        # The same operations as Moments.merge with equal counts: n_b/n = 1/2, n_a n_b/n = count/2.
        mean = left + d * 0.5
        d *= d
        d *= count / 2
        m2 = d if m2 is None else (m2[..., 0::2, :] + m2[..., 1::2, :]) + d
        count *= 2
    return mean[..., 0, :], np.zeros_like(mean[..., 0, :]) if m2 is None else m2[..., 0, :]


def dyadic_blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the (level, index) of the largest tree nodes that tile [start, stop), left to right.

    >>> list(dyadic_blocks(3, 12))
    [(0, 3), (2, 1), (2, 2)]
    """
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def reduce_items(mean: Floats, m2: Floats | None, count: int) -> tuple[Floats, Floats]:
    """Return mean and m2 over all items of axis -2, numbered from 0: `MomentsTree.add` and `fold` in one.

    Shapes as in `reduce_pairs`, for any number of items.
    """
    out: tuple[Floats, Floats] | None = None
    n = 0
    for level, index in dyadic_blocks(0, mean.shape[-2]):
        part = slice(index << level, (index + 1) << level)
        node = reduce_pairs(mean[..., part, :], None if m2 is None else m2[..., part, :], count)
        n_node = count << level
        if out is None:
            out = node
        else:
            total = n + n_node
            d = node[0] - out[0]
            out = (
                out[0] + d * (n_node / total),
                (out[1] + node[1]) + d * d * (n * n_node / total),
            )
        n += n_node
    assert out is not None
    return out


@dataclass(eq=False)
class MomentsRun:
    """The tree's nodes over items start to stop - 1, held in one array to which a kernel adds the next items.

    Attributes:
        count: values per item and feature.
        stack: shape (2, slots, features): mean and m2 of the nodes of `dyadic_blocks(start, stop)`, in their order; the
            slots after them hold nothing.
        n_nodes: how many these are.
    """

    start: int
    stop: int
    count: int
    stack: Floats
    n_nodes: int = 0

    def reserve(self, n: int) -> None:
        """Make room for the nodes over n more items."""
        slots = 2 * (self.stop + n - self.start).bit_length()
        _, before, n_features = self.stack.shape
        if slots > before:
            wider = np.empty((2, slots, n_features))
            wider[:, : self.n_nodes] = self.stack[:, : self.n_nodes]
            self.stack = wider

    def nodes(self) -> Iterator[tuple[int, int, Moments]]:
        """Yield level, index and a copy of each node."""
        for slot, (level, index) in enumerate(dyadic_blocks(self.start, self.stop)):
            yield level, index, Moments(self.count << level, self.stack[0, slot].copy(), self.stack[1, slot].copy())


@dataclass
class MomentsTree:
    """The largest known nodes of a tree over items numbered from 0.

    Nodes may be added in any order; siblings are joined as soon as both are there.
    """

    _nodes: dict[tuple[int, int], Moments] = field(default_factory=dict)
    _run: MomentsRun | None = None

    @property
    def nodes(self) -> dict[tuple[int, int], Moments]:
        """The nodes by level and index."""
        self._end_run()
        return self._nodes

    def run_to(self, first: int, n: int, n_features: int, count: int) -> MomentsRun:
        """Return a run that ends before item `first`, with room for n items of `count` values, to be added to it."""
        run = self._run
        if run is None or run.stop != first or run.count != count:
            self._end_run()
            run = self._run = MomentsRun(first, first, count, np.empty((2, 0, n_features)))
        run.reserve(n)
        return run

    def _end_run(self) -> None:
        run, self._run = self._run, None
        for level, index, moments in run.nodes() if run is not None else ():
            self.insert(level, index, moments)

    def insert(self, level: int, index: int, moments: Moments) -> None:
        """Add one node and join it with its siblings as far up as they are known."""
        nodes = self.nodes
        while (sibling := nodes.pop((level, index ^ 1), None)) is not None:
            moments = sibling.merge(moments) if index & 1 else moments.merge(sibling)
            level, index = level + 1, index >> 1
        nodes[level, index] = moments

    def add(self, first: int, mean: Floats, m2: Floats | None, count: int) -> None:
        """Add items first, first + 1, ...: mean and m2 of shape (items, *features), count values each."""
        for level, index in dyadic_blocks(first, first + len(mean)):
            part = slice((index << level) - first, ((index + 1) << level) - first)
            flat = mean[part].reshape(1 << level, -1)
            flat_m2 = None if m2 is None else m2[part].reshape(1 << level, -1)
            node_mean, node_m2 = reduce_pairs(flat, flat_m2, count)
            shape = mean.shape[1:]
            self.insert(
                level,
                index,
                Moments(count << level, node_mean.reshape(shape).copy(), node_m2.reshape(shape)),
            )

    def update(self, nodes: Mapping[tuple[int, int], Moments]) -> None:
        """Add the nodes of another tree over the same numbering."""
        for (level, index), moments in nodes.items():
            self.insert(level, index, moments)

    @property
    def count(self) -> int:
        """Values per feature in all nodes together."""
        return sum(node.count for node in self.nodes.values())

    @property
    def finite(self) -> bool:
        """Whether no node has overflowed."""
        return all(bool(np.isfinite(node.mean + node.m2).all()) for node in self.nodes.values())

    def fold(self) -> Moments:
        """Return all nodes merged from left to right; the tree must not be empty."""
        ordered = sorted(self.nodes.items(), key=lambda item: item[0][1] << item[0][0])
        result = ordered[0][1]
        for _, moments in ordered[1:]:
            result = result.merge(moments)
        return result
