"""One of two processes that share the statistics of their batches; run by test_synchronized.py.

Arguments: rank, path of the rendezvous file, path of the cases, path for the results.
"""

import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from norms import AdaptiveNorm, carry_priors, create, set_decision, synchronize
from tests.process_group import leave


def made(name: str, channels: int, options: dict[str, Any]) -> nn.Module:
    """Return the norm; "carried" and "drawn": two Kalman norms, the second with a prior from the first; "gated"."""
    if name == "gated":
        gate = AdaptiveNorm("batch", num_features=channels)
        set_decision(gate, torch.tensor(options["flagged"]))
        return gate
    if name not in ("carried", "drawn"):
        return create(name, channels, **options)
    torch.manual_seed(1)  # the convolution's weights, alike in every process
    pair = [create("kalman", channels, **options) for _ in range(2)]
    model = nn.Sequential(pair[0], nn.ReLU(), nn.Conv1d(channels, channels, 3, padding=1), pair[1])
    return carry_priors(model, prior="moments" if name == "carried" else "sampled").model


def outcome(
    name: str, options: dict[str, Any], batches: list[torch.Tensor], *, shared: bool, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return output, gradients and buffers of a norm in float64 after its batches; the last is the one looked at."""
    norm = made(name, batches[0].shape[1], options).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.linspace(0.1, 0.5, parameter.numel()).reshape(parameter.shape))
    if shared:
        synchronize(norm)
    torch.manual_seed(seed)
    for batch in batches[:-1]:
        norm(batch)
    x = batches[-1].clone().requires_grad_()
    y = norm(x)
    (first,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
    torch.autograd.backward((first**2).sum() + y.sum())
    assert x.grad is not None
    found = {"y": y.detach(), "first": first.detach(), "gradient": x.grad}
    found |= {f"gradient of {key}": p.grad for key, p in norm.named_parameters() if p.grad is not None}
    return found | {key: buffer.clone() for key, buffer in norm.named_buffers()}


def main() -> None:
    """Run every case on this rank's part of its batches."""
    rank, rendezvous, cases, results = int(sys.argv[1]), *sys.argv[2:]
    torch.set_num_threads(1)
    store, limit = f"file://{rendezvous}", timedelta(seconds=140)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=limit)
    found = {
        key: outcome(name, options, [batch.split(sizes)[rank] for batch in batches], shared=True, seed=rank)
        for key, (name, options, sizes, batches) in torch.load(cases).items()
    }
    torch.save(found, f"{results}.{rank}")
    leave()


if __name__ == "__main__":
    main()
