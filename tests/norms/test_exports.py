"""The public names of the folder; a change here is a change of the interface."""

import inspect

import pytest

import norms
from norms.registry import NORMS

EXPORTED = """
AdaptedInput AdaptiveNorm BatchGroupNorm BatchLayerNorm BatchNorm CarriedPriors ChannelNorm ChannelsLast
Choice Conversion ConversionError DEFAULT_RULE GammaDecay GateError GhostBatchNorm GroupNorm
InferenceStatistics InputError InstanceNorm KalmanNorm L1BatchNorm LInfBatchNorm LayerNorm MeanOnlyBatchNorm
NoNorm NormError OptionError PopulationNorm RMSNorm Row Rule RuleError RunningNorm SelfNormalization
TopKBatchNorm UnknownNormError adapt_input bounded_weight_norm calibrate carry_priors convert create
decay_gamma decayless_learning_rate deciding_gates fit_inference_weight gamma_decay gates names
parameter_groups remove_bounded_weight_norm rule_from_dict search_inference_statistics self_normalize
set_decision set_rule synchronize
"""
PARAMETERS = {
    "adapt_input": "model",
    "AdaptiveNorm": "norm skip",
    "bounded_weight_norm": "module",
    "calibrate": "model loader",
    "convert": "model name where",
    "create": "name num_features",
    "fit_inference_weight": "model loader",
    "gamma_decay": "model",
    "parameter_groups": "model",
    "search_inference_statistics": "model loader",
    "self_normalize": "model",
    "set_decision": "model normalize",
}
REGISTERED = [
    "batch",
    "layer",
    "group",
    "instance",
    "rms",
    "batch_layer",
    "ghost_batch",
    "batch_group",
    "l1_batch",
    "topk_batch",
    "linf_batch",
    "mean_only",
    "population",
    "kalman",
    "none",
]


def test_exported_names_are_frozen() -> None:
    assert sorted(norms.__all__) == sorted(EXPORTED.split())


def test_every_exported_name_exists() -> None:
    assert [name for name in norms.__all__ if not hasattr(norms, name)] == []


def test_registered_names_are_frozen() -> None:
    assert list(NORMS) == REGISTERED


@pytest.mark.parametrize("name", PARAMETERS)
def test_first_parameters_are_frozen(name: str) -> None:
    first = PARAMETERS[name].split()
    assert list(inspect.signature(getattr(norms, name)).parameters)[: len(first)] == first
