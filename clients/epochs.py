"""Which batches come in an epoch, and in which order: pure functions of (seed, epoch).

Every order is the argsort of a hash, so it is the same on every machine, for every number of
workers, and leaves every global random generator alone.
"""

import numpy as np
from numpy.typing import NDArray

from assessor import SampleOrder, hash_rows
from assessor.order import sort_by_hash
from clients.steps import Numbers

# Keeps the epochs' seeds apart from those that users give to SampleOrder.shuffled.
_EPOCH_SALT = 0x6E6F726D

# An epoch is hashed as an int64.
LAST_EPOCH = 2**63 - 2


def count_batches(n_rows: int, batch_size: int, *, drop_last: bool) -> int:
    """Return the number of batches that n_rows samples make.

    >>> count_batches(10, 4, drop_last=False), count_batches(10, 4, drop_last=True)
    (3, 2)
    """
    return n_rows // batch_size if drop_last else -(-n_rows // batch_size)


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of one epoch, in [0, 2^63)."""
    hashed = hash_rows(seed ^ _EPOCH_SALT, np.array([epoch], np.int64))
    return int(hashed[0] >> np.uint64(1))


def batch_order(n_batches: int, *, seed: int, epoch: int) -> NDArray[np.uint32] | NDArray[np.int64]:
    """Return the batch indices in the order of an epoch: a permutation, shape (n_batches,), of 4 bytes if they do.

    >>> sorted(batch_order(4, seed=0, epoch=3).tolist())
    [0, 1, 2, 3]
    """
    return sort_by_hash(epoch_seed(seed, epoch), n_batches)


def epoch_membership(*, seed: int, epoch: int) -> SampleOrder:
    """Return the sample order that an epoch draws anew (`reshuffle="samples"`)."""
    return SampleOrder.shuffled(epoch_seed(seed, epoch))


def deal(order: Numbers, *, rank: int, world_size: int) -> Numbers:
    """Return the rank's share of an epoch, which holds none of the others': whole batches, round robin.

    Every rank gets len(order) // world_size batches, so that all make the same number of steps;
    the remainder at the end of the epoch's order is left out, and nothing is padded or repeated.

    >>> deal(np.arange(5), rank=1, world_size=2).tolist()
    [1, 3]
    """
    even = len(order) // world_size * world_size
    share: Numbers = order[rank:even:world_size]
    return np.ascontiguousarray(share) if isinstance(share, np.ndarray) else share
