"""Ray: one to a process, whoever uses it; workers that are killed; clusters that are not there."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from assessor import Plan, assess, profile_array
from assessor.execution import Engine, EngineError, NoProgress, open_engine, profile_sources
from tests.assessor import worker_tasks as work

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]


def pids_of(engine: Engine) -> set[int]:
    """Return the process numbers of an engine's workers."""
    return {pid for _, pid in engine.run(work.tell_process, None, range(8), print) if isinstance(pid, int)}


def both_pids_of(engine: Engine) -> set[int]:
    """Return the process numbers of an engine's two workers, once both have come up."""
    deadline = monotonic() + 120
    while len(pids := pids_of(engine)) != 2:
        assert monotonic() < deadline, pids
    return pids


class KillAll(NoProgress):
    """Kills the workers when the first bytes were read."""

    def __init__(self, engine: Engine) -> None:
        self.pids = both_pids_of(engine)
        self.killed: list[int] = []

    def advance(self, n: int) -> None:
        if n > 1 and not self.killed:
            for pid in self.pids:
                with suppress(ProcessLookupError):  # Ray ends a worker now and then that has nothing to do
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)


def test_workers_killed_in_mid_run_cost_nothing_but_their_blocks(tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((1200, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    with open_engine("ray", workers=2) as engine:
        killer = KillAll(engine)
        assessed = profile_sources(
            [f"{tmp_path}/x.npy"], batch_sizes=[8], engine=engine, block_bytes=20 * 24, progress=killer
        )
        after = pids_of(engine)
    assert killer.killed
    assert not after & killer.pids
    assert assessed.profile.to_bytes() == profile_array(x, batch_sizes=[8]).to_bytes()


def test_fewer_workers_than_the_cluster_has_processors() -> None:
    with open_engine("ray", workers=3) as cluster:
        assert len(list(cluster.run(work.add, 0, range(6), print))) == 6
        with open_engine("ray", workers=1) as alone:
            spans = [span for _, span in alone.run(work.tell_span, None, range(5), print) if isinstance(span, tuple)]
    assert len(spans) == 5
    assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans)))


def test_a_ray_that_two_engines_use_ends_with_the_last() -> None:
    """As with two ingest jobs of one server, of which the one that began first ends first."""
    first, second = open_engine("ray", workers=2), open_engine("ray", workers=2)
    with first, second:
        results = second.run(work.add, 2, range(9), print)
        done = [next(results)]
        first.close()
        done += results
        assert dict(done) == {task: 2 + task for task in range(9)}
    assert not ray.is_initialized()


def test_a_ray_outlives_the_thread_that_began_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        first = open_engine("ray", workers=1)
        pool.submit(first.__enter__).result()
        second = open_engine("ray", workers=1)
        second.__enter__()
    with second:  # the thread has ended
        first.close()
        assert dict(second.run(work.add, 2, range(3), print)) == {0: 2, 1: 3, 2: 4}
    assert not ray.is_initialized()


def test_a_cluster_by_its_address(tmp_path: Path) -> None:
    """Another process's Ray; it goes on when the command has ended."""
    x = np.random.default_rng(4).standard_normal((90, 5))
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", x[number * 30 : number * 30 + 30])
    with open_engine("ray", workers=2) as engine:
        address = ray.get_runtime_context().gcs_address
        command = ["assess", f"{tmp_path}/*.npy", "--batch-size=8", f"--engine=ray={address}", "--json"]
        script = "import sys; from app.cli import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", script, *command], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        assert dict(engine.run(work.add, 1, range(2), print)) == {0: 1, 1: 2}
    plan, expected = Plan.from_json(done.stdout.decode()), assess(x, batch_size=8)
    np.testing.assert_array_equal(plan.scores, expected.scores)


def test_a_process_has_one_ray() -> None:
    with open_engine("ray", workers=1), pytest.raises(EngineError, match="this process uses another already"):
        open_engine("ray=127.0.0.1:6379").__enter__()


def test_a_cluster_that_does_not_answer_is_named_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen, nor can any other
        port = held.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense"):
            with pytest.raises(EngineError, match=f"expected a Ray at {address}; it cannot be reached"):
                open_engine(f"ray={address}").__enter__()
    assert not ray.is_initialized()
