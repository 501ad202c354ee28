"""The public names of the folder; a change here is a change of the interface."""

import norms
from norms.registry import NORMS

EXPORTED = """
DEFAULT_RULE AdaptedInput AdaptiveNorm BatchGroupNorm BatchLayerNorm BatchNorm ChannelNorm ChannelsLast Choice
Conversion ConversionError GateError GhostBatchNorm GroupNorm InferenceStatistics InputError InstanceNorm LayerNorm
NoNorm NormError OptionError RMSNorm Row Rule RuleError RunningNorm UnknownNormError adapt_input convert create
deciding_gates fit_inference_weight gates names rule_from_dict search_inference_statistics set_decision set_rule
"""
REGISTERED = "batch layer group instance rms batch_layer ghost_batch batch_group none"


def test_exported_names_are_frozen() -> None:
    assert sorted(norms.__all__) == sorted(EXPORTED.split())


def test_every_exported_name_exists() -> None:
    assert [name for name in norms.__all__ if not hasattr(norms, name)] == []


def test_registered_names_are_frozen() -> None:
    assert tuple(NORMS) == tuple(REGISTERED.split())
