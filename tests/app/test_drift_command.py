"""`normgauge drift`: new data against a saved profile."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from assessor import measure_drift, profile_array
from tests.app.support import npy, rows
from tests.app.test_cli import fail


@pytest.fixture
def earlier(tmp_path: Path) -> str:
    """A saved profile of rows(200)."""
    path = tmp_path / "earlier.profile"
    path.write_bytes(profile_array(rows(200), batch_sizes=[8]).to_bytes())
    return str(path)


def shard(tmp_path: Path, *, moved: float) -> str:
    x = rows(100, seed=1)
    x[:, 4] += moved
    (tmp_path / "new.npy").write_bytes(npy(x))
    return str(tmp_path / "new.npy")


def test_the_feature_that_moved_comes_first(capsys: pytest.CaptureFixture[str], tmp_path: Path, earlier: str) -> None:
    new = shard(tmp_path, moved=9)
    assert main(["drift", new, "--against", earlier, "--most", "2"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith("mean drift 0.")
    assert "nats over 6 features" in lines[0]
    assert lines[-2].split()[0] == "4"
    assert len(lines) == 5  # the drift, the table's head and rule, two features
    x = np.load(new)[:, 4].astype(float)
    assert lines[-2].split()[2:4] == [f"{x.mean():.4g}", f"{x.std():.4g}"]


def test_json_is_every_features_drift(capsys: pytest.CaptureFixture[str], tmp_path: Path, earlier: str) -> None:
    new = shard(tmp_path, moved=9)
    assert main(["drift", new, "--against", earlier, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    x, y = np.load(new).astype(float), rows(200).astype(float)
    v, p = x.var(axis=0), y.var(axis=0)
    by_hand = (v / p + (x.mean(axis=0) - y.mean(axis=0)) ** 2 / p - 1 - np.log(v / p)) / 2
    np.testing.assert_allclose(said["features"], by_hand, rtol=1e-9)
    np.testing.assert_allclose(said["total"], by_hand.mean(), rtol=1e-9)
    assert (said["n_compared"], said["n_unlike"], said["n_rows"]) == (6, 0, 100)
    profiles = profile_array(np.load(new), batch_sizes=[4]), profile_array(rows(200), batch_sizes=[8])
    np.testing.assert_allclose(said["noise"], measure_drift(*profiles).noise)


def test_the_status_for_scripts(capsys: pytest.CaptureFixture[str], tmp_path: Path, earlier: str) -> None:
    arguments = ["--against", earlier, "--quiet", "--fail-above", "0.5"]
    assert main(["drift", shard(tmp_path, moved=0), *arguments]) == 0
    assert main(["drift", shard(tmp_path, moved=90), *arguments]) == 3
    assert main(["drift", earlier, *arguments]) == 0  # a profile in place of shards
    x = rows(100)
    x[:, 2] = 1.0
    (tmp_path / "constant.npy").write_bytes(npy(x))
    assert main(["drift", str(tmp_path / "constant.npy"), *arguments]) == 3
    assert capsys.readouterr().out == ""
    assert main(["drift", str(tmp_path / "constant.npy"), "--against", earlier, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"][2] == "inf"
    assert main(["drift", str(tmp_path / "constant.npy"), "--against", earlier, "--most", "0"]) == 0
    assert "1 features are constant in one of both only" in capsys.readouterr().out


def test_what_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, earlier: str) -> None:
    new = shard(tmp_path, moved=0)
    assert "expected --against a saved profile; got" in fail(capsys, "drift", new, "--against", new)
    (tmp_path / "other.npy").write_bytes(npy(rows(20, features=3)))
    assert "expected 6 features as in the reference; got 3" in fail(
        capsys, "drift", str(tmp_path / "other.npy"), "--against", earlier
    )
    for wrong in (["--most", "-1"], ["--fail-above", "-1"], ["--fail-above", "nan"]):
        assert main(["drift", new, "--against", earlier, *wrong]) == 2
