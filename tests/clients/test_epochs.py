"""Orders of epochs: permutations that depend on (seed, epoch) alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from clients.epochs import batch_order, count_batches, deal, epoch_membership, epoch_seed


@given(n=st.integers(0, 200), seed=st.integers(-(2**63), 2**64), epoch=st.integers(0, 10**6))
def test_batch_order_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    assert sorted(batch_order(n, seed=seed, epoch=epoch).tolist()) == list(range(n))


def test_batch_order_is_the_same_forever() -> None:
    # recorded once: another order would break every saved state
    assert batch_order(8, seed=0, epoch=0).tolist() == [3, 6, 1, 2, 4, 5, 0, 7]
    assert batch_order(8, seed=0, epoch=1).tolist() == [6, 0, 7, 4, 3, 1, 2, 5]


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(batch_order(50, seed=seed, epoch=epoch).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_order_is_uniform() -> None:
    """Every batch comes first about equally often: chi-square over 4,000 epochs, 7 degrees of freedom."""
    firsts = np.bincount([batch_order(8, seed=3, epoch=e)[0] for e in range(4000)], minlength=8)
    assert ((firsts - 500) ** 2 / 500).sum() < 24.3  # the 0.1 % point


def test_global_generators_play_no_part() -> None:
    before = batch_order(20, seed=1, epoch=2).tolist()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert batch_order(20, seed=1, epoch=2).tolist() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_epoch_membership_differs_by_epoch() -> None:
    first, second = (epoch_membership(seed=0, epoch=e).ids(30).tolist() for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert 0 <= epoch_seed(-5, 3) < 2**63


@given(n=st.integers(0, 100), world_size=st.integers(1, 9))
def test_ranks_share_an_epoch(n: int, world_size: int) -> None:
    order = batch_order(n, seed=0, epoch=0)
    shares = [np.asarray(deal(order, rank=r, world_size=world_size)).tolist() for r in range(world_size)]
    assert {len(share) for share in shares} == {n // world_size}
    dealt = [index for share in shares for index in share]
    assert len(set(dealt)) == len(dealt) == n // world_size * world_size


def test_count_batches() -> None:
    assert [count_batches(n, 4, drop_last=False) for n in (1, 4, 5)] == [1, 1, 2]
    assert [count_batches(n, 4, drop_last=True) for n in (1, 4, 5)] == [0, 1, 1]
