"""Runs on two ranks under torchrun: a real Trainer, DDP over gloo, and one assessment at a service for both ranks.

Arguments: the service's URL, a folder.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from clients import AssessedLoader
from tests.clients.datasets import Pairs, two_sources
from tests.clients.recording import Recorder, numbers_of_told
from tests.process_group import leave

warnings.simplefilter("ignore")  # Lightning calls what torch deprecates
import lightning.pytorch as pl  # noqa: E402  # after the filter

from clients import GateCallback  # noqa: E402  # imports Lightning

X, Y = two_sources(96)
EPOCHS = 2


class Module(pl.LightningModule):
    """Trains a recording model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Recorder(X.shape[1])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main() -> None:
    """Train, and check what the gates of both ranks were told."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    # made before the Trainer starts the process group, as in a script for one process
    loader = AssessedLoader(Pairs(X, Y), 8, service=url, shuffle="batches", seed=3)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=[GateCallback(loader)],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Module()
    trainer.fit(module, loader)
    assert dist.get_backend() == "gloo"
    told = numbers_of_told(module.model.told, X, loader.plan)  # checks each decision against the plan
    everyones: list[Any] = [None, None]
    dist.all_gather_object(everyones, (told, loader.plan.to_json(), module.model.last.weight.tolist()))
    (mine, plan, weight), (theirs, their_plan, their_weight) = everyones
    assert plan == their_plan
    assert weight == their_weight, "DDP has averaged the gradients"
    for epoch in range(EPOCHS):
        dealt = [number for told in (mine, theirs) for number in told[epoch * 6 : epoch * 6 + 6]]
        assert sorted(dealt) == list(range(12)), dealt
    assert len(mine) == len(theirs) == 12
    if dist.get_rank() == 0:
        (folder / "plan.json").write_text(plan)


if __name__ == "__main__":
    main()
    leave()
