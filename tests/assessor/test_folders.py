"""Folders of pictures, written by Pillow."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assessor import AssessorError, profile_array, profile_shard
from assessor.errors import DtypeError, EmptyShardError, FormatError, SettingError, ShapeError

PIXELS = np.random.default_rng(3).integers(0, 256, (6, 5, 7, 3), np.uint8)


def write(folder: Path, names: dict[str, object]) -> Path:
    for name, content in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_bytes(bytes(str(content), "utf-8"))
    return folder


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "PPM"])
def test_class_folders_give_labels(tmp_path: Path, suffix: str) -> None:
    names = [f"{c}/{k}.{suffix}" for c in ("cat", "dog") for k in range(3)]
    write(tmp_path, {**dict(zip(names, PIXELS, strict=True)), ".DS_Store": "", "cat/.hidden": ""})
    seen: list[int] = []
    profile = profile_shard(tmp_path, batch_sizes=[4], on_bytes=seen.append)
    x = PIXELS.transpose(0, 3, 1, 2)
    assert profile.to_bytes() == profile_array(x, labels=[0, 0, 0, 1, 1, 1], batch_sizes=[4]).to_bytes()
    assert sum(seen) == sum((tmp_path / name).stat().st_size for name in names)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    gray = PIXELS[..., 0]
    write(tmp_path, {f"{k}.png": gray[k] for k in range(6)})
    assert (
        profile_shard(tmp_path, batch_sizes=[4]).to_bytes() == profile_array(gray[:, None], batch_sizes=[4]).to_bytes()
    )


def test_one_bit_and_sixteen_bit_pictures(tmp_path: Path) -> None:
    deep = (PIXELS[0, ..., 0].astype(np.uint16) << 8) + 1
    write(tmp_path / "deep", {"0.png": deep})
    assert profile_shard(tmp_path / "deep", batch_sizes=[1]).rows.means == pytest.approx([deep.mean()])
    write(tmp_path / "bits", {"0.png": Image.fromarray(PIXELS[0, ..., 0]).convert("1", dither=Image.Dither.NONE)})
    bits = PIXELS[0, ..., 0] >= 128
    assert profile_shard(tmp_path / "bits", batch_sizes=[1]).rows.means == pytest.approx([bits.mean()])


PICTURE = PIXELS[0]
BAD: list[tuple[dict[str, object], type[AssessorError], str]] = [
    ({".keep": ""}, EmptyShardError, "at least one picture in .*; it has none: check the path"),
    ({"a.png": PICTURE, "b.png": PICTURE[:3]}, ShapeError, r"RGB 7 x 5 as '.*a.png'; '.*b.png' has RGB 7 x 3: resize"),
    ({"a.png": PICTURE, "b.png": PICTURE[..., 0]}, ShapeError, r"'.*b.png' has L 7 x 5"),
    ({"a.png": Image.new("P", (2, 2))}, DtypeError, r"'.*a.png' has 'P': convert it, such as with image.convert"),
    ({"a.png": PICTURE, "notes.txt": "x"}, FormatError, r"expected pictures \(png, .*; got 'notes.txt': move it away"),
    ({"a.png": PICTURE, "c/b.png": PICTURE}, FormatError, "got both folders and 'a.png'"),
    ({"c/d/a.png": PICTURE}, FormatError, "expected pictures .* got 'd'"),
    ({"a.png": "no picture"}, FormatError, r"'.*a.png' cannot be read: UnidentifiedImageError"),
    ({"a.jpg": "GIF89a" + "x" * 50}, FormatError, "cannot be read"),
]


@pytest.mark.parametrize(("names", "error", "message"), BAD)
def test_bad_folders(tmp_path: Path, names: dict[str, object], error: type[AssessorError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        profile_shard(write(tmp_path, names), batch_sizes=[4])
    assert str(caught.value).startswith("expected ")


def test_a_folder_has_no_format(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="expected no format for a folder"):
        profile_shard(tmp_path, format="npy", batch_sizes=[4])


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(values) for values in PIXELS[:2]]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with pytest.raises(FormatError, match=r"expected one picture a file; '.*a.tiff' has several"):
        profile_shard(tmp_path, batch_sizes=[1])
