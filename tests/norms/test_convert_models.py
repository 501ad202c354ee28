"""Conversion of whole models: timm's residual net and ConvNeXt in outline, an LSTM, a transformer."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from norms import AdaptiveNorm, ChannelsLast, convert, names, set_decision
from norms.with_activation import NormAct
from tests.norms.timm_classes import BatchNormAct2d, LayerNormAct2d, convnext, resnet


class Recurrent(nn.Module):
    """An LSTM with a norm over its features behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.norm, self.head = nn.LSTM(4, 6, batch_first=True), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.lstm(x)[0].transpose(1, 2)).mean(2))
        return y


def transformer() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2, nn.LayerNorm(8))


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "resnet": (resnet, (4, 3, 8, 8)),
    "convnext": (convnext, (4, 3, 8, 8)),
    "lstm": (Recurrent, (4, 5, 4)),
    "transformer": (transformer, (4, 5, 8)),
}
SAME = {"resnet": "batch", "convnext": "layer", "lstm": "batch", "transformer": "layer"}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", names())
def test_convert_run_revert(kind: str, name: str) -> None:
    build, shape = MODELS[kind]
    model, x = build(), torch.randn(shape)
    want, before = copy.deepcopy(model)(x), repr(model)
    conversion = convert(model, name, inplace=True)
    if (kind, name) in (("convnext", "instance"),):
        conversion.revert()  # its head has one value a channel
    else:
        out = model(x)
        torch.autograd.backward(out.square().sum())
        assert out.shape == want.shape
        assert out.isfinite().all()
        conversion.revert()
    assert repr(model) == before
    torch.testing.assert_close(model(x), want)


@pytest.mark.parametrize("kind", MODELS)
def test_gates_that_normalize_change_nothing(kind: str) -> None:
    build, shape = MODELS[kind]
    model, x = build(), torch.randn(shape)
    gated = convert(model, SAME[kind], adaptive=True, where=lambda _, m: not isinstance(m, nn.GroupNorm)).model
    set_decision(gated, True)
    torch.testing.assert_close(gated(x), model(x))


def test_dropout_and_activation_stay_behind_the_new_norm() -> None:
    model: Any = nn.Sequential(BatchNormAct2d(4, momentum=0.3))
    with torch.no_grad():
        model[0].weight.uniform_(0.5, 2)
    x = torch.randn(3, 4, 2, 2) * 2 + 1
    new: Any = convert(model, "batch", own=True).model
    assert isinstance(new[0], NormAct)
    torch.testing.assert_close(new(x), model(x))
    torch.testing.assert_close(new[0].norm.running_mean, model[0].running_mean)
    gated: Any = convert(model, "batch", adaptive=True).model
    assert isinstance(gated[0].norm, AdaptiveNorm)
    set_decision(gated, False)
    assert torch.equal(gated(x), x.relu())


def test_a_layer_norm_over_channels_at_axis_1_needs_no_transposition() -> None:
    new: Any = convert(convnext(), "batch").model
    assert [type(new[i]) for i in (1, 3)] == [type(new[1])] * 2
    assert not isinstance(new[1], ChannelsLast)
    assert isinstance(new[2].norm, ChannelsLast)


def test_a_layer_norm_per_position_is_not_replaced_by_layer() -> None:
    conversion = convert(nn.Sequential(LayerNormAct2d(4)), "layer", adaptive=True)
    assert conversion.changed == 0
    assert conversion.report[0].reason == "over the channels at each position; layer here is over the positions too"
