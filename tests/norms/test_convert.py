import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from norms import (
    AdaptiveNorm,
    BatchLayerNorm,
    BatchNorm,
    ChannelsLast,
    ConversionError,
    GateError,
    OptionError,
    UnknownNormError,
    adapt_input,
    convert,
    create,
    names,
    set_decision,
)


def network() -> Any:
    model: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3, momentum=0.3), nn.ReLU(), nn.GroupNorm(2, 8)
    )
    for _ in range(2):
        model(torch.randn(4, 3, 6, 6))
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 2)
        model[1].bias.uniform_(-1, 1)
    return model


X = torch.randn(4, 3, 6, 6)


def converted(model: nn.Module, name: str, **options: Any) -> Any:
    return convert(model, name, **options).model


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("adaptive", [True, False])
def test_round_trip_restores_the_model(name: str, adaptive: bool) -> None:
    model: nn.Module = network().eval()
    want = model(X)
    conversion = convert(model, name, adaptive=adaptive, inplace=True)
    assert conversion.model is model
    model(X)
    assert conversion.revert() is model
    assert [type(m) for m in model.children()] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.GroupNorm]
    assert torch.equal(model(X), want)
    assert conversion.revert() is model


def test_a_copy_is_converted_unless_inplace() -> None:
    model = network()
    conversion = convert(model, "layer")
    assert isinstance(model[1], nn.BatchNorm2d)
    assert conversion.model is not model
    assert conversion.changed == 2


def test_new_norms_compute_with_the_old_weights() -> None:
    model = network()
    old = model[1]
    new = converted(model, "batch_layer")[1]
    assert isinstance(new, BatchLayerNorm)
    assert (new.eps, new.momentum) == (1e-3, 0.3)
    x = torch.randn(4, 8, 3, 3)
    want = create("batch_layer", 8, eps=1e-3, affine=False)(x)
    want = want * old.weight.view(1, 8, 1, 1) + old.bias.view(1, 8, 1, 1)
    torch.testing.assert_close(new(x), want)
    moved = model[1].running_mean * 0.7 + 0.3 * x.mean((0, 2, 3))
    torch.testing.assert_close(new.running_mean, moved)


def test_parameters_are_the_same_objects() -> None:
    model = network()
    weight = model[1].weight
    weight.requires_grad_(False)
    convert(model, "group", inplace=True)
    assert model[1].weight is weight


def test_training_after_conversion_is_kept_by_revert() -> None:
    model = network()
    conversion = convert(model, "batch_layer", inplace=True)
    model(X)
    running, weight = model[1].running_mean.clone(), model[1].weight
    with torch.no_grad():
        weight.add_(1)
    conversion.revert()
    assert torch.equal(model[1].running_mean, running)
    assert model[1].weight is weight


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("adaptive", [True, False])
def test_twice_is_once(name: str, adaptive: bool) -> None:
    options: Any = {"num_groups": 2} if name == "group" else {}
    once = convert(network(), name, adaptive=adaptive, **options)
    twice = convert(once.model, name, adaptive=adaptive, inplace=True, **options)
    assert twice.changed == 0
    assert {row.reason for row in twice.report} == {f"is {name} already"}
    assert repr(twice.model) == repr(once.model)


def test_report_is_a_table() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.LayerNorm((2, 3)), nn.Linear(2, 2))
    lines = str(convert(model, "batch_layer")).splitlines()
    assert lines[0].split() == ["path", "from", "to", "changed", "reason"]
    assert "BatchNorm1d  BatchLayerNorm  yes      new: running_feature_mean, running_feature_var" in (lines[1])
    assert "LayerNorm       no       over 2 axes (2, 3), with one weight an element" in lines[2]


def test_layer_norm_is_over_the_last_axis() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    new = converted(model, "batch")
    assert isinstance(new[1], ChannelsLast)
    x = torch.randn(2, 5, 3)
    z = model[0](x).reshape(-1, 4)
    want = nn.BatchNorm1d(4)(z).reshape(2, 5, 4)
    torch.testing.assert_close(new(x), want)
    torch.testing.assert_close(new(x[:, 0]), nn.BatchNorm1d(4)(model[0](x[:, 0])))


def test_layer_norm_in_a_gate_stays_skippable() -> None:
    model = nn.Sequential(nn.LayerNorm(4))
    for name in ("layer", "batch"):
        gated = convert(model, name, adaptive=True).model
        set_decision(gated, False)
        x = torch.randn(2, 5, 4)
        assert torch.equal(gated(x), x)
        set_decision(gated, True)
        want = model(x) if name == "layer" else convert(model, name).model(x)
        assert torch.equal(gated(x), want)


def test_adaptive_wraps_what_is_of_that_kind() -> None:
    model = network()
    norm = model[1]
    conversion = convert(model, "batch", adaptive=True, inplace=True, skip="batch_layer", min_examples=3)
    gate = model[1]
    assert isinstance(gate, AdaptiveNorm)
    assert gate.norm is norm
    assert gate.min_examples == 3
    assert isinstance(model[3].norm, BatchNorm)
    assert [row.after for row in conversion.report] == [
        "AdaptiveNorm(BatchNorm2d)",
        "AdaptiveNorm(BatchNorm)",
    ]
    inner = convert(model, "layer")
    assert isinstance(inner.model.get_submodule("1"), AdaptiveNorm)
    assert [row.path for row in inner.report] == ["1.norm", "3.norm"]


def test_a_gate_that_skips_to_the_population_keeps_its_statistics() -> None:
    gate = AdaptiveNorm("batch", "population", num_features=3)
    conversion = convert(nn.Sequential(gate), "layer")
    assert conversion.changed == 0
    assert conversion.report[0].reason == "the gate's skip path needs running statistics, which layer has not"
    assert convert(nn.Sequential(gate), "batch_layer").changed == 1


def test_where_leaves_out() -> None:
    conversion = convert(network(), "layer", where=lambda path, module: path == "3")
    assert [(row.changed, row.reason) for row in conversion.report] == [
        (False, "left out by where"),
        (True, "weights and buffers kept"),
    ]


def test_shared_norms_stay_shared() -> None:
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(norm, nn.ReLU(), norm)
    conversion = convert(model, "layer")
    assert conversion.model.get_submodule("0") is conversion.model.get_submodule("2")
    assert conversion.changed == 2


def test_the_front_gate_is_left_alone() -> None:
    model = adapt_input(nn.Sequential(nn.BatchNorm1d(3)), 3)
    conversion = convert(model, "layer")
    assert [row.path for row in conversion.report] == ["model.0"]


def test_a_bare_norm_is_converted() -> None:
    conversion = convert(nn.BatchNorm1d(3), "group")
    assert repr(conversion.model).startswith("GroupNorm(3")
    assert str(conversion).splitlines()[1].startswith("(root)")
    assert isinstance(conversion.revert(), nn.BatchNorm1d)


def test_mode_device_and_dtype_are_kept() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.InstanceNorm1d(3)).double().eval()
    new = converted(model, "batch")
    assert not any(m.training for m in new.modules())
    assert new[1].running_mean.dtype == torch.float64
    meta = nn.Sequential(nn.Linear(3, 3), nn.InstanceNorm1d(3)).to("meta")
    assert converted(meta, "batch")[1].running_mean.is_meta


def test_what_cannot_be_replaced_is_reported() -> None:
    class Special(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    model = nn.Sequential(Special(3), nn.LazyBatchNorm1d())
    assert [row.reason for row in convert(model, "layer", inplace=True).report] == [
        "a subclass of BatchNorm1d, which may do more than normalize",
        "not initialized: call the model once, then convert",
    ]


def test_instance_statistics_are_not_batch_statistics() -> None:
    norm: Any = nn.InstanceNorm1d(3, track_running_stats=True)
    norm(torch.randn(4, 3, 5) + 9)
    conversion = convert(norm, "batch")
    assert torch.equal(conversion.model.get_buffer("running_mean"), torch.zeros(3))
    assert "dropped: num_batches_tracked, running_mean, running_var" in conversion.report[0].reason


def test_checkpoints_pass_both_ways_where_the_buffers_mean_the_same() -> None:
    model = network()
    ours = converted(model, "batch", eps=1e-4)
    assert isinstance(ours[1], BatchNorm)
    model[1].load_state_dict(ours[1].state_dict(), strict=True)
    converted(model, "batch_layer")[1].load_state_dict(model[1].state_dict())
    converted(model, "batch", adaptive=True)[1].load_state_dict(model[1].state_dict())


def test_bad_use_is_refused_before_anything_changes() -> None:
    model = network()
    before = copy.deepcopy(model)
    with pytest.raises(UnknownNormError, match="expected a norm among"):
        convert(model, "bacth", inplace=True)
    with pytest.raises(OptionError, match="options of 'layer' among"):
        convert(model, "layer", inplace=True, momentum=0.1)
    with pytest.raises(OptionError, match="got skip"):
        convert(model, "batch", inplace=True, skip="identity")
    assert repr(model) == repr(before)
    conversion = convert(model, "layer", inplace=True)
    model[1] = nn.Identity()
    with pytest.raises(ConversionError, match="converted LayerNorm at 1; got another module there"):
        conversion.revert()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("group", {"num_groups": 3}, "at 1: expected num_groups to divide num_features = 8; got 3"),
        ("layer", {"dtype": torch.float64}, "at 0: expected the dtype of the weights that are kept, torch.float32"),
        ("batch", {"device": "meta"}, "at 0: expected the device of the weights that are kept, cpu; got meta"),
    ],
)
def test_an_option_that_does_not_fit_leaves_the_model_as_it_was(
    name: str, options: dict[str, Any], message: str
) -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(8))
    with pytest.raises(OptionError, match=message):
        convert(model, name, inplace=True, own=True, **options)
    assert [type(norm) for norm in model] == [nn.BatchNorm1d] * 2
    with pytest.raises(GateError, match="at 0: expected a norm with running statistics for skip='population'"):
        convert(model, "layer", inplace=True, adaptive=True, skip="population")
    assert [type(norm) for norm in model] == [nn.BatchNorm1d] * 2


def test_a_gate_that_is_there_keeps_its_options_and_the_report_says_so() -> None:
    model = convert(network(), "batch", adaptive=True).model
    again = convert(model, "batch", adaptive=True, evaluation="never", skip="population")
    assert {row.reason for row in again.report} == {"is batch already; its gate keeps its own skip, evaluation"}
    other = convert(model, "layer", adaptive=True, evaluation="never")
    assert all(row.reason.endswith("; its gate keeps its own evaluation") for row in other.report)


def test_axes_as_a_list_are_the_same_axes() -> None:
    once = convert(network(), "batch_layer", feature_dims=[1]).model
    assert convert(once, "batch_layer", feature_dims=[1]).changed == 0


def test_a_model_that_is_not_initialized_cannot_be_copied() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d())
    with pytest.raises(ConversionError, match="got LazyBatchNorm1d at 1, which is not initialized: call the model"):
        convert(model, "layer")
