import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.study import families, files, generated
from benchmarks.study.mixtures import Mixture
from benchmarks.study.pools import Pool
from benchmarks.study.records import Data
from benchmarks.study.splits import Indices
from benchmarks.study.treatments import parse, treatments

FAMILIES = ("digits", "wine", "breast_cancer", "patches", "gaussian", "textures", "digit_rows", "waves")


def tensors(data: Data) -> Iterator[Tensor]:
    yield from (data.x, data.y, data.source)
    for samples, classes in (*data.validation, *data.test):
        yield from (samples, classes)


def flat(samples: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return samples.flatten(1).double().numpy()


def known(samples: Tensor, pool: Tensor) -> Indices:
    """Return the row of the pool that each sample is."""
    equal = (samples.flatten(1)[:, None] == pool.flatten(1)[None]).all(dim=2)
    assert equal.any(dim=1).all()
    return equal.int().argmax(dim=1).numpy()


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NORMGAUGE_STUDY_DATA", raising=False)


def test_the_families_that_need_no_files() -> None:
    assert families.names() == FAMILIES


@pytest.mark.parametrize(
    ("family", "kind", "networks", "shape", "classes"),
    [
        ("digits", "image", ("mlp", "convnet", "resnet"), (1, 8, 8), 10),
        ("wine", "flat", ("mlp",), (13,), 3),
        ("breast_cancer", "flat", ("mlp",), (30,), 2),
        ("patches", "image", ("mlp", "convnet", "resnet"), (3, 8, 8), 6),
        ("gaussian", "flat", ("mlp",), (32,), 6),
        ("textures", "image", ("mlp", "convnet", "resnet"), (3, 8, 8), 8),
        ("digit_rows", "sequence", ("lstm", "mlp"), (8, 8), 10),
        ("waves", "sequence", ("lstm", "mlp"), (16, 4), 6),
    ],
)
def test_each_family_is_what_its_networks_take(
    family: str, kind: str, networks: tuple[str, ...], shape: tuple[int, ...], classes: int
) -> None:
    data = families.load(family, "raw", 1, 4)
    assert families.kind(family) == kind
    assert families.networks(family) == networks
    assert data.x.shape[1:] == data.validation[0][0].shape[1:] == data.test[0][0].shape[1:] == shape
    assert data.classes == classes
    assert sorted(set(data.y.tolist())) == list(range(classes))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("treatment", ["raw", "dead_features", "sorted", "mixed(8,within)", "mixed(4,between,0.1)"])
def test_a_treatment_of_every_family_can_be_trained_on(family: str, treatment: str) -> None:
    data = families.load(family, treatment, 2, 8)
    rows, mixture = len(data.x), Mixture.of(treatment)
    sources = len(mixture.shares) if mixture else 1
    assert rows % 8 == 0
    assert data.y.shape == data.source.shape == (rows,)
    assert data.y.dtype == data.source.dtype == torch.int64
    assert sorted(set(data.source.tolist())) == list(range(sources))
    assert len(data.validation) == len(data.test) == sources
    for samples, classes in (*data.validation, *data.test):
        assert len(samples) == len(classes)
        assert samples.dtype == torch.float32
    assert data.x.dtype == torch.float32
    assert all(values.isfinite().all() for values in tensors(data))


@pytest.mark.parametrize("treatment", treatments())
def test_the_same_arguments_give_the_same_bits_and_another_seed_others(treatment: str) -> None:
    first, again, other = (families.load("wine", treatment, seed, 4) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(tensors(first), tensors(again), strict=True))
    assert not torch.equal(first.x, other.x)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [4, 32])
def test_standardized_is_what_scikit_learn_makes_of_raw_fitted_on_training_rows(family: str, batch_size: int) -> None:
    raw, data = (families.load(family, treatment, 3, batch_size) for treatment in ("raw", "standardized"))
    scaler = StandardScaler().fit(flat(raw.x))
    for before, after in (
        (raw.x, data.x),
        (raw.validation[0][0], data.validation[0][0]),
        (raw.test[0][0], data.test[0][0]),
    ):
        # float32 rounds raw values by 6e-8 of themselves; wine's reach 1680, 5 of its deviations.
        np.testing.assert_allclose(flat(after), scaler.transform(flat(before)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["digits", "wine"])
def test_the_parts_are_different_samples_of_the_family(family: str) -> None:
    samples, _ = {"digits": datasets.load_digits, "wine": datasets.load_wine}[family](return_X_y=True)
    pool = torch.from_numpy(samples.astype(np.float32))
    data = families.load(family, "raw", 1, 4)
    rows = [known(part, pool) for part in (data.x, data.validation[0][0], data.test[0][0])]
    assert len({row for part in rows for row in part}) == sum(len(part) for part in rows)


@pytest.mark.parametrize("batch_size", [2, 4, 16, 128])
def test_the_split_depends_on_the_seed_only_and_the_rest_of_the_rows_is_dropped(batch_size: int) -> None:
    whole, cut = families.load("breast_cancer", "raw", 1, 1), families.load("breast_cancer", "raw", 1, batch_size)
    assert len(cut.x) == len(whole.x) // batch_size * batch_size
    assert torch.equal(cut.x, whole.x[: len(cut.x)])
    assert torch.equal(cut.test[0][0], whole.test[0][0])
    assert torch.equal(cut.validation[0][0], whole.validation[0][0])


def test_fewer_rows_than_a_batch_are_all_kept() -> None:
    assert len(families.load("wine", "raw", 1, 128).x) == 108


def test_sorted_rows_are_the_standardized_ones_class_by_class() -> None:
    plain, data = (families.load("digits", treatment, 1, 16) for treatment in ("standardized", "sorted"))
    assert data.y.tolist() == sorted(plain.y.tolist())
    for one in range(10):
        torch.testing.assert_close(data.x[data.y == one], plain.x[plain.y == one])
    assert torch.equal(data.test[0][1], plain.test[0][1])


@pytest.mark.parametrize("treatment", ["mixed(4,within)", "mixed(4,between)", "mixed(2,between,0.1)"])
def test_each_source_delivers_all_tests_in_its_own_version_and_the_first_leaves_them(treatment: str) -> None:
    plain, data = (families.load("gaussian", each, 1, 16) for each in ("standardized", treatment))
    assert torch.equal(data.y, plain.y)
    for parts, own in ((data.validation, plain.validation), (data.test, plain.test)):
        assert torch.equal(parts[0][0], own[0][0])
        assert all(torch.equal(classes, own[0][1]) for _, classes in parts)
    for index in range(len(data.test)):
        # What a source does is affine in each feature: two numbers, found on test rows, tell its training rows.
        before, after = flat(plain.test[0][0]), flat(data.test[index][0])
        slope = (after[0] - after[1]) / (before[0] - before[1])
        of_source = (data.source == index).numpy()
        expected = after[0] + slope * (flat(plain.x)[of_source] - before[0])
        np.testing.assert_allclose(flat(data.x)[of_source], expected, rtol=1e-2, atol=1e-2)
        assert index == 0 or not np.allclose(after, before)


def test_between_puts_one_source_in_a_batch_of_the_data() -> None:
    source = families.load("digits", "mixed(8,between)", 1, 16).source.reshape(-1, 16)
    assert (source == source[:, :1]).all()


@pytest.mark.parametrize("batch_size", [16, 32, 128])
@pytest.mark.parametrize("treatment", ["raw", *(name for name in treatments() if "mixed" in name)])
@pytest.mark.parametrize("family", ["wine", "digits"])
def test_what_is_said_to_fit_loads_and_has_two_batches(family: str, treatment: str, batch_size: int) -> None:
    if families.fits(family, treatment, batch_size):
        data = families.load(family, treatment, 1, batch_size)
        assert len(data.x) >= 2 * batch_size
    elif 2 * batch_size <= 108:
        with pytest.raises(ValueError, match="take smaller batches or fewer sources"):
            families.load(family, treatment, 1, batch_size)
    else:
        assert family == "wine"
        assert batch_size == 128


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_can_be_learned_but_not_by_rote(family: str) -> None:
    data = families.load(family, "standardized", 1, 16)
    nearest = KNeighborsClassifier(5).fit(flat(data.x), data.y)
    samples, classes = data.test[0]
    most = classes.bincount().max().item() / len(classes)
    assert most + 0.3 < nearest.score(flat(samples), classes) < 1


@pytest.mark.parametrize("make", [generated.gaussian, generated.textures, generated.waves])
def test_generated_pools_are_made_the_same_every_time(make: Callable[[], Pool]) -> None:
    first, second = make(), make()
    np.testing.assert_array_equal(first.samples, second.samples)
    np.testing.assert_array_equal(first.classes, second.classes)


def test_patches_are_pieces_of_the_images_at_half_size() -> None:
    data = families.load("patches", "raw", 1, 16)
    images = [np.asarray(image, float) for image in datasets.load_sample_images().images]
    for patch, one in zip(data.x[:20].numpy(), data.y[:20].tolist(), strict=True):
        image, found = images[one // 3], []
        for row, column in product(range(26), range(40)):
            piece = image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            half = (piece[::2, ::2] + piece[1::2, ::2] + piece[::2, 1::2] + piece[1::2, 1::2]) / 4
            if np.allclose(half.transpose(2, 0, 1), patch):
                found.append(row)
        assert [row * 3 // 26 for row in found] == [one % 3]


@pytest.mark.parametrize("call", [families.kind, families.networks, lambda name: families.load(name, "raw", 1, 4)])
def test_an_unknown_family_is_refused(call: Callable[[str], object]) -> None:
    with pytest.raises(
        ValueError, match=r"expected a family among digits, .* got 'mnist'; mnist, .*NORMGAUGE_STUDY_DATA"
    ):
        call("mnist")


def test_an_unknown_treatment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of raw, .*got 'blurred'"):
        families.load("wine", "blurred", 1, 4)


def test_the_document_lists_families_and_sizes_as_they_are() -> None:
    text = (Path(__file__).parents[3] / "docs" / "study.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| .*? \| (\d+ \| \d+, \d+, \d+) \|", text, flags=re.MULTILINE))
    for family in families.names():
        data = families.load(family, "raw", 1, 1)
        sizes = f"{len(data.x)}, {len(data.validation[0][1])}, {len(data.test[0][1])}"
        assert listed.pop(family) == f"{data.classes} | {sizes}"
    assert set(listed) <= set(files.PLACES)
    assert all(f"`{parse(name)[0]}" in text for name in treatments())
