"""Batch norms whose arithmetic is half precision, as on hardware without wider registers.

The layers of `norms` take statistics in float32 whatever comes in, so they cannot show what half precision does. Here
every intermediate result is rounded to float16 or bfloat16; sums are taken exactly and then rounded, which is kinder
than hardware that also rounds within the sum. Gradients pass the rounding as they are, in float32, as they would with
loss scaling: what is tested is the forward pass.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from norms import LInfBatchNorm, TopKBatchNorm
from norms.scale import L1_FACTOR
from norms.statistics import per_channel

Kind = Literal["batch", "l1_batch", "topk_batch", "linf_batch"]
KINDS: tuple[Kind, ...] = ("batch", "l1_batch", "topk_batch", "linf_batch")


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x rounded to `dtype`, in x's own dtype; infinite where `dtype` overflows; the gradient is 1.

    >>> rounded(torch.tensor([1e5, 1e-9, 0.1]), torch.float16).tolist()
    [inf, 0.0, 0.0999755859375]
    """
    y: Tensor = _Rounded.apply(x, dtype)  # type: ignore[no-untyped-call]  # torch has no types here
    return y


class HalfBatchNorm(nn.Module):
    """y = gamma (x - mu) / scale + beta, every step rounded; running statistics (momentum 0.1) are rounded too.

    Args:
        num_features: C.
        kind: "batch" divides by sqrt(var + eps), the others by their scale + eps.
        dtype: float16 or bfloat16; float32 rounds nothing.

    Shape: (N, C, *), to the same.
    """

    running_mean: Tensor
    running_scale: Tensor

    def __init__(self, num_features: int, kind: Kind, dtype: torch.dtype, eps: float = 1e-5) -> None:
        super().__init__()
        self.kind, self.dtype, self.eps = kind, dtype, eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_scale", torch.ones(num_features))
        self.published = TopKBatchNorm(num_features) if kind == "topk_batch" else LInfBatchNorm(num_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized in half precision."""
        x = self._round(x)
        if self.training:
            values = x.transpose(0, 1).flatten(1)
            mean = self._round(values.mean(1))
            scale = self._scale(self._round(values - mean[:, None]))
            with torch.no_grad():
                for running, new in ((self.running_mean, mean), (self.running_scale, scale)):
                    running.copy_(self._round(0.9 * running + 0.1 * new))
        else:
            mean, scale = self.running_mean, self.running_scale
        centred = self._round(x - per_channel(mean, x.ndim))
        standard = self._round(centred / per_channel(scale, x.ndim))
        return self._round(standard * per_channel(self.weight, x.ndim) + per_channel(self.bias, x.ndim))

    def _scale(self, centred: Tensor) -> Tensor:
        """Return what each channel of `centred`, (C, values), is divided by."""
        if self.kind == "batch":
            variance = self._round(self._round(centred.square()).mean(1))
            return self._round(self._round(variance + self.eps).sqrt())
        distance = centred.abs()
        estimate = L1_FACTOR * distance.mean(1) if self.kind == "l1_batch" else self.published.scale(distance)
        return self._round(self._round(estimate) + self.eps)

    def _round(self, x: Tensor) -> Tensor:
        return x if self.dtype == torch.float32 else rounded(x, self.dtype)


class Times(nn.Module):
    """x times a constant: brings a network's first activations to the ends of a dtype's range."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return factor x."""
        return x * self.factor


@torch.no_grad()
def usable_range(kind: Kind, dtype: torch.dtype) -> tuple[int, int]:
    """Return the least and the greatest k so that normal data of standard deviation 2^k is normalized as at k = 0.

    As at k = 0: the standard deviation of the output is the same to 10 %. 2,048 values, in one channel.
    """
    x = torch.randn(2048, 1, generator=torch.Generator().manual_seed(0))
    usual = float(HalfBatchNorm(1, kind, dtype)(x).std())

    def works(k: int) -> bool:
        found = float(HalfBatchNorm(1, kind, dtype)(x * 2.0**k).std())
        return abs(found / usual - 1) < 0.1

    low = high = 0
    while low > -40 and works(low - 1):
        low -= 1
    while high < 40 and works(high + 1):
        high += 1
    return low, high
