"""Which features drive heterogeneity, against NumPy and the decomposition of plans."""

import numpy as np
import pytest
from scipy.stats import entropy

from app.report.features import MAX_PIXELS, position_images, rank_features
from assessor import make_plan, profile_array
from tests.app.support import rows


def test_contributions_are_divergences_whose_mean_is_the_part_feature() -> None:
    x = rows(128, features=24).astype(np.float64)
    profile = profile_array(x, batch_sizes=[8])
    ranking = rank_features(profile)
    assert ranking is not None
    parts = make_plan(profile).decomposition
    assert parts is not None
    assert ranking.total == pytest.approx(parts["feature"], rel=1e-12)
    # Each against a numerical integral of p ln(p / q).
    mean, std = x.mean(), x.std()
    grid = np.linspace(-300, 300, 30_001)

    def density(at: float, width: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.asarray(np.exp(-(((grid - at) / width) ** 2) / 2) / width + 1e-300)

    for feature in ranking.top[:3]:
        column = x[:, int(feature.name)]
        expected = entropy(density(float(column.mean()), float(column.std())), density(float(mean), float(std)))
        assert feature.contribution == pytest.approx(expected, rel=1e-5)
        assert (feature.mean, feature.std) == pytest.approx((column.mean(), column.std()))
    assert sum(feature.share for feature in ranking.top) < 1
    assert [f.contribution for f in ranking.top] == sorted((f.contribution for f in ranking.top), reverse=True)


def test_names_reasons_and_counts() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5, 4))
    x[:, 1, 2] += 3
    x[:, 3, 0] *= 1e-4
    x[:, 4, 3] = 7
    ranking = rank_features(profile_array(x, batch_sizes=[4]))
    assert ranking is not None
    assert (ranking.n_varying, ranking.n_constant, ranking.half) == (19, 1, 1)
    assert [(f.name, f.why) for f in ranking.top[:2]] == [
        ("3, 0", "narrower than most"),
        ("1, 2", "mean above most"),
    ]
    assert len(ranking.top) == 10


def test_alike_features() -> None:
    ranking = rank_features(profile_array(np.random.default_rng(0).normal(size=(2000, 8)), batch_sizes=[4]))
    assert ranking is not None
    assert ranking.total < 0.01
    assert {feature.why for feature in ranking.top} == {"like the others"}


def test_channels() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3, 6)) * np.array([1, 1, 0.1])[:, None]
    profile = profile_array(x, batch_sizes=[4], feature_axis="channel")
    ranking = rank_features(profile)
    assert ranking is not None
    assert ranking.top[0].name == "channel 2"
    assert position_images(profile) is None


def test_nothing_to_rank() -> None:
    assert rank_features(profile_array(np.ones((20, 3)), batch_sizes=[4])) is None
    assert rank_features(profile_array(rows(7), batch_sizes=[4])) is None


@pytest.mark.parametrize(
    ("shape", "panels"),
    [((5, 7), 1), ((1, 5, 7), 1), ((3, 5, 7), 3), ((4, 5, 7), 4), ((5, 7, 3), 3), ((5, 7, 4), 4)],
)
def test_images_are_moments_by_position(shape: tuple[int, ...], panels: int) -> None:
    x = np.random.default_rng(0).normal(size=(30, *shape))
    planes = position_images(profile_array(x, batch_sizes=[4]))
    assert planes is not None
    assert [name for name, _, _ in planes] == ([""] if panels == 1 else [f"channel {c}" for c in range(panels)])
    channel_axis = 1 if shape[0] in (1, 3, 4) else 3
    for c, (_, mean, std) in enumerate(planes):
        plane = x if len(shape) == 2 else np.take(x, c, axis=channel_axis)
        np.testing.assert_allclose(mean, plane.mean(axis=0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(std, plane.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("shape", [(9,), (2, 5, 7), (2, 3, 4, 5), (1, 9), (9, 1)])
def test_other_samples_are_no_images(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(30, *shape))
    assert position_images(profile_array(x, batch_sizes=[4])) is None


def test_few_rows_are_no_image() -> None:
    assert position_images(profile_array(np.random.default_rng(0).normal(size=(7, 5, 5)), batch_sizes=[4])) is None


def test_large_images_are_averaged_in_blocks() -> None:
    x = np.random.default_rng(0).normal(size=(9, 3 * MAX_PIXELS, 100)).astype(np.float32)
    planes = position_images(profile_array(x, batch_sizes=[3]))
    assert planes is not None
    _, mean, std = planes[0]
    assert mean.shape == std.shape == (MAX_PIXELS, MAX_PIXELS)
    first = x[:, :3, :1].astype(np.float64)  # 100 columns in 96 blocks: the first has one
    assert mean[0, 0] == pytest.approx(first.mean())
    assert std[0, 0] == pytest.approx(np.sqrt(first.var(axis=0).mean()))
