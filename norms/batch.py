"""Batch normalization of inputs of any rank, with torch's own parameters and buffers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from norms.base import RunningNorm
from norms.beside import ALONE, Beside
from norms.dispatch import left_to_torch
from norms.errors import InputError
from norms.pooled import pooled_norm
from norms.pools import Pool, over_batch
from norms.ranks import Ranks
from norms.statistics import compute_dtype, moments, snapshot, standardize, unbiased, values_per_channel

BATCH = (Pool(None, 1),)


class BatchNorm(RunningNorm):
    """torch.nn.BatchNorm1d/2d/3d in one module: moments per channel over (N, *).

    Shape: (N, C, *) of any rank >= 2, to the same. state_dict is torch.nn.BatchNorm's, strict both ways.
    Differences: running statistics never take up a value that is not finite, and `momentum=None` does
    not synchronize with the device.

    Raises:
        InputError: in training, one value per channel, whose variance is 0 by construction.

    Source: Ioffe & Szegedy, arXiv 1502.03167; with running statistics computed by torch.nn.functional.batch_norm.

    >>> BatchNorm(2)(torch.tensor([[1.0, 5.0], [3.0, 6.0]])).round(decimals=3).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized per channel; see ChannelNorm.normalize."""
        self._check(x)
        if not own and self.running_mean is not None and self.running_var is not None:
            dtype = compute_dtype(x.dtype)
            weight = None if self.weight is None else self.weight.to(dtype)
            bias = None if self.bias is None else self.bias.to(dtype)
            mean, variance = snapshot(self.running_mean, dtype), snapshot(self.running_var, dtype)
            return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, self.eps)
        ranks = self._sharing()
        if ranks is not None:
            return self._shared(x, x.to(compute_dtype(x.dtype)), ranks, update)
        if left_to_torch(x, self.kernel, batch=True):
            self._check_values(x)
            return self._by_torch(x, update)
        return self._pooled(x, ALONE, update)

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor | None:
        """See ChannelNorm.fused."""
        self._check(x)
        if (not own and self.running_mean is not None) or self._sharing() is not None:
            return None
        return self._pooled(x, beside, update)

    def _pooled(self, x: Tensor, beside: Beside, update: bool) -> Tensor:
        """Return x normalized by the batch's moments, by our own code."""
        self._check_values(x)
        y, *cells = pooled_norm(x, self.weight, self.bias, BATCH, eps=self.eps, kernel=self.kernel, beside=beside)
        if self._follows(x, update):
            mean, variance = over_batch(*cells)
            count = values_per_channel(x, (0, *range(2, x.ndim)))
            self._update(beside.gate, running_mean=mean, running_var=unbiased(variance, count))
        return y

    def _check_values(self, x: Tensor) -> None:
        if values_per_channel(x, (0, *range(2, x.ndim))) < 2:
            raise InputError(
                f"expected more than one value per channel; got shape {tuple(x.shape)}: "
                "use larger batches (drop_last=True), or a norm that takes one sample (batch_layer, group)"
            )

    def _by_torch(self, x: Tensor, update: bool) -> Tensor:
        """Return x normalized by the batch's moments, by torch's operator."""
        dtype = compute_dtype(x.dtype)
        weight = None if self.weight is None else self.weight.to(dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        follows = self._follows(x, update)
        wide = x if x.device.type == "cuda" else x.to(dtype)  # CUDA's reads halves as they are
        if not update or self.running_mean is None:
            return F.batch_norm(wide, None, None, weight, bias, True, 0.0, self.eps).to(x.dtype)
        # With momentum 1 the scratch buffers receive this batch's mean and unbiased variance.
        mean = torch.zeros(self.num_features, device=x.device, dtype=dtype)
        variance = torch.ones_like(mean)
        y = F.batch_norm(wide, mean, variance, weight, bias, True, 1.0, self.eps)
        if follows:
            self._update(running_mean=mean, running_var=variance)
        return y.to(x.dtype)

    def _shared(self, x: Tensor, wide: Tensor, ranks: Ranks, update: bool) -> Tensor:
        """Return x normalized by the moments of the batches of all ranks."""
        dims = (0, *range(2, x.ndim))
        mean, variance = moments(wide, dims, ranks)
        if self._follows(x, update):
            count = values_per_channel(x, dims)
            self._update(running_mean=mean, running_var=unbiased(variance.detach(), count, ranks))
        return self._scale_shift(standardize(wide, mean, variance, self.eps), x.dtype)
