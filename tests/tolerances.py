"""How far a result may be from the float64 reference, by the dtype in which the data is stored.

Every stored value is widened to float64 exactly and all sums are made there, so that the reference on the widened
values is met to float64 rounding in every dtype (`SUMS`). Against values before they were stored, the rounding of one
value counts (`STORED`): half a unit in the last place, relative to the value.
"""

SUMS = 1e-12
"""Relative to the sum of absolute terms: trees of at most 2^20 additions of 1.1e-16 each, and the reference's own."""

NATS = 1e-9
"""Absolute, for scores in nats: differences of logs of order 10 and second moments of order 1e3."""

STORED = {
    "float64": 2.0**-53,  # 53 bits
    "float32": 2.0**-24,  # 24 bits
    "bfloat16": 2.0**-8,  # 8 bits; 2^-7 where it is made by cutting off bits, as here
    "float16": 2.0**-11,  # 11 bits, above 6e-5
}

Z = 4.5
"""Standard errors by which a seeded simulation may miss its expectation: 7e-6 two-sided."""
