"""Lightning: a callback that lets the module's gates follow the batches of an AssessedLoader."""

from typing import Any

import lightning.pytorch as pl

from clients.batches import AssessedBatch
from clients.errors import LoaderError
from clients.loader import AssessedLoader


class GateCallback(pl.Callback):
    """Sets the gates of the LightningModule for the batch that it is about to be trained on.

    The Trainer may be given the loader itself, whose batches are as the user's collate_fn made
    them and whose position Lightning saves in its checkpoints; or `loader.dataloader`, whose
    batches are (batch, decision) pairs. In evaluation gates decide by the plan's rule.

    Args:
        loader: the one that the Trainer trains on.

    Raises:
        LoaderError: the Trainer took a batch of the loader itself ahead of the one it trains on, so
            that the gates would be set for another batch: give it `loader.dataloader`.
    """

    def __init__(self, loader: AssessedLoader) -> None:
        self.loader = loader
        self._before = 0
        self._started = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attach the module, which assesses the dataset if that has not been done."""
        self.loader.attach(pl_module)
        self._before, self._started = self.loader.handed_out, 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count anew: an epoch that was cut short may leave a batch that was not trained on."""
        self._before, self._started = self.loader.handed_out, 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the gates for this batch."""
        if isinstance(batch, AssessedBatch):
            self.loader.apply(batch.decision)
            return
        self._started += 1
        ahead = self.loader.handed_out - self._before - self._started
        if ahead:
            raise LoaderError(
                f"expected batches of the AssessedLoader given to GateCallback, one at a time; the Trainer is {ahead} "
                "ahead of the batch it trains on: give it loader.dataloader, whose batches carry their decision"
            )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the module be."""
        self.loader.detach(pl_module)
