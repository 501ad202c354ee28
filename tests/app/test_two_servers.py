"""Two server processes on one SQLite file: what each takes of one assessment at once is one dataset."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import httpx
import numpy as np
import pytest

from assessor import assess
from tests.app.processes import served
from tests.app.support import create, npy, rows

SHARDS = 24
ROWS = 40
FEATURES = 1500
THREADS = 4

X = rows(SHARDS * ROWS, features=FEATURES)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    """A client of each of two servers, which read no files and share nothing but the database."""
    database = f"sqlite:///{tmp_path_factory.mktemp('shared')}/normgauge.db"
    with ExitStack() as stack:
        # Writers of a file have no queue: on a slow disk one may be passed over for longer than it waits by default.
        servers = [stack.enter_context(served(database, kernel="numpy", busy_timeout_s=120)) for _ in range(2)]
        yield [stack.enter_context(httpx.Client(base_url=url, timeout=120)) for url, _ in servers]


def put(client: httpx.Client, path: str, index: int, *, first_row: int | None = None, seed: int | None = None) -> int:
    """Send a shard of X, or of other values; return the status."""
    first = ROWS * index
    values = X[first : first + ROWS] if seed is None else rows(ROWS, features=FEATURES, seed=seed)
    where = first if first_row is None else first_row
    return client.put(f"{path}/shards/{index}?first_row={where}", content=npy(values)).status_code


def check_whole(clients: list[httpx.Client], path: str) -> None:
    """Check that both servers have every shard once and answer the plan of a single pass."""
    expected = assess(np.asarray(X), batch_size=4).to_json()
    for client in clients:
        state = client.get(path).json()
        assert [(shard["index"], shard["rows"]) for shard in state["shards"]] == [(i, ROWS) for i in range(SHARDS)]
        assert client.get(f"{path}/plan", params={"batch_size": 4}).text == expected


def test_shards_that_come_to_both_at_once(clients: list[httpx.Client]) -> None:
    path = create(clients[0])
    with ThreadPoolExecutor(2 * THREADS) as pool:
        statuses = list(pool.map(put, itertools.cycle(clients), itertools.repeat(path), range(SHARDS)))
    assert statuses == [201] * SHARDS
    check_whole(clients, path)


def test_the_same_shard_to_both_at_once(clients: list[httpx.Client]) -> None:
    path = create(clients[1])
    barriers = [Barrier(2) for _ in range(SHARDS)]

    def send(client: httpx.Client) -> list[int]:
        statuses = []
        for index, barrier in enumerate(barriers):
            barrier.wait()
            statuses.append(put(client, path, index))
        return statuses

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(send, clients)
    assert [sorted(pair) for pair in zip(first, second, strict=True)] == [[200, 201]] * SHARDS
    check_whole(clients, path)


def test_of_shards_that_exclude_each_other_one_gets_in(clients: list[httpx.Client]) -> None:
    path = create(clients[0])
    for round_number in range(6):
        places = [(2 * round_number, 3 * ROWS * round_number), (2 * round_number + 1, 3 * ROWS * round_number + 1)]
        barrier = Barrier(2)

        def send(
            client: httpx.Client, place: tuple[int, int], seed: int, barrier: Barrier = barrier, path: str = path
        ) -> int:
            barrier.wait()
            return put(client, path, place[0], first_row=place[1], seed=seed)

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(send, clients, places, (1, 2))) == [201, 409]
    assert len(clients[1].get(path).json()["shards"]) == 6


def test_what_one_removes_the_other_has_no_more(clients: list[httpx.Client]) -> None:
    path = create(clients[0])
    assert put(clients[0], path, 0) == put(clients[1], path, 1) == 201
    assert clients[1].get(f"{path}/plan").status_code == 200
    assert clients[0].delete(path).status_code == 204
    for request in (path, f"{path}/plan"):
        assert clients[1].get(request).status_code == 404
    assert put(clients[1], path, 2) == 404
