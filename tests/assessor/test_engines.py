"""Engines: each task once, whatever happens to the workers; nothing left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assessor import SettingError, UnknownNameError
from assessor.execution import Engine, WorkerLostError, engines, open_engine, processes
from assessor.execution.processes import ProcessEngine
from tests.assessor import worker_tasks as work

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["serial", "processes", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine, open."""
    with open_engine(request.param, workers=None if request.param == "serial" else 2) as engine:
        yield engine


@pytest.fixture(scope="module", params=["processes", pytest.param("ray", marks=pytest.mark.ray)])
def crew(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine that has workers of its own."""
    with open_engine(request.param, workers=2) as engine:
        yield engine


def test_names_are_frozen() -> None:
    assert engines.names() == ("serial", "processes", "ray")


def test_each_task_once_and_bytes_told(engine: Engine) -> None:
    told: list[int] = []
    tasks = range(40)
    for shared in (100, 200):  # a second run finds the workers with another thing to do
        results = list(engine.run(work.add, shared, tasks, told.append))
        assert sorted(results) == [(task, shared + task) for task in tasks]
    assert sum(told) == 2 * sum(tasks)


def test_tasks_are_taken_as_workers_become_free(engine: Engine) -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for task in range(1000):
            taken.append(task)
            yield task

    with closing(engine.run(work.add, 0, tasks(), int)) as results:  # type: ignore[arg-type]
        next(results)
    assert len(taken) <= 1 + 4 * engine.workers
    assert len(list(engine.run(work.add, 0, range(3), int))) == 3  # type: ignore[arg-type]  # and goes on to work


def test_what_work_raises_comes_through(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError, match="task 0"):
        list(engine.run(work.fail, None, [0], print))


def test_a_task_whose_worker_dies_is_given_to_another(crew: Engine, tmp_path: Path) -> None:
    results = list(crew.run(work.die_on, (str(tmp_path), 1), range(7), print))
    assert sorted(results) == [(task, task) for task in range(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.0"]


def test_a_task_that_kills_each_worker_is_named_and_the_others_are_done(crew: Engine, tmp_path: Path) -> None:
    results = dict(crew.run(work.die_on, (str(tmp_path), 99), range(7), print))
    lost = results.pop(3)
    assert results == {task: task for task in (0, 1, 2, 4, 5, 6)}
    assert isinstance(lost, WorkerLostError)
    assert len(list(tmp_path.iterdir())) == 3
    assert "attempts" in str(lost)


def test_a_worker_killed_while_it_starts_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = processes._Worker.begin
    killed: list[int | None] = []

    def begin_and_die(self: processes._Worker, *arguments: Any) -> None:
        if not killed:
            killed.append(self.process.pid)
            self.process.kill()
            self.process.join()
        begin(self, *arguments)

    monkeypatch.setattr(processes._Worker, "begin", begin_and_die)
    with ProcessEngine(2) as engine:
        assert sorted(engine.run(work.add, 10, range(4), print)) == [(task, 10 + task) for task in range(4)]
        assert killed[0] not in engine.pids


def test_a_worker_that_stays_without_its_pipe_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that the system is slow to end: it has died of no error of ours, such as a script without a guard."""
    monkeypatch.setattr(processes, "STOP_S", 0.05)
    with ProcessEngine(1) as engine:
        [(task, lost)] = engine.run(work.hang_up, None, [7], print)
    assert task == 7
    assert isinstance(lost, WorkerLostError)
    assert "it ended by signal SIGKILL in each of 3 attempts" in str(lost)


def test_a_worker_gets_its_next_task_before_the_caller_has_the_result() -> None:
    """Else it would wait as long as the caller takes, which merges."""
    with ProcessEngine(1) as engine:
        told: list[int] = []
        results = engine.run(work.add, 0, [1, 2], told.append)
        next(results)
        _wait_for(lambda: engine._crew[0].connection.poll())  # the second is done, unasked
        assert list(results) == [(2, 2)]


def test_a_closed_engine_has_no_workers() -> None:
    engine = ProcessEngine(2)
    with engine:
        list(engine.run(work.add, 0, range(4), print))
        pids = engine.pids
        assert len(pids) == 2
    assert engine.pids == ()
    assert not any(_lives(pid) for pid in pids)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("processes", signal.SIGINT),
        ("processes", signal.SIGKILL),
        pytest.param("ray", signal.SIGINT, marks=pytest.mark.ray),
    ],
)
def test_an_interrupted_run_leaves_nothing_running(name: str, sent: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.assessor.worker_tasks", name, str(tmp_path)]
    driver = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    with driver:
        _wait_for(lambda: len(list(tmp_path.iterdir())) == 2 or driver.poll() is not None)
        pids = [int(path.name) for path in tmp_path.iterdir()]
        assert len(pids) == 2
        assert all(map(_lives, pids))
        driver.send_signal(sent)
        driver.wait(120)
    _wait_for(lambda: not any(map(_lives, pids)))


@pytest.mark.parametrize(
    ("text", "workers", "message"),
    [
        ("processes", 0, "expected workers >= 1; got 0"),
        ("ray", 0, "expected workers >= 1; got 0"),
        ("serial", 2, "with one worker"),
        ("processes=here", None, "without address"),
    ],
)
def test_bad_settings(text: str, workers: int | None, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        open_engine(text, workers=workers)


def test_unknown_engine() -> None:
    with pytest.raises(UnknownNameError, match="expected an engine among: serial, processes, ray; got 'dask'"):
        open_engine("dask")


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from assessor.execution import open_engine\nfrom tests.assessor.worker_tasks import add\n"
        "print(list(open_engine('processes', workers=1).run(add, 0, [1], print)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "EngineError: expected a worker process to start" in done.stderr
    assert "if __name__ == '__main__'" in done.stderr


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180  # Ray alone takes half a minute to start on a busy machine
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be so in three minutes"
        time.sleep(0.1)
