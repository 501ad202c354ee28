"""Every error of the norm layers, as one tree.

NormError
├─ InputError           a tensor that a layer cannot normalize: rank, channels, values per channel
├─ OptionError          an option of a layer or a function: unknown, or out of range
│  └─ UnknownNormError  a name that the registry does not know
├─ RuleError            a rule that is not one, or does not fit the data
├─ GateError            a decision that is not one, or a model without gates
└─ ConversionError      a conversion that cannot be made or undone
"""


class NormError(ValueError):
    """Base of all errors that the norm layers raise for bad input."""


class InputError(NormError):
    """A tensor that a layer cannot normalize."""


class OptionError(NormError):
    """An option that is unknown or out of range."""


class UnknownNormError(OptionError):
    """A norm that is not registered."""


class RuleError(NormError):
    """A rule that cannot be read, or one that does not fit the data."""


class GateError(NormError):
    """A decision that is not one, or a model without gates."""


class ConversionError(NormError):
    """A conversion that cannot be made or undone."""
