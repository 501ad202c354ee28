"""Random augmentation: scored after the deterministic part."""

from typing import Any

import numpy as np
import pytest
import torch

from assessor import NonFiniteError, assess
from clients import AssessedLoader, RandomSampleWarning

from .datasets import Pairs, two_sources

X, Y = two_sources()
PLAIN = Pairs(X, Y)


class Mirrored(Pairs):
    """Each sample reversed, half of the time: the reads of one sample are often the same."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row = self.x[index]
        return (row.flip(0) if torch.rand(()) < 0.5 else row), int(self.y[index])


AUGMENTED = Mirrored(X, Y)


def test_an_augmentation_that_spares_many_samples_is_noticed() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.warns(RandomSampleWarning, match=r"two reads of sample \d+ differ.*give score_dataset"):
            assert AssessedLoader(AUGMENTED, 8).plan


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_view_is_assessed_and_the_dataset_is_fed(num_workers: int) -> None:
    loader = AssessedLoader(AUGMENTED, 8, score_dataset=PLAIN, shuffle="batches", num_workers=num_workers)
    assert loader.plan.to_json() == assess(X, batch_size=8, labels=Y).to_json()
    mirrored = 0
    for (x, _), decision in loader.decisions():
        want = X[decision.index * 8 : decision.index * 8 + 8]
        same = (x.numpy() == want).all(axis=1)
        np.testing.assert_array_equal(np.where(same[:, None], x.numpy(), x.numpy()[:, ::-1]), want)
        mirrored += int((~same).sum())
    assert 20 < mirrored < 70


@pytest.mark.parametrize("num_workers", [0, 2])
def test_new_batches_are_scored_from_the_view(num_workers: int) -> None:
    options: dict[str, Any] = {"reshuffle": "samples", "num_workers": num_workers}
    loader = AssessedLoader(AUGMENTED, 8, score_dataset=PLAIN, **options)
    plain = AssessedLoader(PLAIN, 8, plan=loader.plan, **options)
    assert [d for _, d in loader.decisions()] == [d for _, d in plain.decisions()]


def test_without_the_view_new_batches_are_scored_as_they_are_fed() -> None:
    x = X.copy()
    x[13] = np.nan
    plan = AssessedLoader(PLAIN, 8).plan
    with pytest.raises(NonFiniteError, match="sample 13 of the dataset"):
        list(AssessedLoader(Pairs(x, Y), 8, plan=plan, reshuffle="samples"))
    assert len(list(AssessedLoader(Pairs(x, Y), 8, plan=plan, reshuffle="samples", score_dataset=PLAIN))) == 12
