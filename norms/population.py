"""Population normalization: batch norm with population statistics in training too."""

import torch
from torch import Tensor
from torch.nn import functional as F

from norms.base import RunningNorm
from norms.beside import Beside
from norms.errors import OptionError
from norms.pooled import cell_moments, pooled_norm
from norms.pools import over_batch
from norms.statistics import compute_dtype, moments, snapshot, unbiased, values_per_channel


class PopulationNorm(RunningNorm):
    """y = gamma (x - mu_P) / sqrt(var_P + eps) + beta, in training and inference; no gradient through mu_P, var_P.

    The population's statistics are the running ones. In training a batch is normalized with them as the batches
    before left them, and then updates them; momentum=0 keeps them as `calibrate(model, batches)` set
    them, which activation checkpointing needs, since its second forward comes after the update. A sample's output
    depends on no other sample of its batch, and a batch of one is fine. At the start the statistics are 0 and 1:
    calibrate first, or the first batches pass through as they are. Batch norm is this norm plus a regularizer:
    `gamma_decay`.

    Shape: (N, C, *) of any rank >= 2, to the same.

    Buffers: as torch.nn.BatchNorm; strict state_dict both ways.

    Raises:
        OptionError: track_running_stats=False, which leaves no statistics.

    Source: Luo, Wang, Shao & Peng, arXiv 1809.00846.

    >>> norm = PopulationNorm(1, momentum=1.0)
    >>> _ = norm(torch.tensor([[1.0], [3.0]]))
    >>> norm.running_mean.item(), norm.running_var.item()
    (2.0, 2.0)
    """

    def normalize(self, x: Tensor, *, own: bool, update: bool) -> Tensor:
        """Return x normalized by running statistics; `own` is without effect."""
        self._check(x)
        dtype = compute_dtype(x.dtype)
        mean, variance = self._population(dtype, update)
        weight = None if self.weight is None else self.weight.to(dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        y = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, self.eps)
        if self._follows(x, update):
            dims = (0, *range(2, x.ndim))
            ranks = self._sharing()
            if ranks is None:
                batch_mean, batch_variance = over_batch(*cell_moments(x, self.kernel))
            else:
                batch_mean, batch_variance = moments(x.detach().to(dtype), dims, ranks)
            count = values_per_channel(x, dims)
            self._update(running_mean=batch_mean, running_var=unbiased(batch_variance, count, ranks))
        return y

    def fused(self, x: Tensor, beside: Beside, *, own: bool, update: bool) -> Tensor | None:
        """See ChannelNorm.fused."""
        self._check(x)
        if self._sharing() is not None:
            return None
        mean, variance = self._population(compute_dtype(x.dtype), update)
        given = mean, torch.rsqrt(variance + self.eps)
        y, *cells = pooled_norm(
            x, self.weight, self.bias, (), eps=self.eps, given=given, kernel=self.kernel, beside=beside
        )
        if self._follows(x, update):
            count = values_per_channel(x, (0, *range(2, x.ndim)))
            batch_mean, batch_variance = over_batch(*cells)
            self._update(beside.gate, running_mean=batch_mean, running_var=unbiased(batch_variance, count))
        return y

    def _population(self, dtype: torch.dtype, moves: bool) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance; `moves`: as snapshot has it."""
        if self.running_mean is None or self.running_var is None:
            raise OptionError(
                "expected running statistics; got track_running_stats=False: population norm has no others"
            )
        return snapshot(self.running_mean, dtype, moves=moves), snapshot(self.running_var, dtype, moves=moves)
