"""The compiled kernel: numba, one pass over the data at memory speed, the same bits as the NumPy path.

Per batch and tile of 512 features: eight rows at a time are reduced in registers, their nodes are merged along the
tree in cache, the tile's sums are taken, and the batch's node is merged into the dataset's tree. Nothing of the size
of the data is written. No fast-math: every operation is the one that `assessor.moments` performs, in its order.

A loop is vectorized only over contiguous arrays: one row of a stack cut to some columns, never columns cut from a
whole stack.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from assessor.kernels.tiles import STRIP, TILE, TINY, TileSums
from assessor.moments import Floats, MomentsRun

_LEVELS = 40
_EXPONENT = 0x7FF
_FRACTION = 0x000FFFFFFFFFFFFF
_HALF = 0x3FE0000000000000

_LINE = 64
"""Bytes of a cache line."""

_options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "cache": True}


@intrinsic
def _prefetch(_context, _address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at an address; one outside of the array does no harm."""

    def generate(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        number = ir.IntType(32)
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(call, [pointer, number(0), number(2), number(1)])  # to read, into the second cache, data
        return context.get_dummy_value()

    return types.void(types.intp), generate


@numba.njit(**_options)
def _prefetch_rows8(address, row_bytes, width_bytes):  # type: ignore[no-untyped-def]
    """Ask for part of eight rows: the processor sees no pattern in such short pieces, so it does not ask by itself."""
    for r in range(8):
        for line in range((width_bytes + _LINE - 1) // _LINE):
            _prefetch(address + r * row_bytes + line * _LINE)  # type: ignore[call-arg]


@numba.njit(**_options)
def _node8(x0, x1, x2, x3, x4, x5, x6, x7):  # type: ignore[no-untyped-def]
    """Return mean and m2 of eight values, merged pair by pair."""
    d0, d1, d2, d3 = x1 - x0, x3 - x2, x5 - x4, x7 - x6
    m0, m1, m2_, m3 = x0 + d0 * 0.5, x2 + d1 * 0.5, x4 + d2 * 0.5, x6 + d3 * 0.5
    q0, q1, q2, q3 = d0 * d0 * 0.5, d1 * d1 * 0.5, d2 * d2 * 0.5, d3 * d3 * 0.5
    e0, e1 = m1 - m0, m3 - m2_
    n0, n1 = m0 + e0 * 0.5, m2_ + e1 * 0.5
    r0, r1 = (q0 + q1) + e0 * e0, (q2 + q3) + e1 * e1
    z = n1 - n0
    return n0 + z * 0.5, (r0 + r1) + z * z * 2.0


@numba.njit(**_options)
def _rows8(a, b, c, d, e, f, g, h, mean, m2):  # type: ignore[no-untyped-def]
    """Write the node of eight rows."""
    for t in range(mean.shape[0]):
        mean[t], m2[t] = _node8(
            np.float64(a[t]), np.float64(b[t]), np.float64(c[t]), np.float64(d[t]),
            np.float64(e[t]), np.float64(f[t]), np.float64(g[t]), np.float64(h[t]),
        )  # fmt: skip


@numba.njit(**_options)
def _join_rows8(a, b, c, d, e, f, g, h, mean, m2):  # type: ignore[no-untyped-def]
    """Merge the node of eight rows into that of the eight before them."""
    for t in range(mean.shape[0]):
        m, q = _node8(
            np.float64(a[t]), np.float64(b[t]), np.float64(c[t]), np.float64(d[t]),
            np.float64(e[t]), np.float64(f[t]), np.float64(g[t]), np.float64(h[t]),
        )  # fmt: skip
        step = m - mean[t]
        mean[t] = mean[t] + step * 0.5
        m2[t] = (m2[t] + q) + step * step * 4.0


@numba.njit(**_options)
def _rows4(a, b, c, d, mean, m2):  # type: ignore[no-untyped-def]
    for t in range(mean.shape[0]):
        x0, x1 = np.float64(a[t]), np.float64(b[t])
        x2, x3 = np.float64(c[t]), np.float64(d[t])
        d0, d1 = x1 - x0, x3 - x2
        m0, m1 = x0 + d0 * 0.5, x2 + d1 * 0.5
        q0, q1 = d0 * d0 * 0.5, d1 * d1 * 0.5
        e0 = m1 - m0
        mean[t] = m0 + e0 * 0.5
        m2[t] = (q0 + q1) + e0 * e0


@numba.njit(**_options)
def _rows2(a, b, mean, m2):  # type: ignore[no-untyped-def]
    for t in range(mean.shape[0]):
        x0 = np.float64(a[t])
        d0 = np.float64(b[t]) - x0
        mean[t] = x0 + d0 * 0.5
        m2[t] = d0 * d0 * 0.5


@numba.njit(**_options)
def _rows1(a, mean, m2):  # type: ignore[no-untyped-def]
    for t in range(mean.shape[0]):
        mean[t] = np.float64(a[t])
        m2[t] = 0.0


@numba.njit(**_options)
def _join(mean, m2, other_mean, other_m2, share, weight):  # type: ignore[no-untyped-def]
    """Merge the other node into the first: share = n_b / n, weight = n_a n_b / n."""
    for t in range(mean.shape[0]):
        d = other_mean[t] - mean[t]
        mean[t] = mean[t] + d * share
        m2[t] = (m2[t] + other_m2[t]) + d * d * weight


@numba.njit(**_options)
def _copy(mean, m2, other_mean, other_m2):  # type: ignore[no-untyped-def]
    for t in range(mean.shape[0]):
        mean[t] = other_mean[t]
        m2[t] = other_m2[t]


@numba.njit(**_options)
def _slot_of(item):  # type: ignore[no-untyped-def]
    """Return the slot of the stack that holds item number `item`, or the node that an odd one completes.

    Slot s of the stack holds the node of the s-th set bit of the number of items so far, from the highest.
    """
    slot, bits = 0, item >> 1
    while bits:
        slot += bits & 1
        bits >>= 1
    return slot


@numba.njit(**_options)
def _merge_up(stack_mean, stack_m2, slot, c, w, item, count):  # type: ignore[no-untyped-def]
    """Merge the node of `count` values in a slot, which ends with item number `item`, as far as it completes others."""
    while item & 1:
        slot -= 1
        _join(
            stack_mean[slot, c : c + w], stack_m2[slot, c : c + w],
            stack_mean[slot + 1, c : c + w], stack_m2[slot + 1, c : c + w], 0.5, count / 2,
        )  # fmt: skip
        item >>= 1
        count *= 2


@numba.njit(**_options)
def _n_completed(item, start):  # type: ignore[no-untyped-def]
    """Return how many nodes, each within the next, item number `item` completes in a tree over start, start + 1, ..."""
    level = 0
    while (item >> level) & 1 and ((item >> level) - 1) << level >= start:
        level += 1
    return level


@numba.njit(**_options)
def _push(stack_mean, stack_m2, n_nodes, n_completed, c, mean, m2, count):  # type: ignore[no-untyped-def]
    """Put an item of `count` values on columns c, c + 1, ... of a stack of nodes, joined with what it completes."""
    w = mean.shape[0]
    if not n_completed:
        _copy(stack_mean[n_nodes, c : c + w], stack_m2[n_nodes, c : c + w], mean, m2)
        return
    slot = n_nodes - 1
    _join(stack_mean[slot, c : c + w], stack_m2[slot, c : c + w], mean, m2, 0.5, count / 2)
    for _ in range(n_completed - 1):
        count *= 2
        slot -= 1
        _join(
            stack_mean[slot, c : c + w], stack_m2[slot, c : c + w],
            stack_mean[slot + 1, c : c + w], stack_m2[slot + 1, c : c + w], 0.5, count / 2,
        )  # fmt: skip


@numba.njit(**_options)
def _rows_by_eight(x, row, items, c, w, stack_mean, stack_m2, ahead):  # type: ignore[no-untyped-def]
    """Reduce 8 * items rows, columns c .. c + w, to the node in the stack's first slot; items is a power of two.

    While eight rows are reduced the next eight are asked for; after the last, those at the address `ahead`.
    """
    item_bytes = x.itemsize
    row_bytes = x.shape[1] * item_bytes
    for i in range(items):
        r = row + i * 8
        after = x.ctypes.data + (r + 8) * row_bytes + c * item_bytes if i + 1 < items else ahead
        _prefetch_rows8(after, row_bytes, w * item_bytes)
        slot = _slot_of(i)
        if i & 1:
            _join_rows8(
                x[r, c : c + w], x[r + 1, c : c + w], x[r + 2, c : c + w], x[r + 3, c : c + w],
                x[r + 4, c : c + w], x[r + 5, c : c + w], x[r + 6, c : c + w], x[r + 7, c : c + w],
                stack_mean[slot, :w], stack_m2[slot, :w],
            )  # fmt: skip
            _merge_up(stack_mean, stack_m2, slot, 0, w, i >> 1, 16.0)
        else:
            _rows8(
                x[r, c : c + w], x[r + 1, c : c + w], x[r + 2, c : c + w], x[r + 3, c : c + w],
                x[r + 4, c : c + w], x[r + 5, c : c + w], x[r + 6, c : c + w], x[r + 7, c : c + w],
                stack_mean[slot, :w], stack_m2[slot, :w],
            )  # fmt: skip


@numba.njit(**_options)
def _batch(x, row, size, c, w, stack_mean, stack_m2, mean, m2, ahead):  # type: ignore[no-untyped-def]
    """Write the moments of rows row .. row + size of x, columns c .. c + w, along the tree over the rows.

    Args:
        ahead: address of the data to be read next.
    """
    done = 0
    level = 1
    while level * 2 <= size:
        level *= 2
    first_mean, first_m2 = stack_mean[0, :w], stack_m2[0, :w]
    while level:
        if size & level:
            r = row + done
            if level >= 8:
                _rows_by_eight(x, r, level // 8, c, w, stack_mean, stack_m2, ahead)
            elif level == 4:
                _rows4(
                    x[r, c : c + w], x[r + 1, c : c + w], x[r + 2, c : c + w], x[r + 3, c : c + w],
                    first_mean, first_m2,
                )  # fmt: skip
            elif level == 2:
                _rows2(x[r, c : c + w], x[r + 1, c : c + w], first_mean, first_m2)
            else:
                _rows1(x[r, c : c + w], first_mean, first_m2)
            if done:
                total = done + level
                _join(mean, m2, first_mean, first_m2, level / total, done * level / total)
            else:
                _copy(mean, m2, first_mean, first_m2)
            done += level
        level >>= 1


@numba.njit(**_options)
def _add_lanes(x, lanes):  # type: ignore[no-untyped-def]
    """Add x to 64 lanes, strip after strip; a full tile's eight strips without storing in between."""
    width = x.shape[0]
    if width == TILE:
        for k in range(STRIP):
            total = lanes[k] + x[k] + x[STRIP + k] + x[2 * STRIP + k] + x[3 * STRIP + k]
            lanes[k] = total + x[4 * STRIP + k] + x[5 * STRIP + k] + x[6 * STRIP + k] + x[7 * STRIP + k]
        return
    whole = width // STRIP
    for j in range(whole):
        strip = x[j * STRIP : (j + 1) * STRIP]
        for k in range(STRIP):
            lanes[k] += strip[k]
    for k in range(width - whole * STRIP):
        lanes[k] += x[whole * STRIP + k]


@numba.njit(**_options)
def _total(lanes):  # type: ignore[no-untyped-def]
    """Return the sum of the lanes, by halves; overwrites them."""
    width = STRIP
    while width > 1:
        width //= 2
        for k in range(width):
            lanes[k] += lanes[width + k]
    return lanes[0]


@numba.njit(**_options)
def _product(lanes):  # type: ignore[no-untyped-def]
    """Return the product of the lanes, by halves; overwrites them."""
    width = STRIP
    while width > 1:
        width //= 2
        for k in range(width):
            lanes[k] *= lanes[width + k]
    return lanes[0]


@numba.njit(**_options)
def _add_pair(a, a_low, b, b_low):  # type: ignore[no-untyped-def]
    total = a + b
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow) + (a_low + b_low)
    high = total + error
    return high, error - (high - total)


@numba.njit(**_options)
def _divide(m2, count, v):  # type: ignore[no-untyped-def]
    """Write m2 / count; by a power of two, a product is the same to the bit and takes a fraction of the time."""
    if count & (count - 1):
        for t in range(m2.shape[0]):
            v[t] = m2[t] / count
    else:
        inverse = 1.0 / count
        for t in range(m2.shape[0]):
            v[t] = m2[t] * inverse


@numba.njit(**_options)
def _sum_squares(mean, v, high, low):  # type: ignore[no-untyped-def]
    """Return the doubled sum of squares over the features that do not vary (see tiles.sum_squares)."""
    high[:] = 0.0
    low[:] = 0.0
    for t in range(mean.shape[0]):
        x = 0.0 if v[t] >= TINY else mean[t]
        split = x * 134217729.0
        top = split - (split - x)
        rest = x - top
        square = x * x
        error = ((top * top - square) + 2 * top * rest) + rest * rest
        k = t % STRIP
        high[k], low[k] = _add_pair(high[k], low[k], square, error)
    total, total_low = 0.0, 0.0
    for k in range(STRIP):
        total, total_low = _add_pair(total, total_low, high[k], low[k])
    return total, total_low


@numba.njit(**_options)
def _sum_full_tile(mean, v, bits, lanes):  # type: ignore[no-untyped-def]
    """Return a tile's sums where it is full and all of its features vary: the same sums as `_sum_tile`, unmasked."""
    lanes[:] = 0.0
    _add_lanes(mean, lanes)
    total = _total(lanes)
    centre = total / TILE
    for k in range(STRIP):
        d0, d1 = mean[k] - centre, mean[STRIP + k] - centre
        d2, d3 = mean[2 * STRIP + k] - centre, mean[3 * STRIP + k] - centre
        d4, d5 = mean[4 * STRIP + k] - centre, mean[5 * STRIP + k] - centre
        d6, d7 = mean[6 * STRIP + k] - centre, mean[7 * STRIP + k] - centre
        half = d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3
        lanes[k] = half + d4 * d4 + d5 * d5 + d6 * d6 + d7 * d7
    mean_m2 = _total(lanes)
    lanes[:] = 0.0
    _add_lanes(v, lanes)
    variance = _total(lanes)
    exponent = 0
    for t in range(TILE):
        exponent += (bits[t] >> 52) - 1022
    for t in range(TILE):
        bits[t] = (bits[t] & _FRACTION) | _HALF
    for k in range(STRIP):
        half = v[k] * v[STRIP + k] * v[2 * STRIP + k] * v[3 * STRIP + k]
        lanes[k] = half * v[4 * STRIP + k] * v[5 * STRIP + k] * v[6 * STRIP + k] * v[7 * STRIP + k]
    mantissa = _product(lanes)
    return TILE, total, mean_m2, variance, mantissa, exponent, 0.0, 0.0


@numba.njit(**_options)
def _sum_tile(mean, m2, count, v, bits, work, lanes, low_lanes):  # type: ignore[no-untyped-def]
    """Return one tile's sums (see TILE_SUMS) but for the roots."""
    w = mean.shape[0]
    n = 0
    _divide(m2, count, v)
    for t in range(w):
        n += v[t] >= TINY
    if n == TILE:
        return _sum_full_tile(mean, v, bits, lanes)
    lanes[:] = 0.0
    for t in range(w):
        work[t] = mean[t] if v[t] >= TINY else 0.0
    _add_lanes(work[:w], lanes)
    total = _total(lanes)
    centre = total / max(n, 1)
    lanes[:] = 0.0
    for t in range(w):
        d = mean[t] - centre if v[t] >= TINY else 0.0
        work[t] = d * d
    _add_lanes(work[:w], lanes)
    mean_m2 = _total(lanes)
    high, low = 0.0, 0.0
    if n < w:
        high, low = _sum_squares(mean, v, lanes, low_lanes)
    lanes[:] = 0.0
    for t in range(w):
        work[t] = v[t] if v[t] >= TINY else 0.0
    _add_lanes(work[:w], lanes)
    variance = _total(lanes)
    exponent = 0
    for t in range(w):
        exponent += ((bits[t] >> 52) & _EXPONENT) - 1022 if v[t] >= TINY else 0
    for t in range(w):
        bits[t] = (bits[t] & _FRACTION) | _HALF if v[t] >= TINY else 0x3FF0000000000000
    lanes[:] = 1.0
    whole = w // STRIP
    for j in range(whole):
        strip = v[j * STRIP : (j + 1) * STRIP]
        for k in range(STRIP):
            lanes[k] *= strip[k]
    for k in range(w - whole * STRIP):
        lanes[k] *= v[whole * STRIP + k]
    mantissa = _product(lanes)
    return n, total, mean_m2, variance, mantissa, exponent, high, low


@numba.njit(**_options)
def _sum_roots(mean, m2, count, pooled, v, work, lanes):  # type: ignore[no-untyped-def]
    """Return one tile's sums of r_f^(1/2), r_f^(1/4) and v_f^(1/2) (see TILE_SUMS)."""
    w = mean.shape[0]
    _divide(m2, count, v)
    for t in range(w):
        d = mean[t] - pooled
        work[t] = np.sqrt(v[t] + d * d) if v[t] >= TINY else 0.0
    lanes[:] = 0.0
    _add_lanes(work[:w], lanes)
    root = _total(lanes)
    for t in range(w):
        work[t] = np.sqrt(work[t])
    lanes[:] = 0.0
    _add_lanes(work[:w], lanes)
    quarter = _total(lanes)
    for t in range(w):
        work[t] = np.sqrt(v[t]) if v[t] >= TINY else 0.0
    lanes[:] = 0.0
    _add_lanes(work[:w], lanes)
    return root, quarter, _total(lanes)


@numba.njit(**_options)
def _reduce(x, size, first, start, n_nodes, nodes, constant, row_sums, sums):  # type: ignore[no-untyped-def]
    n_features = x.shape[1]
    n_tiles = (n_features + TILE - 1) // TILE
    want_rows = row_sums.shape[0] > 0
    row_stack = np.empty((2, _LEVELS, TILE))
    kept = np.empty((2, n_features))
    # One tile is a whole row, whose lanes need not wait for the next tile.
    lanes_of_rows = np.empty((1 if n_tiles == 1 else size, STRIP))
    lanes = np.empty(STRIP)
    low_lanes = np.empty(STRIP)
    work = np.empty(TILE)
    v = np.empty(TILE)
    bits = v.view(np.int64)
    for batch in range(x.shape[0] // size):
        row = batch * size
        lanes_of_rows[:] = 0.0
        pooled, n_all = 0.0, 0
        for tile in range(n_tiles):
            c = tile * TILE
            w = min(TILE, n_features - c)
            mean, m2 = kept[0, c : c + w], kept[1, c : c + w]
            # The next tile of these rows, or after the last the next batch.
            next_value = row * n_features + c + TILE if c + TILE < n_features else (row + size) * n_features
            ahead = x.ctypes.data + next_value * x.itemsize
            _batch(x, row, size, c, w, row_stack[0], row_stack[1], mean, m2, ahead)
            if want_rows and n_tiles == 1:
                for r in range(size):
                    lanes_of_rows[0] = 0.0
                    _add_lanes(x[row + r, c : c + w], lanes_of_rows[0])
                    row_sums[row + r] = _total(lanes_of_rows[0])
            elif want_rows:
                for r in range(size):
                    _add_lanes(x[row + r, c : c + w], lanes_of_rows[r])
            n, total, mean_m2, variance, mantissa, exponent, high, low = _sum_tile(
                mean, m2, size, v, bits, work, lanes, low_lanes
            )
            here = sums[batch, tile]
            here.n, here.mean, here.mean_m2, here.variance = n, total, mean_m2, variance
            here.mantissa, here.exponent, here.constant, here.constant_low = mantissa, exponent, high, low
            pooled += total
            n_all += n
        if want_rows:
            finite = True
            for r in range(row, row + size):
                if n_tiles > 1:
                    row_sums[r] = _total(lanes_of_rows[r - row])
                finite &= np.isfinite(row_sums[r])
            if not finite:
                return batch, n_nodes
        pooled /= max(n_all, 1)
        n_completed = _n_completed(first + batch, start)
        for tile in range(n_tiles):
            c = tile * TILE
            w = min(TILE, n_features - c)
            mean, m2 = kept[0, c : c + w], kept[1, c : c + w]
            here = sums[batch, tile]
            here.root, here.quarter, here.std = _sum_roots(mean, m2, size, pooled, v, work, lanes)
            if here.n < w:
                for t in range(w):
                    constant[c + t] += v[t] < TINY
            _push(nodes[0], nodes[1], n_nodes, n_completed, c, mean, m2, float(size))
        n_nodes += 1 - n_completed
    return x.shape[0] // size, n_nodes


_NO_SUMS = np.empty(0)


def reduce_run(
    x: NDArray[Any], size: int, run: MomentsRun, constant: NDArray[np.int64], row_sums: Floats | None, sums: TileSums
) -> int:
    """Reduce batches up to the first that holds a row whose sum is not finite; return how many these are.

    Holds no lock, so that runs go in parallel.

    Args:
        x: shape (batches * size, features), C-contiguous, uint8, float32 or float64.
        size: rows a batch.
        run: the dataset's moments over the batches before these, with room for these, which are added.
        constant: shape (features,), added to: batches in which the feature is constant.
        row_sums: shape (rows,), filled; None where they are not wanted: then all rows are known to be finite.
        sums: of these batches, filled.
    """
    # A stream's buffers are read-only, which is another type to the compiler: seconds for a second kernel.
    x = x.view()
    x.flags.writeable = False
    rows = _NO_SUMS if row_sums is None else row_sums
    done: int
    done, run.n_nodes = _reduce(x, size, run.stop, run.start, run.n_nodes, run.stack, constant, rows, sums)
    run.stop += done
    return done
