"""Ray: one to a process, whoever uses it; workers that are killed; clusters that are not there."""

import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from assessor import profile_array
from assessor.execution import Engine, EngineError, NoProgress, open_engine, profile_sources
from tests.assessor import worker_tasks as work

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray")


class KillAll(NoProgress):
    """Kills the workers when the first bytes were read."""

    def __init__(self, engine: Engine) -> None:
        self.pids = {pid for _, pid in engine.run(work.tell_process, None, range(8), print)}
        self.killed = False

    def advance(self, n: int) -> None:
        if n > 1 and not self.killed:
            self.killed = True
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)


def test_workers_killed_in_mid_run_cost_nothing_but_their_blocks(tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((1200, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    with open_engine("ray", workers=2) as engine:
        killer = KillAll(engine)
        assessed = profile_sources(
            [f"{tmp_path}/x.npy"], batch_sizes=[8], engine=engine, block_bytes=20 * 24, progress=killer
        )
        after = {pid for _, pid in engine.run(work.tell_process, None, range(8), print)}
    assert killer.killed
    assert len(killer.pids) == 2
    assert not after & killer.pids
    assert assessed.profile.to_bytes() == profile_array(x, batch_sizes=[8]).to_bytes()


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


def test_a_process_has_one_ray() -> None:
    with open_engine("ray", workers=1), pytest.raises(EngineError, match="this process uses another already"):
        open_engine("ray=127.0.0.1:6379").__enter__()


def test_a_cluster_that_does_not_answer_is_named_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense"):
        with pytest.raises(EngineError, match=f"expected a Ray at {address}; it cannot be reached"):
            open_engine(f"ray={address}").__enter__()
    assert not ray.is_initialized()
