"""One of two processes that train a gated model together; run by test_distributed.py.

Arguments: rank, path of the rendezvous file. Prints the gradient of the shared weight for each kind of decision.
"""

import json
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from norms import AdaptiveNorm, set_decision
from tests.process_group import leave


def gradient(rank: int, kind: str) -> list[float]:
    """Return the gradient of the first weight, averaged over the ranks."""
    torch.manual_seed(0)
    gate = AdaptiveNorm("batch", num_features=4, affine=kind == "tensor")
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 4), gate, nn.Linear(4, 1)))
    x = torch.arange(32.0).reshape(2, 4, 4)[rank].sin()
    for normalize in (rank == 0, False):  # the ranks disagree on the first batch
        set_decision(model, torch.tensor(normalize) if kind == "tensor" else normalize)
        model.zero_grad()
        torch.autograd.backward(model(x).square().mean())
    found: list[float] = model.module[0].weight.grad.flatten().tolist()
    return found


def main() -> None:
    rank, path = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    print(json.dumps({kind: gradient(rank, kind) for kind in ("tensor", "bool")}))
    leave()


if __name__ == "__main__":
    main()
