"""`normgauge assess`: labels, saved profiles, and files to write."""

import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from app.labels import read_labels
from app.reading import is_profile
from assessor import LabelError, Plan, Profile, make_plan, merge, profile_array
from tests.app.support import npy, rows, safetensors
from tests.app.test_cli import fail

LABELS = np.arange(50) % 3


@pytest.fixture
def shard(tmp_path: Path) -> str:
    """A file that holds rows(50)."""
    (tmp_path / "x.npy").write_bytes(npy(rows(50)))
    return str(tmp_path / "x.npy")


def label_files(folder: Path) -> list[Path]:
    """Return the labels in each form that is read."""
    (folder / "y.npy").write_bytes(npy(LABELS.astype(np.uint8)))
    (folder / "y.csv").write_text("class label\n" + "\n".join(map(str, LABELS)) + "\n\n")
    (folder / "y.txt").write_bytes("\r\n".join(map(str, LABELS)).encode("utf-8-sig"))
    return [folder / name for name in ("y.npy", "y.csv", "y.txt")]


def test_labels_of_each_form_are_used(capsys: pytest.CaptureFixture[str], shard: str, tmp_path: Path) -> None:
    expected = make_plan(profile_array(rows(50), batch_sizes=[8], labels=LABELS), method="published")
    for path in label_files(tmp_path):
        assert (
            main(["assess", shard, "--batch-size", "8", "--method", "published", "--labels", str(path), "--json"]) == 0
        )
        assert capsys.readouterr().out == expected.to_json() + "\n"
    assert main(["assess", shard, "--batch-size", "8", "--method", "published", "--json"]) == 0
    assert "all samples form one class" in capsys.readouterr().out


def test_labels_reach_a_saved_profile(capsys: pytest.CaptureFixture[str], shard: str, tmp_path: Path) -> None:
    profile, labelled = str(tmp_path / "x.profile"), str(tmp_path / "xy.profile")
    labels = str(label_files(tmp_path)[0])
    main(["assess", shard, "--batch-size", "8", "--profile", profile, "--quiet"])
    assert not Profile.from_bytes(Path(profile).read_bytes()).labelled
    assert main(["assess", profile, "--labels", labels, "--method", "published", "--json"]) == 0
    expected = make_plan(profile_array(rows(50), batch_sizes=[8], labels=LABELS), method="published")
    assert capsys.readouterr().out == expected.to_json() + "\n"
    main(["assess", shard, "--batch-size", "8", "--labels", labels, "--profile", labelled])
    assert "float32, labelled" in capsys.readouterr().out
    whole = profile_array(rows(50), batch_sizes=[8], labels=LABELS)
    assert Path(labelled).read_bytes() == whole.to_bytes()
    line = fail(capsys, "assess", labelled, "--labels", labels)
    assert f"the shards have their own y: leave --labels {labels} out" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(LABELS[:49]), r"expected one label a row, 50; got 49 in "),
        (npy(LABELS.astype(float)), r"integer dtype; got shape \(50,\), dtype float64 in "),
        (npy(LABELS[:, None]), r"got shape \(50, 1\)"),
        (npy(LABELS)[:-3], "is not usable"),
        (npy(np.array([2**63] * 50, np.uint64)), r"below 2\^63; got 9223372036854775808"),
        (npy(np.array([None] * 50), allow_pickle=True), "is not usable"),
        (b"1\n2\nthree\n", "one integer a line in .*; got 'three' in line 3"),
        (b"id,y\n1,2\n", "got 'id,y' in line 1"),
        (b"y\n1.5\n", r"got '1\.5' in line 2"),
        (b"1\n\n2\n", "got '' in line 2"),
        (b"99999999999999999999\n", "in line 1"),
        (b"\xff\xfe\x00", "is neither"),
        (b"", "expected one label a row, 50; got 0"),
    ],
)
def test_labels_that_are_none(
    capsys: pytest.CaptureFixture[str], shard: str, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    line = fail(capsys, "assess", shard, "--batch-size", "8", "--labels", str(path))
    assert re.search(words, line), line
    assert str(path) in line


def test_an_npy_header_that_promises_too_much_allocates_nothing(tmp_path: Path) -> None:
    from tests.app.support import npy_head

    path = tmp_path / "labels.npy"
    path.write_bytes(npy_head((1 << 50,), "<i8"))
    with pytest.raises(LabelError, match="is not usable"):
        read_labels(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("sent", [b"class\n" + b"\n".join(b"%d" % label for label in LABELS), npy(LABELS)])
def test_labels_from_a_pipe_are_read_once(tmp_path: Path, sent: bytes) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(sent,), daemon=True)
    writer.start()
    if sent == npy(LABELS):
        with pytest.raises(LabelError, match=r"in npy as a file; .*pipe is none: save them"):
            read_labels(path)
    else:
        assert read_labels(path).tolist() == LABELS.tolist()
        writer.join()


def test_a_saved_profile_gives_the_plans_of_the_data(
    capsys: pytest.CaptureFixture[str], shard: str, tmp_path: Path
) -> None:
    profile = str(tmp_path / "x.profile")
    arguments = ["--method", "need,published", "--json"]
    assert main(["assess", shard, "--batch-size", "8,16", "--profile", profile, *arguments]) == 0
    first = capsys.readouterr().out
    assert len(first.splitlines()) == 4
    Path(shard).unlink()
    assert main(["assess", profile, *arguments]) == 0
    assert capsys.readouterr().out == first
    assert main(["assess", profile, "--batch-size", "16", *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == first.splitlines()[2:]


def test_profiles_of_parts_are_merged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = rows(50)
    parts = [profile_array(x[:21], batch_sizes=[8]), profile_array(x[21:], batch_sizes=[8], first_row=21)]
    paths = [tmp_path / f"{i}.profile" for i in range(2)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part.to_bytes())
        assert is_profile(path)
    assert main(["assess", str(paths[1]), str(paths[0]), "--json"]) == 0
    assert Plan.from_json(capsys.readouterr().out).to_json() == make_plan(merge(parts)).to_json()
    assert "rows 0 to 20" in fail(capsys, "assess", str(paths[1]))
    assert "came twice" in fail(capsys, "assess", str(paths[0]), str(paths[0]))
    merged = str(tmp_path / "all.profile")
    assert main(["assess", *map(str, paths), "--profile", merged, "--quiet"]) == 0
    assert Path(merged).read_bytes() == merge(parts).to_bytes()


def test_what_a_profile_cannot_be_used_for(capsys: pytest.CaptureFixture[str], shard: str, tmp_path: Path) -> None:
    profile = str(tmp_path / "x.profile")
    main(["assess", shard, "--batch-size", "8", "--profile", profile, "--quiet"])
    for arguments, words in (
        ([profile, shard, "--batch-size", "8"], f"got the profile {profile} and the shard {shard}"),
        ([profile, "--batch-size", "4"], "profiled (8); got 4"),
        ([profile, "--feature-axis", "channel"], "--feature-axis element, with which"),
        ([profile, "--profile", str(tmp_path / "again.profile")], "a saved profile already: leave it out"),
    ):
        assert words in fail(capsys, "assess", *arguments)
    damaged = tmp_path / "damaged.profile"
    damaged.write_bytes(Path(profile).read_bytes()[:-9])
    assert f"{damaged}: expected a profile written by to_bytes" in fail(capsys, "assess", str(damaged))
    other = tmp_path / "shard.safetensors"
    other.write_bytes(safetensors(rows(9)))
    assert not is_profile(other)
    assert not is_profile(tmp_path)


def test_columns_and_format_of_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = rows(50).astype(np.float64)
    path = tmp_path / "table"
    lines = [f"{i % 3},{row[0]!r},{row[1]!r},{row[2]!r}" for i, row in enumerate(x.tolist())]
    path.write_text("kind,a,b,c\n" + "\n".join(lines) + "\n")
    arguments = ["--batch-size", "8", "--format", "csv", "--columns", "a, c", "--label-column", "kind"]
    assert main(["assess", str(path), *arguments, "--method", "published", "--json"]) == 0
    profile = profile_array(x[:, [0, 2]], batch_sizes=[8], labels=LABELS)
    assert capsys.readouterr().out == make_plan(profile, method="published").to_json() + "\n"
    assert "got 'excel'" in fail(capsys, "assess", str(path), "--batch-size", "8", "--format", "excel")
    missing = fail(capsys, "assess", str(path), "--batch-size", "8", "--format", "csv", "--columns", "d")
    assert missing.startswith(f"normgauge: {path}: ")
    saved = str(tmp_path / "x.profile")
    main(["assess", str(path), *arguments, "--profile", saved, "--quiet"])
    for option in (["--format", "csv"], ["--columns", "a"], ["--label-column", "kind"]):
        assert main(["assess", saved, *option]) == 2
        assert f"with shards; got the saved profile {saved}: leave them out" in capsys.readouterr().err


def test_shards_are_read_in_batches_of_32_unless_told(capsys: pytest.CaptureFixture[str], shard: str) -> None:
    assert main(["assess", shard, "--json"]) == 0
    default = capsys.readouterr().out
    assert main(["assess", shard, "--json", "--batch-size", "32"]) == 0
    assert capsys.readouterr().out == default


def test_files_are_not_written_over_what_is_read(
    capsys: pytest.CaptureFixture[str], shard: str, tmp_path: Path
) -> None:
    for option in ("--save", "--report", "--png", "--profile"):
        line = fail(capsys, "assess", shard, "--batch-size", "8", option, str(tmp_path / "." / "x.npy"))
        assert "expected another file to write to" in line
        assert "which is a folder" in fail(capsys, "assess", shard, "--batch-size", "8", option, str(tmp_path))
        assert "No such file" in fail(capsys, "assess", shard, "--batch-size", "8", option, "/nowhere/x")
    twice = ["--save", str(tmp_path / "a"), "--report", str(tmp_path / "a")]
    assert "twice: rename one" in fail(capsys, "assess", shard, "--batch-size", "8", *twice)
    assert Path(shard).read_bytes() == npy(rows(50))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_bad_setting_is_found_before_data_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.npy")
    assert "got 'magic'" in fail(capsys, "assess", missing, "--batch-size", "8", "--method", "magic")
    assert "otsu" in fail(capsys, "assess", missing, "--batch-size", "8", "--threshold", "otsu(")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str], shard: str) -> None:
    assert main(["assess", shard, "--batch-size", "8", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_interrupt(capsys: pytest.CaptureFixture[str], shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> Profile:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.reading.profile_shard", interrupt)
    assert main(["assess", shard, "--batch-size", "8"]) == 130
    assert capsys.readouterr().err == "normgauge: interrupted\n"


def test_no_memory(capsys: pytest.CaptureFixture[str], shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object, **__: object) -> Profile:
        raise MemoryError

    monkeypatch.setattr("app.reading.profile_shard", exhaust)
    assert "not enough memory" in fail(capsys, "assess", shard, "--batch-size", "8")
