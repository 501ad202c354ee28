"""Statistics of training batches over all ranks, as torch.nn.SyncBatchNorm has them."""

import torch.distributed as dist
from torch import nn

from norms.base import RunningNorm
from norms.batch_layer import BatchLayerNorm
from norms.errors import OptionError
from norms.ranks import Ranks
from norms.sources import BATCH


def synchronize(model: nn.Module, *, group: dist.ProcessGroup | None = None, shared: bool = True) -> tuple[str, ...]:
    """Let the norms of a model take their statistics over the batches of all ranks; return the paths of these norms.

    In training, output, gradients and running statistics are those of one process that has all batches, one after
    the other, as its batch; batch sizes may differ from rank to rank. Evaluation never communicates. Every rank must
    call the same norms in the same order: gates must decide alike on all ranks. A group of `examples_per_group`
    samples may lie on several ranks, as the single process would have it; finding the groups waits for the device.
    Priors that are drawn are those of the first rank. Norms whose samples share nothing are as they were. Without
    torch.distributed the norms see their own batch, which is all there is. Eager only.

    Args:
        model: any module; changed in place.
        group: the processes that share; None: all of them.
        shared: False makes the norms see their own rank's batch again.

    Raises:
        OptionError: nothing to share: no norm of this package whose samples share statistics; one of torch's, which
            `convert` has to replace first; or `batch_layer` with authors=True, whose statistics have the shape of one
            rank's batch.

    >>> import norms
    >>> synchronize(nn.Sequential(norms.BatchNorm(2), norms.LayerNorm(2)))
    ('0',)
    """
    found = {}
    for path, module in model.named_modules():
        where = path or "the root"
        if isinstance(module, BATCH):
            raise OptionError(
                f"expected norms of this package; got torch's {type(module).__name__} at {where}: replace it by "
                "convert(model, 'batch', own=True) first"
            )
        if isinstance(module, BatchLayerNorm) and module.authors:
            raise OptionError(
                f"expected no authors=True; got it at {where}: its statistics have the shape of one rank's batch; use "
                "the default form"
            )
        if isinstance(module, RunningNorm):
            found[path] = module
    if not found:
        raise OptionError(
            "expected a norm whose samples share statistics; got none: norms as layer, group, instance and rms are the "
            "same in one process and in many"
        )
    ranks = Ranks(group) if shared else None
    for module in found.values():
        module.ranks = ranks
    return tuple(found)
