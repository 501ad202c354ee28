"""What fails is tried again, named or skipped; what is finished is not read again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest

from assessor import (
    FormatError,
    NonFiniteError,
    Plan,
    Profile,
    SourceNotFoundError,
    SourceUnavailableError,
    SourceUriError,
    hash_rows,
    profile_array,
)
from assessor.calibration import SEED
from assessor.execution import NoProgress, WorkerLostError, find_sources, profile_sources, work
from assessor.execution.processes import ProcessEngine
from assessor.sources import StoreSettings, stores
from tests.assessor.shard_sets import npy
from tests.assessor.test_execution import Told
from tests.object_stores import KEYS, OBJECT, Answer, scripted

X = np.random.default_rng(3).standard_normal((240, 6)).astype(np.float32)
Y = np.zeros(240, np.int64)
"""Three shards of 80 rows."""


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", X[number * 80 : number * 80 + 80])
    return tmp_path


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessEngine]:
    with ProcessEngine(2) as engine:
        yield engine


def run(folder: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"batch_sizes": [8], "engine": "serial", "block_bytes": 20 * 24}
    return profile_sources([f"{folder}/*.npy"], **(given | options))


class Killer(Told):
    """Kills a worker when the first bytes were read."""

    def __init__(self, engine: ProcessEngine) -> None:
        super().__init__()
        self._engine = engine
        self.killed: int | None = None

    def advance(self, n: int) -> None:
        super().advance(n)
        if n > 1 and self.killed is None:
            self.killed = self._engine.pids[0]
            os.kill(self.killed, signal.SIGKILL)


def test_a_worker_killed_in_mid_run_costs_nothing_but_its_block(shards: Path, processes: ProcessEngine) -> None:
    killer = Killer(processes)
    assessed = run(shards, engine=processes, progress=killer)
    assert killer.killed is not None
    assert killer.killed not in processes.pids
    assert killer.done[-1] == killer.begun[-1][1]  # what it had read is not counted twice
    assert assessed.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()


def test_a_poisoned_block_is_named_or_skipped(shards: Path, processes: ProcessEngine) -> None:
    poisoned = X[80:160].copy()
    poisoned[25, 3] = np.nan
    np.save(shards / "1.npy", poisoned)
    with pytest.raises(NonFiniteError, match=r"1\.npy: expected finite values; row 105, element 3 is nan"):
        run(shards, engine=processes)
    # Blocks of less than two batches end anywhere: those of a file have 26, 27 and 27 rows.
    assessed = run(shards, engine=processes, on_error="skip", batch_sizes=[16], block_bytes=30 * 24)
    [skipped] = assessed.skipped
    assert (skipped.first_row, skipped.rows) == (80, 26)  # the block that holds row 105
    plan = assessed.plan(method="heterogeneity")
    clean = profile_array(np.concatenate([X[:80], X[106:]]), batch_sizes=[16])
    assert assessed.profile.moments.count == 214
    np.testing.assert_allclose(assessed.profile.moments.mean, clean.moments.mean, atol=1e-12)
    assert len(plan) == 15
    # Rows 80 to 105 are batch 5, and 10 of batch 6.
    assert np.flatnonzero(np.isnan(plan.scores)).tolist() == [5]
    assert any(note.startswith("26 rows in 2 batches could not be read and are in no moments") for note in plan.notes)
    assert "10 of its rows could not be read and are left out" in plan[6].reason
    assert plan[5].reason == (
        "the score is undefined (too few rows are left); 16 of its rows could not be read and are left out; skipped"
    )
    assert any("row 105" in note and "rows 80 to 105 count as left out" in note for note in plan.notes)
    assert Plan.from_json(plan.to_json()) == plan
    assert Profile.from_bytes(assessed.profile.to_bytes()).to_bytes() == assessed.profile.to_bytes()


def test_rows_that_are_skipped_keep_no_others_out_of_the_sample(shards: Path, processes: ProcessEngine) -> None:
    poisoned = X[80:160].copy()
    poisoned[25, 3] = np.nan
    np.save(shards / "1.npy", poisoned)
    sample = run(shards, engine=processes, on_error="skip", calibration_rows=10).profile.calibration
    rows = np.concatenate([np.arange(96), np.arange(120, 240)])  # a block is three batches of 8
    assert sample.rows.tolist() == rows[np.argsort(hash_rows(SEED, rows))[:10]].tolist()
    np.testing.assert_array_equal(sample.values, X[sample.rows])


def test_what_is_kept_serves_a_run_that_skips_what_came_before_it(shards: Path, tmp_path: Path) -> None:
    """So the samples kept are whole: rows of the first shards, which keep others out, may be left out later."""
    fine: dict[str, Any] = {"calibration_rows": 5, "block_bytes": 80 * 24, "on_error": "skip"}
    kept = {**fine, "checkpoint": tmp_path / "kept"}
    assert run(shards, **kept).profile.to_bytes() == profile_array(X, batch_sizes=[8], calibration_rows=5).to_bytes()
    for number in range(2):
        np.save(shards / f"{number}.npy", np.full((80, 6), np.nan, np.float32))
    resumed = run(shards, **kept)
    assert [skipped.first_row for skipped in resumed.skipped] == [0, 80]
    assert resumed.profile.to_bytes() == run(shards, **fine).profile.to_bytes()
    rows = np.arange(160, 240)
    assert resumed.profile.calibration.rows.tolist() == rows[np.argsort(hash_rows(SEED, rows))[:5]].tolist()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("byte 7"), FormatError, "expected a shard that can be read; got ValueError: byte 7"),
        (MemoryError("8 GiB"), WorkerLostError, "expected enough memory to read it; got 8 GiB: take fewer workers"),
    ],
)
def test_what_nobody_foresaw_is_named_or_skipped(
    shards: Path, error: Exception, kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assessor.execution.retrying.PAUSES_S", (0.0, 0.0))
    real = {name: getattr(work, name) for name in ("inspect_source", "read_block")}

    def stumbling(name: str) -> Any:
        def stumble(store: Any, what: Any, *arguments: Any, **options: Any) -> Any:
            if "1.npy" in str(what):
                raise error
            return real[name](store, what, *arguments, **options)

        return stumble

    for name, rows in (("inspect_source", 0), ("read_block", 80)):
        with monkeypatch.context() as patch:
            patch.setattr(work, name, stumbling(name))
            with pytest.raises(kind, match=rf"1\.npy: {words}"):
                run(shards)
            [skipped] = run(shards, on_error="skip").skipped
        assert (skipped.uri, skipped.rows) == (f"file://{shards}/1.npy", rows)


def test_what_the_caller_of_a_run_raises_is_no_sources_fault(shards: Path) -> None:
    class Full(NoProgress):
        def advance(self, n: int) -> None:
            if n > 1:
                raise OSError("the log's disk is full")

    with pytest.raises(OSError, match=r"^the log's disk is full$"):
        run(shards, progress=Full(), on_error="skip")


def test_files_that_no_store_can_take_are_named_or_skipped(tmp_path: Path) -> None:
    for encoded in (b"a\tb.npy", b"a\nb.npy", b"\xff.npy", b"x#12"):
        (tmp_path / os.fsdecode(encoded)).write_bytes(npy(X, Y))
    (tmp_path / "x.npy").write_bytes(npy(X, Y))
    odd = {"a%09b.npy", "a%0Ab.npy", "%FF.npy", "x%2312"}
    options: dict[str, Any] = {"batch_sizes": [8], "engine": "serial"}
    for place in (f"{tmp_path}/", f"{tmp_path}/*"):
        with pytest.raises(SourceUriError, match=rf"got file://{tmp_path}/[ax%].*: rename it"):
            profile_sources([place], **options)
        assessed = profile_sources([place], on_error="skip", **options)
        assert {skipped.uri.rpartition("/")[2] for skipped in assessed.skipped} == odd
        assert assessed.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()
        Plan.from_json(assessed.plan().to_json())  # names them in its notes
    for name in ("a\tb.npy", "x#12"):
        with pytest.raises(SourceUriError, match="rename it"):
            profile_sources([tmp_path / name], on_error="skip", **options)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(SourceUriError, match="none of 4 sources can be read; the first: "):
        profile_sources([f"{tmp_path}/*"], on_error="skip", **options)


@pytest.mark.parametrize("name", ["a\\b.npy", "a%2fb.npy", "a\xa0b.npy", "a[1].npy", "a#1.npy"])
def test_files_that_are_hard_to_write_as_a_uri_are_read_by_their_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(npy(X, Y))
    for place in (tmp_path / name, f"{tmp_path}/", f"{tmp_path}/*"):
        assessed = profile_sources([place], batch_sizes=[8], engine="serial")
        assert assessed.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()


def test_a_truncated_source_is_named_or_left_out_with_its_rows_uncounted(shards: Path) -> None:
    whole = (shards / "2.npy").read_bytes()
    (shards / "2.npy").write_bytes(whole[:-100])
    with pytest.raises(FormatError, match=r"2\.npy: expected 2048 bytes, as the header says; the object has 1948"):
        run(shards)
    assessed = run(shards, on_error="skip")
    assert assessed.profile.to_bytes() == profile_array(X[:160], batch_sizes=[8]).to_bytes()
    assert assessed.skipped[0].rows == 0
    assert assessed.skipped[0].uri == f"file://{shards}/2.npy"
    assert "its rows are not counted" in assessed.plan().notes[-1]
    for number in range(3):
        (shards / f"{number}.npy").write_bytes(b"no shard")
    with pytest.raises(FormatError, match="none of 3 sources can be read; the first: file://"):
        run(shards, on_error="skip")


def test_nothing_that_can_be_read_is_an_error_though_errors_are_skipped(shards: Path) -> None:
    for number in range(3):
        np.save(shards / f"{number}.npy", np.full((80, 6), np.inf, np.float32))
    with pytest.raises(NonFiniteError, match=r"none of 12 blocks can be read; the first: .*0\.npy"):
        run(shards, on_error="skip")


def test_an_interrupted_run_goes_on_without_reading_what_is_finished(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int]] = []
    real = stores.Folder.view

    def counting(self: stores.Folder, source: Any, start: int, stop: int) -> memoryview:
        read.append((source.uri.name, stop - start))
        return real(self, source, start, stop)

    monkeypatch.setattr(stores.Folder, "view", counting)

    class Interrupt(Told):
        def advance(self, n: int) -> None:
            super().advance(n)
            if self.begun[-1][0] == "reading" and self.done[-1] >= 5 * 384:
                raise KeyboardInterrupt

    kept = tmp_path / "kept"
    fine: dict[str, Any] = {"checkpoint": kept, "block_bytes": 384}
    with pytest.raises(KeyboardInterrupt):
        run(shards, **fine, progress=Interrupt())
    profiles = sorted(kept.glob("*.profile"))
    assert len(profiles) == 4  # of 15 blocks; the fifth was read when the interrupt came
    profiles[0].write_bytes(profiles[0].read_bytes()[:-10])  # cut off, as by a machine that went down
    with (kept / "extents.jsonl").open("a") as log:
        log.write('{"key": "torn')
    read.clear()
    told = Told()
    assessed = run(shards, **fine, progress=told)
    assert assessed.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()
    assert read == [(name, 384) for name, _ in read]  # no header
    assert len(read) == 12  # fifteen blocks but three
    assert told.begun == [("looking", 3, 3, "sources"), ("reading", 15 * 384, 3 * 384, "B")]
    read.clear()
    assert run(shards, **fine).profile.to_bytes() == assessed.profile.to_bytes()
    assert read == []
    # Other settings, or another object of the same name, are read.
    run(shards, **fine, batch_sizes=[4])
    assert len(read) == 15
    read.clear()
    np.save(shards / "0.npy", X[:80] + 1)
    changed = run(shards, **fine)
    assert {name for name, _ in read} == {"0.npy"}
    assert changed.profile.to_bytes() != assessed.profile.to_bytes()


def test_what_could_be_read_beside_a_failure_is_not_read_again(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = np.full((80, 6), np.nan, np.float32)
    np.save(shards / "1.npy", poisoned)
    read: list[str] = []
    real = stores.Folder.view

    def counting(self: stores.Folder, source: Any, start: int, stop: int) -> memoryview:
        read.append(source.uri.name)
        return real(self, source, start, stop)

    monkeypatch.setattr(stores.Folder, "view", counting)
    options = {"checkpoint": tmp_path / "kept", "block_bytes": 1 << 20}  # all three are one task
    first = run(shards, on_error="skip", **options)
    for on_error in ("skip", "skip", "stop"):
        read.clear()
        if on_error == "stop":
            with pytest.raises(NonFiniteError, match=r"1\.npy"):
                run(shards, **options)
        else:
            again = run(shards, on_error=on_error, **options)
            assert again.profile.to_bytes() == first.profile.to_bytes()
            assert again.skipped == first.skipped
        assert set(read) == {"1.npy"}
    assert [(item.first_row, item.rows) for item in first.skipped] == [(80, 80)]


def test_a_source_that_is_mended_has_no_others_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", X[number * 40 : number * 40 + 40])
        lines.append(f'{{"uri": "{number}.npy", "rows": 40}}')
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    good = (tmp_path / "1.npy").read_bytes()
    (tmp_path / "1.npy").write_bytes(bytes(len(good)))
    read: set[str] = set()
    real = stores.Folder.view

    def noting(self: stores.Folder, source: Any, start: int, stop: int) -> memoryview:
        read.add(source.uri.name)
        return real(self, source, start, stop)

    def go() -> Any:
        places = [f"@{tmp_path}/list.jsonl"]
        kept = tmp_path / "kept"
        options: dict[str, Any] = {"checkpoint": kept, "on_error": "skip", "block_bytes": 2200}  # two sources a task
        return profile_sources(places, batch_sizes=[8], engine="serial", **options)

    assert [skipped.rows for skipped in go().skipped] == [40]
    monkeypatch.setattr(stores.Folder, "view", noting)
    (tmp_path / "1.npy").write_bytes(good)
    mended = go()
    assert read - {"list.jsonl"} == {"0.npy", "1.npy"}  # the task that lacked a part
    assert mended.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()


def test_what_a_manifest_names_and_is_not_there(shards: Path, tmp_path: Path) -> None:
    """Its rows, where the manifest tells them, keep their numbers, so the batches behind it stay what they are."""
    lines = ['{"uri": "0.npy", "rows": 80}', '{"uri": "gone.npy", "rows": 80}', '{"uri": "2.npy"}']
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("\n".join(lines))
    options: dict[str, Any] = {"batch_sizes": [8], "engine": "serial"}
    with pytest.raises(SourceNotFoundError, match=r"gone\.npy; there is none"):
        profile_sources([f"@{manifest}"], **options)
    gone = profile_sources([f"@{manifest}"], on_error="skip", **options)
    (shards / "gone.npy").write_bytes((shards / "1.npy").read_bytes()[:-9])
    cut = profile_sources([f"@{manifest}"], on_error="skip", **options)
    for assessed, reason in ((gone, "there is none"), (cut, "it was cut off")):
        [skipped] = assessed.skipped
        assert (skipped.first_row, skipped.rows) == (80, 80)
        assert reason in skipped.reason
        plan = assessed.plan()
        assert np.flatnonzero(np.isnan(plan.scores)).tolist() == list(range(10, 20))
        behind = profile_array(X[160:], first_row=160, batch_sizes=[8])
        assert np.array_equal(assessed.profile.lanes[8].records[20:], behind.lanes[8].records)
        assert any("gone.npy" in note and "its rows 80 to 159 count as left out" in note for note in plan.notes)
    manifest.write_text('{"uri": "no.npy"}\n{"uri": "none.npy", "rows": 3}')
    with pytest.raises(SourceNotFoundError, match=r"none of 2 sources can be read; the first: .*no\.npy"):
        profile_sources([f"@{manifest}"], on_error="skip", **options)


class Together(Answer):
    """An answer that comes when so many ask for it at a time."""

    def __init__(self, asking: int, body: bytes) -> None:
        self._barrier = Barrier(asking)
        super().__init__(200, body, OBJECT)

    @property
    def status(self) -> int:
        """200, once the others are there."""
        self._barrier.wait(60)
        return 200

    @status.setter
    def status(self, value: int) -> None: ...


def test_a_manifest_is_looked_up_several_at_a_time_and_again_where_the_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assessor.execution.retrying.PAUSES_S", (0.01, 0.01))
    body = npy(X, Y)
    manifest = tmp_path / "list.jsonl"
    broken, whole = Answer(503, b"", OBJECT), Answer(200, body, OBJECT)
    scripts: dict[int, dict[tuple[str, int], Answer]] = {
        8: {("HEAD", -1): Together(8, body)},
        1: {("HEAD", 0): broken, ("HEAD", 1): broken, ("HEAD", -1): whole},
    }
    for n, answers in scripts.items():
        manifest.write_text("".join(f'{{"uri": "s3://data/{k}.npy"}}\n' for k in range(n)))
        with scripted(answers) as (endpoint, _):
            settings = StoreSettings(endpoint=endpoint, retries=0, **KEYS)  # type: ignore[arg-type]  # no booleans
            found = find_sources([f"@{manifest}"], settings)
        assert [listed.source.uri.name for listed in found] == [f"{k}.npy" for k in range(n)]
    with scripted(broken) as (endpoint, asked):
        settings = StoreSettings(endpoint=endpoint, retries=0, **KEYS)  # type: ignore[arg-type]  # no booleans
        with pytest.raises(SourceUnavailableError, match=r"s3://data/0\.npy"):
            find_sources([f"@{manifest}"], settings)
    assert len(asked) == 3


def test_a_store_that_fails_now_and_then_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.execution.retrying.PAUSES_S", (0.01, 0.01))
    body = npy(X, Y)
    whole, broken = Answer(200, body, OBJECT), Answer(503, b"", OBJECT)
    for failing, kept in ((range(1, 3), True), (range(1, 40), False)):
        answers = {("HEAD", -1): whole, ("GET", -1): whole} | {("GET", number): broken for number in failing}
        with scripted(answers) as (endpoint, asked):
            settings = StoreSettings(endpoint=endpoint, retries=0, **KEYS)  # type: ignore[arg-type]  # no booleans
            if kept:
                told = Told()
                found = profile_sources(
                    ["s3://data/x.npy"], batch_sizes=[8], engine="serial", stores=settings, progress=told
                )
                assert told.done[-1] <= told.begun[-1][1]
                assert found.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()
            else:
                with pytest.raises(SourceUnavailableError, match=r"s3://data/x\.npy"):
                    profile_sources(["s3://data/x.npy"], batch_sizes=[8], engine="serial", stores=settings)
                assert sum(line.startswith("GET") for line in asked) == 4  # the header, and three rounds


class Slow(Answer):
    """An answer that comes after the reader has given up."""

    def __init__(self, body: bytes, over: Event) -> None:
        self._over = over
        super().__init__(200, body, OBJECT)

    @property
    def status(self) -> int:
        """200, when the test is over."""
        self._over.wait(60)
        return 200

    @status.setter
    def status(self, value: int) -> None: ...


def test_a_store_that_is_slow_now_and_then_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.execution.retrying.PAUSES_S", (0.01, 0.01))
    body, over = npy(X, Y), Event()
    whole, slow = Answer(200, body, OBJECT), Slow(body, over)
    # The header, then the rows; each comes at the second try.
    answers = {("HEAD", -1): whole, ("GET", 0): slow, ("GET", 2): slow, ("GET", -1): whole}
    with scripted(answers) as (endpoint, asked):
        settings = StoreSettings(endpoint=endpoint, retries=0, read_timeout_s=4.0, **KEYS)  # type: ignore[arg-type]  # no booleans
        try:
            found = profile_sources(["s3://data/x.npy"], batch_sizes=[8], engine="serial", stores=settings)
        finally:
            over.set()
    assert found.profile.to_bytes() == profile_array(X, batch_sizes=[8]).to_bytes()
    assert sum(line.startswith("GET") for line in asked) == 4
