"""`normgauge assess` on URIs, patterns and manifests, through an engine."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from assessor import Plan, assess
from assessor.sources import SourceUri, open_store
from tests.assessor.shard_sets import npy
from tests.object_stores import KEYS, S3, moto

X = (np.random.default_rng(2).standard_normal((96, 5)) * np.repeat([1, 6], 48)[:, None]).astype(np.float32)
Y = np.zeros(96, np.int64)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with moto() as s3:
        yield s3


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """Four shards of the dataset; the store and its keys stand in the environment, as for other programs."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    for name, value in KEYS.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", str(value))
    for number in range(4):
        s3.put(f"train/{number}.npy", npy(X[number * 24 : number * 24 + 24], Y))
    return s3


def test_a_prefix_is_assessed_and_the_plan_written_next_to_it(bucket: S3, tmp_path: Path) -> None:
    places = ["s3://data/train/*.npy", "--batch-size", "8", "--engine", "serial", "--quiet"]
    assert main(["assess", *places, "--save", "s3://data/train/plan.arrow"]) == 0
    file, uri = tmp_path / "plan.arrow", SourceUri.parse("s3://data/train/plan.arrow")
    store = open_store(uri, bucket.settings)
    file.write_bytes(store.read(store.find(uri), 0, store.find(uri).size_bytes))
    plan, expected = Plan.load(file), assess(X, batch_size=8)
    assert plan.normalize.tolist() == expected.normalize.tolist()
    np.testing.assert_array_equal(plan.scores, expected.scores)
    assert plan.notes[-1].startswith("4 sources in the order of sha256:")


def test_worker_processes_give_the_same_plan(bucket: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", X[number * 24 : number * 24 + 24])
    assert main(["assess", f"{tmp_path}/*.npy", "--batch-size", "8", "--workers", "1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["scores"] == json.loads(assess(X, batch_size=8).to_json())["scores"]


def test_what_is_skipped_stands_in_the_plan(bucket: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = X[24:48].copy()
    broken[3, 1] = np.nan
    bucket.put("train/1.npy", npy(broken, Y))
    command = ["assess", "s3://data/train/*.npy", "--batch-size", "8", "--engine", "serial"]
    assert main([*command, "--json"]) == 1
    assert "normgauge: s3://data/train/1.npy: expected finite values; row 27" in capsys.readouterr().err
    kept = tmp_path / "kept"
    for _ in range(2):
        assert main([*command, "--on-error", "skip", "--resume", str(kept), "--json"]) == 0
        plan = Plan.from_json(capsys.readouterr().out)
        assert np.flatnonzero(np.isnan(plan.scores)).tolist() == [3, 4, 5]
        assert any("s3://data/train/1.npy" in note and "rows 24 to 47" in note for note in plan.notes)
    assert len(list(kept.glob("*.profile"))) == 1  # of one task of small objects: those that could be read


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["s3://data/none/*.npy"], 1, "expected at least one object for s3://data/none/"),
        (["gs://data/x.npy"], 1, "expected a path, or a URI that begins with s3:// or file://; got 'gs://data/x.npy'"),
        (["@missing.jsonl"], 1, "missing.jsonl; there is none"),
        (["x.npy", "--engine", "dask"], 1, "expected an engine among: serial, processes, ray"),
        (["x.npy", "--workers", "0"], 1, "expected workers >= 1"),
        (["s3://data/train/0.npy", "--labels", "labels.csv"], 2, "expected labels in the sources"),
        (["s3://data/train/0.npy", "--engine", "serial", "--save", "s3://data/"], 1, "expected s3://bucket/key"),
    ],
)
def test_what_does_not_go(
    options: list[str],
    status: int,
    message: str,
    bucket: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("0\n" * 24)
    assert main(["assess", *options, "--batch-size", "8"]) == status
    assert message in capsys.readouterr().err
