"""Norms whose samples share nothing: layer, group, instance, RMS, and none."""

import torch
from torch import Tensor

from norms.base import ChannelNorm
from norms.beside import ALONE, Beside
from norms.dispatch import left_to_torch
from norms.errors import InputError, OptionError
from norms.pooled import pooled_norm
from norms.pools import Pool
from norms.statistics import compute_dtype

SAMPLE = (Pool(1, None),)


class GroupNorm(ChannelNorm):
    """Moments per sample over each of `num_groups` groups of channels and all positions.

    Shape: (N, C, *) of any rank >= 2, to the same. gamma and beta have shape (C,).

    Raises:
        OptionError: num_groups does not divide num_features.
        InputError: one value per group.

    Source: Wu & He, arXiv 1803.08494.

    >>> GroupNorm(4, num_groups=2)(torch.tensor([[1.0, 3.0, 10.0, 30.0]])).round(decimals=3).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        num_groups: int | None = None,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps=eps, affine=affine, device=device, dtype=dtype)
        groups = usual_groups(num_features) if num_groups is None else num_groups
        if groups < 1 or num_features % groups:
            raise OptionError(
                f"expected num_groups to divide num_features = {num_features}; got {groups}: "
                f"{usual_groups(num_features)} would do"
            )
        self.num_groups = groups

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized per sample and group; both flags are without effect."""
        self._check_values(x)
        if left_to_torch(x, self.kernel, batch=False):
            dtype = compute_dtype(x.dtype)
            weight = None if self.weight is None else self.weight.to(dtype)
            bias = None if self.bias is None else self.bias.to(dtype)
            return torch.group_norm(x.to(dtype), self.num_groups, weight, bias, self.eps).to(x.dtype)
        return self.fused(x, ALONE, own=own, update=update)

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor:
        """See ChannelNorm.fused."""
        self._check_values(x)
        pools = (Pool(1, self.num_features // self.num_groups),)
        return pooled_norm(x, self.weight, self.bias, pools, eps=self.eps, kernel=self.kernel, beside=beside).y

    def _check_values(self, x: Tensor) -> None:
        self._check(x)
        if x.shape[1:].numel() == self.num_groups:
            raise InputError(
                f"expected more than one value per group; got shape {tuple(x.shape)} in "
                f"{self.num_groups} groups: use fewer groups, or the norm 'layer'"
            )

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return f"{super().extra_repr()}, num_groups={self.num_groups}"


def usual_groups(num_features: int) -> int:
    """Return the largest divisor of num_features that is at most 32 and leaves two channels a group.

    >>> usual_groups(64), usual_groups(48), usual_groups(7)
    (32, 24, 1)
    """
    return max((g for g in range(1, 33) if num_features % g == 0 and 2 * g <= num_features), default=1)


class LayerNorm(GroupNorm):
    """Moments per sample over (C, *): one mean and one variance a sample.

    gamma and beta have shape (C,), one pair a channel, unlike torch.nn.LayerNorm over several axes, whose
    affine has one pair an element. On (N, C) the two are the same.

    Source: Ba, Kiros & Hinton, arXiv 1607.06450.

    >>> LayerNorm(2)(torch.tensor([[1.0, 3.0]])).round(decimals=3).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, num_groups=1, eps=eps, affine=affine, device=device, dtype=dtype)


class InstanceNorm(GroupNorm):
    """Moments per sample and channel over all positions; so not for (N, C), which has one position.

    Source: Ulyanov, Vedaldi & Lempitsky, arXiv 1607.08022.

    >>> InstanceNorm(1)(torch.tensor([[[1.0, 3.0]]])).round(decimals=3).tolist()
    [[[-1.0, 1.0]]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, num_groups=num_features, eps=eps, affine=affine, device=device, dtype=dtype)


class RMSNorm(ChannelNorm):
    """x over the root of its mean square per sample over (C, *), times gamma of shape (C,); no beta.

    Source: Zhang & Sennrich, arXiv 1910.07467.

    >>> RMSNorm(2)(torch.tensor([[3.0, 3.0]])).round(decimals=3).tolist()
    [[1.0, 1.0]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps=eps, affine=affine, device=device, dtype=dtype)
        self.bias = None

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x over its root mean square per sample; both flags are without effect."""
        return self.fused(x, ALONE, own=own, update=update)

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor:
        """See ChannelNorm.fused."""
        self._check(x)
        return pooled_norm(
            x, self.weight, None, SAMPLE, eps=self.eps, centred=False, kernel=self.kernel, beside=beside
        ).y


class NoNorm(ChannelNorm):
    """No normalization: returns its input, the same tensor. It has no parameters.

    It takes the common options, so that any name stands where another stood; they have no effect, and a
    conversion to another norm finds them again.

    >>> x = torch.ones(1, 2)
    >>> NoNorm(2, eps=1e-3)(x) is x
    True
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps=eps, affine=False)
        self.affine = affine

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x; both flags are without effect."""
        self._check(x)
        return x

    def extra_repr(self) -> str:
        """Return the options, as in torch."""
        return str(self.num_features)
