"""AssessedLoader: a DataLoader whose batches were assessed before training."""

import os
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from torch.utils.data import DataLoader

from assessor import Decision, Plan
from clients.agreement import agreed
from clients.apply import AttachedModels, synchronizes
from clients.assessing import Assessment
from clients.batches import AssessedBatch
from clients.cache import cache_folder
from clients.checks import check_arguments, check_dataset, check_stream, settle_batches
from clients.layout import Reshuffle, lay_out
from clients.matching import OnMismatch
from clients.planned import Assessor, PlannedFeed
from clients.sampler import Run
from clients.samples import InputKey
from clients.streaming import StreamFeed, stream_rule

if TYPE_CHECKING:
    from clients.http import AssessorClient


class AssessedLoader:
    """Iterates a dataset in batches of which each is known to need normalization or not.

    `for batch in loader` yields what a plain DataLoader would for the same samples. Batches are
    fixed: batch i holds the samples `plan.order.ids(len(dataset))[i * B : (i + 1) * B]`, so that
    what was assessed is what is trained on; each epoch shuffles their order, from (seed, epoch)
    alone. Without a plan, the first use assesses the dataset in one pass.

    Args:
        dataset: map-style, with a length; its samples are tensors, tuples, mappings or anything
            that input_key can read. An iterable one is scored as it is read, by the plan's rule or
            the cutoff given as threshold: no shuffle, ranks or position to resume at.
        batch_size: samples a batch; None: the plan's, without a plan 32.
        plan: one made before; its own order says which samples form which batch.
        service: an AssessorClient or a URL: assess there instead of in this process.
        method: the assessor's method, for assessing.
        threshold: a cutoff or a threshold's name; None for the method's own.
        shuffle: True (the default): samples are put into batches at random, once, and the batches
            come in another order each epoch. "batches": batches of consecutive samples (which
            keeps the samples of one source together), in another order each epoch. False: dataset
            order. Beside a plan it only says whether the batches' order is shuffled.
        seed: of both shuffles; the global random generators play no part.
        drop_last: leave out the last batch when it is not full; None: as the plan does, without a plan False.
        sampler: yields sample ids, as in torch. It is read anew each epoch; batches of the same
            samples as an assessed one keep its decision, others are scored in the workers.
        batch_sampler: likewise, whole batches of any size.
        reshuffle: "batches" (the default) as above. "samples" (the default beside a sampler): new
            batches each epoch, scored in the workers by the plan's rule. False: the same order
            every epoch. Beside a sampler, "batches" and False keep its first reading.
        on_mismatch: what to do with a plan of other batches: "error"; "warn": keep its decisions
            for the batches that it holds and score the others by its rule; "rescore": assess
            again with its method, threshold and order.
        input_key: which part of a sample is scored: an item's number or name, an attribute's
            name, or a function of the sample. Default: the sample itself if it is a tensor or
            array, else its first item.
        label_key: likewise the label, used by the method "published". Default: the second item
            of a tuple if it is an integer.
        score_dataset: the same samples before random augmentation, scored in their place.
        feature_axis: "element" or "channel", for assessing.
        method_options: further options of the method, such as {"published_exact": True}.
        standardize_input: what the published rule does with a flagged batch: standardize its input
            per element over the batch (`clients.standardize_input`). True: as the batch is made,
            in the worker; "model": by attached models in training, on the device they run on.
        rank: this process's number, for training by several; whole batches are dealt out in turn,
            and the epoch's last len % world_size batches are left out, so that every rank makes
            the same number of steps. Default: torch's process group, else alone; beside a sampler
            alone, as in torch.
        world_size: how many processes share an epoch.
        agree: normalize on every rank where any rank's batch of the same step is flagged, for
            layers that synchronize. None: where an attached model's gates hold a SyncBatchNorm.
        cache: a folder in which plans are kept across runs (`clients.cache` says what is checked);
            None: that of the environment variable NORMGAUGE_CACHE_DIR, if set; False: none.
        cache_key: names the version of the data, for the cache.
        dataloader_class: torch's DataLoader, or one made like it, as torchdata's StatefulDataLoader.
        progress: a bar on stderr while assessing; None shows it on a terminal only.
        **dataloader_arguments: any other argument of torch's DataLoader, with its meaning there.

    Raises:
        DatasetError: one without a length, an empty one, or an iterable one of which something is
            asked that needs known samples.
        LoaderError: arguments that contradict each other.

    See docs/training.md for evaluation, resuming, several processes and the service.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = None,
        *,
        plan: Plan | None = None,
        service: "AssessorClient | str | None" = None,
        method: str = "need",
        threshold: float | str | None = None,
        shuffle: bool | Literal["batches"] | None = None,
        seed: int = 0,
        drop_last: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        reshuffle: Reshuffle | None = None,
        on_mismatch: OnMismatch = "error",
        input_key: InputKey = None,
        label_key: InputKey = None,
        score_dataset: Any = None,
        feature_axis: str = "element",
        method_options: Mapping[str, Any] | None = None,
        standardize_input: bool | Literal["model"] = False,
        rank: int | None = None,
        world_size: int | None = None,
        agree: bool | None = None,
        cache: "str | os.PathLike[str] | Literal[False] | None" = None,
        cache_key: str = "",
        dataloader_class: type[DataLoader[Any]] = DataLoader,
        progress: bool | None = None,
        **dataloader_arguments: Any,
    ) -> None:
        n_samples = check_dataset(dataset)
        batch_size, drop_last = settle_batches(batch_size, drop_last, plan if batch_sampler is None else None)
        check_arguments(
            batch_size=batch_size,
            shuffle=shuffle,
            reshuffle=reshuffle,
            on_mismatch=on_mismatch,
            input_key=input_key,
            standardize_input=standardize_input,
            with_plan=plan is not None,
        )
        self.dataset = dataset
        self.batch_size = batch_size  # samples a batch; beside a batch_sampler, of most batches
        self.drop_last = drop_last  # the last batch is left out when it is not full
        self.decision: Decision | None = None  # of the batch handed out last
        self.handed_out = 0  # batches, over all iterations
        self._agree = agree
        self._by_model = standardize_input == "model"
        self._models = AttachedModels()
        self._synchronized = False
        if n_samples is None:
            check_stream(
                {"sampler": sampler, "batch_sampler": batch_sampler, "shuffle": shuffle, "reshuffle": reshuffle}
                | {"rank": rank, "world_size": world_size, "service": service, "score_dataset": score_dataset}
            )
            self._feed: PlannedFeed | StreamFeed = StreamFeed(
                dataset,
                rule=stream_rule(plan, method=method, threshold=threshold, feature_axis=feature_axis),
                plan=plan,
                input_key=input_key,
                standardize=standardize_input is True,
                dataloader_class=dataloader_class,
                arguments={"batch_size": batch_size, "drop_last": drop_last, **dataloader_arguments},
            )
            return
        setup = lay_out(
            Assessment(
                batch_size=batch_size,
                drop_last=drop_last,
                method=method,
                threshold=threshold,
                feature_axis=feature_axis,
                options=method_options or {},
                input_key=input_key,
                label_key=label_key,
            ),
            n_samples=n_samples,
            plan=plan,
            shuffle=shuffle,
            seed=seed,
            sampler=sampler,
            batch_sampler=batch_sampler,
            reshuffle=reshuffle,
            rank=rank,
            world_size=world_size,
        )
        self.batch_size = setup.assessment.batch_size
        self._feed = PlannedFeed(
            dataset,
            setup,
            Assessor(
                scored=dataset if score_dataset is None else score_dataset,
                service=service,
                arguments=dataloader_arguments,
                cache=cache_folder(cache),
                cache_key=cache_key,
                progress=progress,
            ),
            given=plan,
            on_mismatch=on_mismatch,
            standardize=standardize_input is True,
            scored=score_dataset,
            dataloader_class=dataloader_class,
        )

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
        return map(itemgetter(0), self.decisions())

    def decisions(self) -> Iterator[AssessedBatch[Any]]:
        """Return an iterator over the next epoch that yields (batch, decision) pairs."""
        self._feed.agree = self._agrees()
        epoch = self._feed.epoch
        batches, run = self._feed.begin()
        self._models.refresh()
        if self._asks_others(epoch):
            batches = (AssessedBatch(batch, agreed(decision)) for batch, decision in batches)
        iterator = self._hand_out(batches, run)
        self._feed.held_by(iterator)
        return iterator

    def _hand_out(self, batches: Iterator[AssessedBatch[Any]], run: Run | None) -> Iterator[AssessedBatch[Any]]:
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
            yield item
        if run is not None:
            run.finished = True

    def apply(self, decision: Decision) -> None:
        """Set the gates of attached models for a batch of `dataloader`, just before its forward pass.

        Where the loader itself is iterated, that has been done.
        """
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
        standardized at the model's input, in training. The loader holds the model weakly.

        Raises:
            LoaderError: the model has no gate, and its input is not to be standardized.
        """
        self._models.add(model, self._feed.rule, standardize=self._by_model)
        self._synchronized = self._synchronized or synchronizes(model)
        self._feed.agree = self._agrees()

    def detach(self, model: nn.Module) -> None:
        """Let the model be, its gates as they are."""
        self._models.discard(model)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields, or goes on with after `load_state_dict`."""
        return self._feed.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch; without it, each iteration is the next one.

        After `load_state_dict`, setting the epoch that was interrupted keeps the position in it.
        """
        self._feed.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is: JSON-able, and the same on every rank.

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

    def __repr__(self) -> str:
        try:
            n_batches = f", {len(self)} batches"
            size = f" of {len(self.dataset)}"
        except TypeError:  # a stream of unknown length
            n_batches = size = ""
        name = type(self.dataset).__name__
        return f"{type(self).__name__}({name}{size}, batch_size={self.batch_size}{n_batches})"
