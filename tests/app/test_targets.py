"""What `normgauge assess` writes: never a source, however it is named; checked before data is read; and never lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.cli import main
from app.errors import CommandError
from app.files import keeping, write_file
from assessor import Plan, Profile, make_plan, profile_array
from assessor.execution.work import _store
from assessor.sources.backends import make_s3
from tests.app.support import npy, rows
from tests.app.test_cli import fail
from tests.object_stores import KEYS, S3, Answer, moto, scripted

X = rows(48)
PARTS = {"a.npy": npy(X[:24]), "b.npy": npy(X[24:])}
LIST = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the dataset in `d`, a link to it, a manifest, and a link that the manifest names."""
    (tmp_path / "d").mkdir()
    for name, body in PARTS.items():
        (tmp_path / "d" / name).write_bytes(body)
    (tmp_path / "link").symlink_to(tmp_path / "d")
    (tmp_path / "again.npy").symlink_to(tmp_path / "d" / "b.npy")
    (tmp_path / "list.jsonl").write_text('{"uri": "d/a.npy"}\n{"uri": "again.npy"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with moto() as s3:
        yield s3
    _store.cache_clear()


def use_store(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let commands find a store as other programs do, by the environment."""
    _store.cache_clear()  # a process keeps the stores that it opened by the environment, which no command changes
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for name, value in KEYS.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", str(value))


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The dataset below s3://data/d, with a manifest beside it."""
    use_store(monkeypatch, s3.endpoint)
    for name, body in PARTS.items():
        s3.put(f"d/{name}", body)
    s3.put("list.jsonl", b'{"uri": "d/a.npy"}\n{"uri": "s3://data/d/b.npy"}\n')
    return s3


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys(s3: S3) -> list[str]:
    """Return the keys of the bucket."""
    return sorted(meta["path"] for chunk in make_s3("data", s3.settings).list() for meta in chunk)


@pytest.mark.parametrize(
    ("places", "name"),
    [
        (["d/a.npy"], "d/a.npy"),
        (["d/a.npy", "d/b.npy"], "link/b.npy"),
        (["again.npy"], "d/b.npy"),
        (["d/*.npy"], "d/a.npy"),
        (["d/*.npy"], "link/new.npy"),
        (["link/*.npy"], "d/new.npy"),
        (["d/?.npy"], "d/{batch_size}.npy"),
        (["**/*.json"], "plan.json"),
        (["file://{folder}/d/a.npy"], "d/a.npy"),
        (["file://{folder}/d/"], "d/plan.json"),
        (["d/"], "d/plan.json"),
        (["d"], "d/plan.json"),
        (["link"], "d/plan.json"),
        (["@list.jsonl"], "list.jsonl"),
        (["@list.jsonl"], "d/a.npy"),
        (["@list.jsonl"], "d/b.npy"),
        (["@list.jsonl"], "again.npy"),
        (["@file://{folder}/list.jsonl"], "list.jsonl"),
    ],
)
@pytest.mark.parametrize("option", ["--save", "--profile", "--report", "--png"])
def test_no_file_that_is_read_is_written(
    capsys: pytest.CaptureFixture[str], folder: Path, places: list[str], name: str, option: str
) -> None:
    before = contents(folder)
    if option != "--save":
        name = name.format(batch_size=8)
    places = [place.format(folder=folder) for place in places]
    line = fail(capsys, "assess", *places, "--engine", "serial", "--batch-size", "8", option, name)
    assert "expected another file to write to than those that are read; got " in line
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("places", "name"),
    [
        (["s3://data/d/a.npy"], "s3://data/d/a.npy"),
        (["s3://data/d/*.npy"], "s3://data/d/a.npy"),
        (["s3://data/d/*"], "s3://data/d/plan.arrow"),
        (["s3://data/d/?.npy"], "s3://data/d/{batch_size}.npy"),
        (["s3://data/"], "s3://data/plan.arrow"),
        (["s3://data/d/"], "s3://data/d/plans/need/plan.arrow"),
        (["@s3://data/list.jsonl"], "s3://data/list.jsonl"),
        (["@s3://data/list.jsonl"], "s3://data/d/b.npy"),
    ],
)
def test_no_object_that_is_read_is_written(
    capsys: pytest.CaptureFixture[str], bucket: S3, places: list[str], name: str
) -> None:
    before = keys(bucket)
    line = fail(capsys, "assess", *places, "--engine", "serial", "--batch-size", "8", "--save", name)
    assert "expected another file to write to than those that are read; got s3://data/" in line
    assert keys(bucket) == before
    assert bytes(make_s3("data", bucket.settings).get("d/a.npy").bytes()) == PARTS["a.npy"]


def test_the_message_says_what_to_do(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    line = fail(capsys, "assess", "d/", "--save", "d/plan.json", "--batch-size", "8")
    assert "got d/plan.json, which is read with d/: save it elsewhere, or name the sources by a pattern" in line
    line = fail(capsys, "assess", "d/", "--engine", "serial", "--resume", "d/kept", "--batch-size", "8")
    assert "got d/kept/extents.jsonl, which is read with d/" in line
    assert not Path("d/kept").exists()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("d/*.npy", "d/plan.json"),
        ("d/", "d/.plan.json"),  # hidden files are passed over
        ("d/", "dd.json"),
        ("@list.jsonl", "d/plan.json"),
        ("s3://data/d/*.npy", "s3://data/d/plan.arrow"),
        ("s3://data/d/", "s3://data/d2/plan.arrow"),
        ("@s3://data/list.jsonl", "s3://data/d/plan.arrow"),
    ],
)
def test_beside_the_data_is_a_place(
    bucket: S3, folder: Path, capsys: pytest.CaptureFixture[str], place: str, name: str
) -> None:
    """The same command can be run again, and reads the same."""
    command = ["assess", place, "--batch-size", "8", "--engine", "serial", "--json", "--save", name]
    said = []
    for _ in range(2):
        assert main(command) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    if name.startswith("s3://"):
        make_s3("data", bucket.settings).delete(name.removeprefix("s3://data/"))


def test_a_folder_of_pictures_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of any other kind among the pictures is an error of the next run, so a plan may not lie there."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for number in range(4):
        Image.fromarray(X[: 4 + 2, :].astype("uint8") + number).save(f"pictures/{number}.png")
    before = contents(tmp_path)
    for option, name in (("--png", "pictures/9.png"), ("--save", "pictures/plan.json")):
        assert "which is read with pictures" in fail(capsys, "assess", "pictures", "--batch-size", "2", option, name)
    assert contents(tmp_path) == before
    assert main(["assess", "pictures", "--batch-size", "2", "--quiet", "--save", "plan.json"]) == 0


def test_a_name_with_the_threshold_is_known_before(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    Path("d/fixed(2).json").write_text("mine")
    command = ["assess", "d/*(2).json", "--batch-size", "8", "--threshold", "2.0"]
    assert "got d/fixed(2).json, which" in fail(capsys, *command, "--save", "d/{threshold}.json")
    assert Path("d/fixed(2).json").read_text() == "mine"


@pytest.mark.parametrize("option", ["--save", "--profile"])
@pytest.mark.parametrize("name", ["x.json", "x.arrow"])
def test_files_with_the_name_of_a_half_written_one_are_let_be(folder: Path, option: str, name: str) -> None:
    part = folder / f"{name}.part"
    part.write_bytes(PARTS["a.npy"])
    assert main(["assess", str(part), "--batch-size", "8", "--quiet", option, name]) == 0
    assert part.read_bytes() == PARTS["a.npy"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_picture_that_a_link_leads_to_is_not_written(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "pictures" / "a").mkdir(parents=True)
    for number in range(4):
        Image.new("L", (3, 2), number).save(folder / f"{number}.png")
        (folder / "pictures" / "a" / f"{number}.png").symlink_to(folder / f"{number}.png")
    before = contents(folder)
    line = fail(capsys, "assess", "pictures", "--batch-size", "2", "--save", "3.png")
    assert "got 3.png, which is one of the sources" in line
    assert contents(folder) == before
    assert main(["assess", "pictures", "--batch-size", "2", "--quiet", "--save", "plan.json"]) == 0


def test_other_files_that_are_read_are_not_written_either(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["assess", "d/a.npy", "--batch-size", "8", "--profile", "a.profile", "--quiet"]) == 0
    before = contents(folder)
    command = ["assess", "d/b.npy", "--batch-size", "8", "--reference", "a.profile", "--profile", "a.profile"]
    assert "got a.profile: rename it" in fail(capsys, *command)
    # The batch sizes of a saved profile, and so the names, are known when it was read.
    Path("need-8.profile").write_bytes(Path("a.profile").read_bytes())
    line = fail(capsys, "assess", "need-8.profile", "--save", "{method}-{batch_size}.profile")
    assert "got need-8.profile: rename it" in line
    assert contents(folder) == before | {"need-8.profile": before["a.profile"]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s3://data/", "expected s3://bucket/key to write to; got s3://data/"),
        ("s3://data", "expected s3://bucket/key to write to; got s3://data"),
        ("s3://data/plans/", "expected s3://bucket/key to write to; got s3://data/plans/"),
        ("s3://data/a//b", "without empty parts"),
        ("file:///tmp/plan.json", "write files by their path"),
        ("gs://data/plan.json", "begins with s3:// or file://"),
        ("s3://nothere/plan.json", "expected a bucket for s3://nothere/plan.json; there is none: check its name"),
        ("s3://nothere/d/plan.json", "expected a bucket for s3://nothere/d/plan.json; there is none: check its name"),
    ],
)
@pytest.mark.parametrize("place", ["missing.npy", "s3://data/missing.npy"])
def test_a_bad_object_to_write_is_told_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], bucket: S3, name: str, words: str, place: str
) -> None:
    """Else the source, which is not there, would be what is told."""
    assert words in fail(capsys, "assess", place, "--save", name)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"InvalidAccessKeyId", "expected to be allowed to write s3://data/plan.json; the store refused"),
        (b"AccessDenied", "expected a file; got missing.npy"),  # who may not list may write all the same
    ],
)
def test_a_store_that_lists_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: bytes, words: str
) -> None:
    with scripted(Answer(403, b"<Error><Code>%b</Code></Error>" % code)) as (endpoint, asked):
        use_store(monkeypatch, endpoint)
        line = fail(capsys, "assess", "missing.npy", "--save", "s3://data/plan.json")
        assert words in line
        assert len(asked) == 1


def test_a_plan_that_cannot_be_saved_is_kept(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers a list, and takes nothing; all else that was asked for is written and printed."""
    Path("need.json").write_text("mine")
    command = ["assess", "d/a.npy", "--batch-size", "8", "--method", "need,published", "--json"]
    with scripted(Answer(200, LIST)) as (endpoint, _):
        use_store(monkeypatch, endpoint)
        outputs = ["--save", "s3://data/{method}.json", "--profile", "a.profile", "--report", "a.html"]
        assert main([*command, *outputs]) == 1
    captured = capsys.readouterr()
    profile = profile_array(X[:24], batch_sizes=[8])
    plans = [make_plan(profile, method=method) for method in ("need", "published")]
    assert captured.out.splitlines() == [plan.to_json() for plan in plans]
    assert captured.err.count("\n") == 1
    assert f"s3://data/need.json could not be written (expected the store at {endpoint} to take" in captured.err
    assert f"it is kept in {folder}/need-1.json; s3://data/published.json could not" in captured.err
    assert f"it is kept in {folder}/published.json" in captured.err
    assert Path("need.json").read_text() == "mine"
    assert [Plan.load(name) for name in ("need-1.json", "published.json")] == plans
    assert Profile.from_bytes(Path("a.profile").read_bytes()).to_bytes() == profile.to_bytes()
    assert Path("a.html").read_text().startswith("<!doctype html>")


def test_a_file_that_cannot_be_written_is_kept(folder: Path) -> None:
    Path("plan.json").write_text("mine")
    Path("plan-1.json").write_text("mine")

    def write_both() -> None:
        with keeping() as write:
            for name in ("gone/plan.json", "other.json"):
                write(name, lambda place: write_file(place, b"{}"))

    words = r"gone/plan\.json could not be written \(.*No such file.*\): it is kept in .*/plan-2\.json$"
    with pytest.raises(CommandError, match=words):
        write_both()
    assert [Path(f"plan{n}.json").read_text() for n in ("", "-1", "-2")] == ["mine", "mine", "{}"]
    assert Path("other.json").read_text() == "{}"


def test_what_can_be_kept_nowhere_leaves_no_file(folder: Path) -> None:
    def write_nothing(place: str) -> None:
        raise OSError("no room")

    before = contents(folder)
    words = r"\(no room\): nor could it be kept in the current folder \(no room\)"
    with pytest.raises(CommandError, match=words), keeping() as write:
        write("gone/plan.json", write_nothing)
    assert contents(folder) == before
