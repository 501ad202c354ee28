from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from norms import BatchLayerNorm, InferenceStatistics, OptionError, search_inference_statistics


def test_search_takes_the_lowest_of_all_sixteen() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 6), BatchLayerNorm(6), nn.ReLU(), BatchLayerNorm(6), nn.Linear(6, 3))
    for _ in range(20):
        model(torch.randn(8, 4))
    batches = [(torch.randn(8, 4) * 3 + 1, torch.randint(3, (8,))) for _ in range(4)]
    search = search_inference_statistics(model, batches)
    assert model.training
    losses = []
    model.eval()
    for inference in InferenceStatistics.choices():
        for layer in (model[1], model[3]):
            layer.inference = inference
        losses.append(np.mean([nn.functional.cross_entropy(model(x), y).item() for x, y in batches]))
    assert [loss for _, loss in search.losses] == pytest.approx(losses, rel=1e-5)
    assert search.best == InferenceStatistics.choices()[int(np.argmin(losses))]
    search_inference_statistics(model, batches, candidates=[InferenceStatistics()])
    assert model[1].inference == InferenceStatistics()


def test_a_loss_that_is_no_number_is_never_chosen() -> None:
    model = nn.Sequential(BatchLayerNorm(3))
    broken = InferenceStatistics(feature_mean="population")
    model[0].get_buffer("running_feature_mean").fill_(torch.nan)
    batches = [(torch.randn(8, 3), torch.zeros(8, dtype=torch.long))]
    search = search_inference_statistics(model, batches, candidates=[broken, InferenceStatistics()])
    assert search.best == InferenceStatistics()


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(OptionError, match="model with BatchLayerNorm layers; got Linear without any"):
        search_inference_statistics(nn.Linear(2, 2), [])
