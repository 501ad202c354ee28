import gzip
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study import families, files
from benchmarks.study.pickles import read_pickle
from benchmarks.study.treatments import standardize
from tests.benchmarks.study.data_files import (
    Bytes,
    idx,
    images,
    python2_pickle,
    write_cifar10,
    write_cifar100,
    write_mnist,
)

PLACES: list[tuple[str, str, Callable[[Path], list[tuple[Bytes, Bytes]]]]] = [
    ("mnist", "mnist", write_mnist),
    ("mnist", "MNIST/raw", lambda folder: write_mnist(folder, zipped=True)),
    ("fashion_mnist", "fashion-mnist", lambda folder: write_mnist(folder, zipped=True, seed=5)),
    ("fashion_mnist", "FashionMNIST/raw", lambda folder: write_mnist(folder, seed=5)),
    ("cifar10", "cifar-10-batches-py", lambda folder: write_cifar10(folder, binary=False)),
    ("cifar10", "cifar-10-batches-bin", lambda folder: write_cifar10(folder, binary=True)),
    ("cifar100", "cifar-100-python", lambda folder: write_cifar100(folder, binary=False)),
    ("cifar100", "cifar-100-binary", lambda folder: write_cifar100(folder, binary=True)),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NORMGAUGE_STUDY_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("name", "place", "write"), PLACES)
def test_a_dataset_takes_part_when_its_files_are_there_and_holds_what_they_hold(
    folder: Path, name: str, place: str, write: Callable[[Path], list[tuple[Bytes, Bytes]]]
) -> None:
    assert files.found(folder) == ()
    parts = write(folder / place)
    assert files.found(folder) == (name,)
    assert families.names()[-1] == name
    pool = files.read(folder, name)
    shape = (1, 28, 28) if "mnist" in name else (3, 32, 32)
    np.testing.assert_array_equal(pool.samples, np.concatenate([part[0] for part in parts]).reshape(-1, *shape))
    np.testing.assert_array_equal(pool.classes, np.concatenate([part[1] for part in parts]))
    assert pool.held_out == len(parts[-1][1])
    assert families.kind(name) == "image"


def test_the_study_loads_a_dataset_of_files_and_tests_on_its_test_files(folder: Path) -> None:
    (train, _), (test, _) = write_mnist(folder / "mnist")
    raw, data = families.load("mnist", "raw", 1, 8), families.load("mnist", "standardized", 1, 8)
    assert raw.x.shape == (96, 1, 28, 28)  # 120 less 18 for validation, in batches of 8
    assert raw.test[0][0].shape == (40, 1, 28, 28)
    assert {sample.tobytes() for sample in raw.test[0][0].byte().numpy()} == {sample.tobytes() for sample in test}
    assert {sample.tobytes() for sample in raw.x.byte().numpy()} < {sample.tobytes() for sample in train}
    expected = standardize(raw.x.flatten(1).double().numpy())(raw.test[0][0].flatten(1).double().numpy())
    np.testing.assert_allclose(data.test[0][0].flatten(1), expected, rtol=1e-5, atol=1e-5)
    assert families.fits("mnist", "mixed(4,between)", 8)
    assert not families.fits("mnist", "raw", 128)


def test_a_dataset_with_a_file_missing_takes_no_part(folder: Path) -> None:
    write_cifar10(folder / "cifar-10-batches-py", binary=False)
    (folder / "cifar-10-batches-py" / "data_batch_3").unlink()
    assert files.found(folder) == ()
    with pytest.raises(FileNotFoundError, match="all files of cifar10 in one of cifar-10-batches-py"):
        files.read(folder, "cifar10")


def test_a_variable_that_names_no_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMGAUGE_STUDY_DATA", str(tmp_path / "away"))
    with pytest.raises(NotADirectoryError, match="expected NORMGAUGE_STUDY_DATA to name a folder"):
        families.names()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), st.booleans())
def test_idx_files_are_read_back(tmp_path_factory: pytest.TempPathFactory, shape: list[int], zipped: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / ("values.gz" if zipped else "values")
    path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    np.testing.assert_array_equal(files.read_idx(path, len(shape)), values)


VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an IDX file of bytes with 2 axes, got first bytes b''"),
        (idx(VALUES[0]), "with 2 axes, got first bytes b'.x00.x00.x08.x01'"),
        (b"\0\0\x0d\x02" + idx(VALUES)[4:], "expected an IDX file of bytes"),
        (idx(VALUES)[:9], "expected an IDX file of bytes"),
        (idx(VALUES)[:-1], r"expected 12 values for shape \(3, 4\), got 11"),
        (idx(VALUES) + b"!", r"expected 12 values for shape \(3, 4\), got more"),
        (struct.pack(">BBBBII", 0, 0, 8, 2, 2**32 - 1, 2**32 - 1), "expected 18446744065119617025 values"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_idx_files_are_refused(tmp_path: Path, content: bytes, message: str, zipped: bool) -> None:
    path = tmp_path / ("images.gz" if zipped else "images")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}"):
        files.read_idx(path, 2)


@pytest.mark.parametrize("damage", [lambda zipped: zipped[:-12], lambda zipped: b"plain" + zipped])
def test_damaged_gzip_files_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(idx(VALUES))))
    with pytest.raises(ValueError, match="expected a whole gzip file"):
        files.read_idx(path, 2)


def test_images_and_classes_of_different_number_are_refused(folder: Path) -> None:
    write_mnist(folder / "mnist")
    path = folder / "mnist" / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(119, np.uint8)))
    with pytest.raises(ValueError, match="expected a class for each of 120 images, got 119"):
        files.read(folder, "mnist")


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_binary_files_that_are_no_whole_records_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"expected records of 3073 bytes, got {size} bytes"):
        files.read_binary(path, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy.core, as files of Python 2 name it
def test_the_pickles_of_these_tests_are_pickles_and_are_read_as_pickle_reads_them(tmp_path: Path) -> None:
    pixels, classes = images(4, (3072,), 1)
    path = tmp_path / "batch"
    path.write_bytes(python2_pickle(pixels, classes.tolist()))
    reference, body = pickle.loads(path.read_bytes(), encoding="bytes"), read_pickle(path)
    assert list(reference) == list(body) == [b"batch_label", b"labels", b"data", b"filenames"]
    np.testing.assert_array_equal(body.pop(b"data"), reference.pop(b"data"), strict=True)
    assert body == reference


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_a_pickle_asks_to_run_is_not_run(tmp_path: Path, protocol: int) -> None:
    path, made = tmp_path / "batch", tmp_path / "made"
    path.write_bytes(pickle.dumps({b"data": Touch(made)}, protocol))
    with pytest.raises(ValueError, match=r"the file asks for .*, which no CIFAR file does"):
        read_pickle(path)
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()  # the file was one that runs


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    path.write_bytes(python2_pickle(np.zeros((1, 8), np.uint8), [0], dtype=b"O8"))
    with pytest.raises(ValueError, match=r"expected arrays of unsigned bytes \(u1\), got b'O8'"):
        read_pickle(path)


SMALL = python2_pickle(*(part.tolist() if part.ndim == 1 else part for part in images(2, (6,), 1)))  # type: ignore[arg-type]


@given(st.integers(0, len(SMALL) - 1))
def test_a_pickle_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "batch"
    path.write_bytes(SMALL[:size])
    with pytest.raises(ValueError, match="expected a pickle of plain values"):
        read_pickle(path)


@given(st.lists(st.tuples(st.integers(2, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(SMALL)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("damaged") / "batch"
    path.write_bytes(content)
    try:
        files.read_python(path, b"labels")
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - a file may also be read
    else:
        pytest.fail("six pixels are no CIFAR image")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2], 2), "expected pixels under 'data'"),
        (pickle.dumps({b"data": 3}, 3), "expected pixels under 'data'"),
        (
            python2_pickle(*images(2, (3071,), 1)[:1], [0, 1]),
            r"expected pixels under 'data', \(N, 3072\), got \(2, 3071\)",
        ),
        (
            python2_pickle(*images(2, (3072,), 1)[:1], [0, 1], b"fine_labels"),
            "expected a list of whole numbers under 'labels'",
        ),
        (python2_pickle(*images(2, (3072,), 1)[:1], [0]), "expected a class for each of 2 images, got 1"),
    ],
)
def test_pickles_that_are_no_cifar_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        files.read_python(path, b"labels")
