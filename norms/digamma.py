"""The digamma function, also in operations that exported graphs have: ONNX knows no digamma."""

from typing import cast

import torch
from torch import Tensor

# psi(y) ~ ln y - 1/(2y) - sum_k B_2k / (2k y^2k), k = 1..7 (Abramowitz & Stegun 6.3.18)
_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_STEPS = 8  # at y = x + 8 > 8 the first term left out is below 2e-15


def digamma(x: Tensor) -> Tensor:
    """Return the digamma function of x > 0; same shape and dtype.

    Torch's own, but within torch.export (so in ONNX too), where it is `digamma_by_series`.

    >>> round(digamma(torch.tensor(0.5, dtype=torch.float64)).item(), 12)  # -gamma - 2 ln 2
    -1.963510026021
    """
    return digamma_by_series(x) if torch.compiler.is_exporting() else cast(Tensor, torch.special.digamma(x))


def digamma_by_series(x: Tensor) -> Tensor:
    """Return the digamma function of x > 0 in elementary operations, to a few units in the last place of float64.

    psi(x) = psi(x + 8) - sum over k < 8 of 1 / (x + k), and the asymptotic series for the first.

    >>> round(digamma_by_series(torch.tensor(0.5, dtype=torch.float64)).item(), 12)
    -1.963510026021
    """
    steps = torch.arange(_STEPS, dtype=x.dtype, device=x.device)
    y = x + _STEPS
    square = y.square().reciprocal()
    tail = torch.zeros_like(y)
    for coefficient in reversed(_SERIES):
        tail = square * (coefficient + tail)
    return y.log() - 0.5 / y - tail - (x[..., None] + steps).reciprocal().sum(-1)
