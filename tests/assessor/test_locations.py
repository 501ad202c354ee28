"""What a place stands for is what would be found with it, were it there."""

from pathlib import Path

import pytest

from assessor.execution import find_sources, stands_for
from assessor.sources import StoreSettings

PLACES = [
    "d/a.npy",
    "d",
    "d/",
    "d/*.npy",
    "d/*",
    "*/*.npy",
    "**",
    "d/**/*.npy",
    "link",
    "link/*.npy",
    "d/sub/[ab].npy",
    "d/[x].npy",
    "e/",
    "file://{folder}/d/",
    "file://{folder}/link/?.npy",
]
TARGETS = [
    "d/n.npy",
    "d/n.json",
    "d/.n.npy",
    "d/sub/n.npy",
    "d/sub/b.npy",
    "d/.hidden/n.npy",
    "d/x.npy",
    "e/n.npy",
    "n.npy",
    "link/n.npy",
    "d/out/n.npy",
    "dd/n.npy",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", TARGETS)
def test_as_it_would_be_found(place: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d/a.npy", "d/[x].npy", "d/sub/a.npy", "d/.hidden/a.npy", "e/a.npy", "dd/a.npy"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("link").symlink_to("d")
    Path("d/out").symlink_to("../e")  # links to folders are not entered
    place = place.format(folder=tmp_path)
    said = stands_for(place, target)
    Path(target).touch()
    found = {Path("/", listed.source.uri.key).resolve() for listed in find_sources([place], StoreSettings())}
    assert said == (Path(target).resolve() in found)


@pytest.mark.parametrize(
    ("place", "target", "said"),
    [
        ("s3://data/d/", "s3://data/d/x", True),
        ("s3://data/d/", "s3://data/d/.x", True),  # nothing is hidden in a bucket
        ("s3://data/d/", "s3://data/dd/x", False),
        ("s3://data/d/", "s3://data/d", False),
        ("s3://data/d/", "s3://other/d/x", False),
        ("s3://data/", "s3://data/x", True),
        ("s3://data/d", "s3://data/d/x", False),
        ("s3://data/*/x.npy", "s3://data/d/x.npy", True),
        ("s3://data/*/x.npy", "d/x.npy", False),
        ("d/", "s3://data/d/x.npy", False),
        ("s3://data/x[1].npy", "s3://data/x[1].npy", True),  # a key as it stands goes before the pattern
        ("s3://data/x[1].npy", "s3://data/x1.npy", True),
        ("@d/*.jsonl", "d/x.jsonl", False),
        ("@s3://data/x.jsonl", "s3://data/x.jsonl", True),
    ],
)
def test_by_name_alone(place: str, target: str, said: bool) -> None:
    assert stands_for(place, target) == said
