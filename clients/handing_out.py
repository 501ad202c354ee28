"""Handing out a feed's batches: each with its decision set in the models that follow, and a position to resume at."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import DataLoader

from assessor import Decision, Plan
from clients.agreement import agreed
from clients.apply import AttachedModels, synchronizes
from clients.batches import AssessedBatch
from clients.epochs import LAST_EPOCH
from clients.errors import LoaderError
from clients.planned import PlannedFeed
from clients.sampler import Run
from clients.streaming import StreamFeed


class HandOut:
    """What AssessedLoader does once its feed is there; the loader itself says how its arguments become one.

    Args:
        feed: the batches, each with its decision.
        agree: decide alike on all ranks; None: where an attached model's gates wait for the other ranks.
        by_model: flagged batches are standardized by attached models.

    Attributes:
        decision: of the batch handed out last; None before the first.
        handed_out: batches handed out, over all iterations.
    """

    def __init__(self, feed: PlannedFeed | StreamFeed, *, agree: bool | None, by_model: bool) -> None:
        self.decision: Decision | None = None
        self.handed_out = 0
        self._feed = feed
        self._agree = agree
        self._by_model = by_model
        self._models = AttachedModels()
        self._synchronized = False

    @property
    def plan(self) -> Plan:
        """The plan that is carried out; the first use assesses the dataset if none was given.

        Raises:
            FingerprintError: the plan given is for other batches.
            LoaderError: an iterable dataset, and none was given.
        """
        return self._feed.plan

    @property
    def dataloader(self) -> DataLoader[AssessedBatch[Any]]:
        """A plain torch DataLoader that yields `AssessedBatch(batch, decision)`.

        For frameworks that want a DataLoader. Each iteration is the next epoch; give the decision
        to `apply` before the forward pass. `state_dict` follows only the loader itself.
        """
        self._feed.agree = self._agrees()
        return self._feed.dataloader

    def __len__(self) -> int:
        return len(self._feed)

    def __iter__(self) -> Iterator[Any]:
        return self._begin(pairs=False)

    def decisions(self) -> Iterator[AssessedBatch[Any]]:
        """Return an iterator over the next epoch that yields (batch, decision) pairs."""
        return self._begin(pairs=True)

    def _begin(self, *, pairs: bool) -> Iterator[Any]:
        self._feed.agree = self._agrees()
        epoch = self._feed.epoch
        batches, run = self._feed.begin()
        if run is not None:
            epoch = run.epoch
        self._models.refresh()
        if self._asks_others(epoch):
            batches = (AssessedBatch(batch, agreed(decision)) for batch, decision in batches)
        iterator = self._hand_out(batches, run, pairs)
        self._feed.held_by(iterator)
        return iterator

    def _hand_out(self, batches: Iterator[AssessedBatch[Any]], run: Run | None, pairs: bool) -> Iterator[Any]:
        models, feed, following = self._models, self._feed, self._models.following
        in_order = run is not None and getattr(feed.dataloader, "in_order", False)
        for item in batches:
            decision = self.decision = item[1]
            if following:
                models.set(decision.normalize)
            self.handed_out += 1
            if run is not None:
                if in_order and not run.ahead:
                    run.handed += 1  # the decision, which is seldom in a processor's cache, need not be read
                else:
                    run.mark(decision.index)
                feed.run = run
            yield item if pairs else item[0]
        if run is not None:
            run.finished = True

    def apply(self, decision: Decision) -> None:
        """Set the gates of attached models for a batch of `dataloader`, just before its forward pass.

        Where the loader itself is iterated, that has been done.

        Raises:
            LoaderError: no decision.
        """
        if not isinstance(decision, Decision):
            raise LoaderError(f"expected the decision of a batch of loader.dataloader; got {type(decision).__name__}")
        if self._asks_others(max(0, self._feed.epoch - 1)):
            decision = agreed(decision)
        self.decision = decision
        self._models.set(decision.normalize)

    def _agrees(self) -> bool:
        return self._synchronized if self._agree is None else self._agree

    def _asks_others(self, epoch: int) -> bool:
        return self._agrees() and self._feed.has_others and not self._feed.tells_others(epoch)

    def attach(self, model: nn.Module) -> None:
        """Let the model follow: its gates are set as each batch is handed out.

        The gates also get the plan's rule, with which they decide in evaluation, so this assesses
        the dataset if that has not been done. With standardize_input="model" a flagged batch is
        standardized at the model's input, in training. The loader holds the model weakly; a copy of the
        loader, or one sent to another process, is followed by none.

        Raises:
            LoaderError: no module; or it has no gate, and its input is not to be standardized.
        """
        if not isinstance(model, nn.Module):
            raise LoaderError(f"expected a torch.nn.Module; got {type(model).__name__}")
        self._models.add(model, self._feed.rule, standardize=self._by_model)
        self._synchronized = self._synchronized or synchronizes(model)
        self._feed.agree = self._agrees()

    def detach(self, model: nn.Module) -> None:
        """Let the model be, its gates as they are; nothing happens for one that does not follow."""
        if isinstance(model, nn.Module):
            self._models.discard(model)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields, or goes on with after `load_state_dict`."""
        return self._feed.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch; without it, each iteration is the next one.

        After `load_state_dict`, setting the epoch that was interrupted keeps the position in it.

        Raises:
            LoaderError: not an integer from 0 to 2^63 - 2.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 0 <= epoch <= LAST_EPOCH:
            raise LoaderError(f"expected epoch to be an integer >= 0, of 63 bits; got {epoch!r}")
        self._feed.set_epoch(int(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is: JSON-able, and the same on every rank (with in_order=False, each rank's own).

        It counts the batches handed out, not those that workers have prefetched.

        Raises:
            LoaderError: an iterable dataset, which has no position.
        """
        return self._feed.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where `state_dict` was taken.

        It then equals the uninterrupted run, batch for batch and decision for decision.

        Raises:
            StateError: the state is of another dataset, plan or setting; names what differs.
        """
        self._feed.load_state_dict(state)
