"""Norm layers, gates that apply them batch by batch, and model conversion. Needs torch only.

A gate (`AdaptiveNorm`) normalizes a batch or leaves it alone, as it is told (`set_decision`) or as the rule
of a plan says (`set_rule`). `adapt_input` puts one in front of a model; `convert` swaps a model's norms.
"""

from norms.adapted_input import AdaptedInput, adapt_input
from norms.adaptive import AdaptiveNorm, gates
from norms.base import ChannelNorm, RunningNorm
from norms.batch import BatchNorm
from norms.batch_group import BatchGroupNorm, GhostBatchNorm
from norms.batch_layer import BatchLayerNorm, InferenceStatistics
from norms.bounded_weight import bounded_weight_norm, decayless_learning_rate, remove_bounded_weight_norm
from norms.calibration import calibrate
from norms.channels_last import ChannelsLast
from norms.control import deciding_gates, set_decision, set_rule
from norms.conversion import Conversion, convert
from norms.conversion_report import Row
from norms.decay import decay_gamma, parameter_groups
from norms.errors import (
    ConversionError,
    GateError,
    InputError,
    NormError,
    OptionError,
    RuleError,
    UnknownNormError,
)
from norms.gamma_penalty import GammaDecay, gamma_decay
from norms.inference_fit import fit_inference_weight, search_inference_statistics
from norms.kalman import KalmanNorm
from norms.kalman_trace import CarriedPriors, carry_priors
from norms.mean_only import MeanOnlyBatchNorm
from norms.per_sample import GroupNorm, InstanceNorm, LayerNorm, NoNorm, RMSNorm
from norms.population import PopulationNorm
from norms.registry import create, names
from norms.rules import DEFAULT_RULE, Rule, rule_from_dict
from norms.scale import L1BatchNorm, LInfBatchNorm, TopKBatchNorm
from norms.self_normalizing import SelfNormalization, self_normalize
from norms.synchronized import synchronize
from norms.validation import Choice

__all__ = [
    "DEFAULT_RULE",
    "AdaptedInput",
    "AdaptiveNorm",
    "BatchGroupNorm",
    "BatchLayerNorm",
    "BatchNorm",
    "CarriedPriors",
    "ChannelNorm",
    "ChannelsLast",
    "Choice",
    "Conversion",
    "ConversionError",
    "GammaDecay",
    "GateError",
    "GhostBatchNorm",
    "GroupNorm",
    "InferenceStatistics",
    "InputError",
    "InstanceNorm",
    "KalmanNorm",
    "L1BatchNorm",
    "LInfBatchNorm",
    "LayerNorm",
    "MeanOnlyBatchNorm",
    "NoNorm",
    "NormError",
    "OptionError",
    "PopulationNorm",
    "RMSNorm",
    "Row",
    "Rule",
    "RuleError",
    "RunningNorm",
    "SelfNormalization",
    "TopKBatchNorm",
    "UnknownNormError",
    "adapt_input",
    "bounded_weight_norm",
    "calibrate",
    "carry_priors",
    "convert",
    "create",
    "decay_gamma",
    "decayless_learning_rate",
    "deciding_gates",
    "fit_inference_weight",
    "gamma_decay",
    "gates",
    "names",
    "parameter_groups",
    "remove_bounded_weight_norm",
    "rule_from_dict",
    "search_inference_statistics",
    "self_normalize",
    "set_decision",
    "set_rule",
    "synchronize",
]
