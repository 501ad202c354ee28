"""AssessedLoader: a DataLoader whose batches were assessed before training."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from torch.utils.data import DataLoader, default_collate

from assessor import Decision, Plan, SampleOrder
from clients.apply import AttachedModels
from clients.assessing import Assessment
from clients.batches import AssessedBatch, CollateAssessed, DatasetView, WorkerInit
from clients.checks import check_arguments, check_dataset
from clients.matching import OnMismatch, Settled, settle
from clients.sampler import EpochSampler, Layout, Reshuffle, Run, place_in_group
from clients.samples import InputKey
from clients.state import dump_state, read_state

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
            that input_key can read.
        batch_size: samples a batch.
        plan: one made before; its own order says which samples form which batch.
        service: an AssessorClient or a URL: assess there instead of in this process.
        method: the assessor's method, for assessing.
        threshold: a cutoff or a threshold's name; None for the method's own.
        shuffle: True: samples are put into batches at random, once, and the batches come in
            another order each epoch. "batches": batches of consecutive samples (which keeps the
            samples of one source together), in another order each epoch. False: dataset order.
            Beside a plan it only says whether the batches' order is shuffled.
        seed: of both shuffles; the global random generators play no part.
        drop_last: leave out the last batch when it is not full.
        reshuffle: "batches" as above. "samples": new batches each epoch, scored in the workers by
            the plan's rule. False: the same order every epoch.
        on_mismatch: what to do with a plan of other batches: "error"; "warn": keep its decisions
            for the batches that it holds and score the others by its rule; "rescore": assess
            again with its method, threshold and order.
        input_key: which part of a sample is scored: an item's number or name, an attribute's
            name, or a function of the sample. Default: the sample itself if it is a tensor or
            array, else its first item.
        label_key: likewise the label, used by the method "published". Default: the second item
            of a tuple if it is an integer.
        feature_axis: "element" or "channel", for assessing.
        method_options: further options of the method, such as {"published_exact": True}.
        standardize_input: what the published rule does: hand out flagged batches with their input
            standardized per element over the batch (`clients.standardize_input`).
        rank: this process's number, for training by several; whole batches are dealt out in turn,
            and the epoch's last len % world_size batches are left out, so that every rank makes
            the same number of steps. Default: torch's process group, else alone.
        world_size: how many processes share an epoch.
        progress: a bar on stderr while assessing; None shows it on a terminal only.
        **dataloader_arguments: any other argument of torch's DataLoader, with its meaning there.

    Raises:
        DatasetError: an iterable dataset, one without a length, or an empty one.
        LoaderError: arguments that contradict each other, or that choose batches themselves.

    See docs/training.md for evaluation, resuming, several processes and the service.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        *,
        plan: Plan | None = None,
        service: "AssessorClient | str | None" = None,
        method: str = "need",
        threshold: float | str | None = None,
        shuffle: bool | Literal["batches"] = True,
        seed: int = 0,
        drop_last: bool = False,
        reshuffle: Reshuffle = "batches",
        on_mismatch: OnMismatch = "error",
        input_key: InputKey = None,
        label_key: InputKey = None,
        feature_axis: str = "element",
        method_options: Mapping[str, Any] | None = None,
        standardize_input: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        progress: bool | None = None,
        **dataloader_arguments: Any,
    ) -> None:
        n_rows = check_dataset(dataset)
        check_arguments(
            batch_size=batch_size,
            shuffle=shuffle,
            reshuffle=reshuffle,
            on_mismatch=on_mismatch,
            input_key=input_key,
            standardize_input=standardize_input,
            with_plan=plan is not None,
            dataloader_arguments=dataloader_arguments,
        )
        rank, world_size = place_in_group(rank, world_size)
        own_order = SampleOrder.shuffled(seed) if shuffle is True else SampleOrder.ROWS
        self.dataset = dataset
        self._given = plan
        self._service = service
        self._on_mismatch = on_mismatch
        self._standardize = standardize_input
        self._progress = progress
        self._arguments = dataloader_arguments
        self._layout = Layout(
            n_rows=n_rows,
            batch_size=batch_size,
            drop_last=drop_last,
            order=own_order if plan is None else plan.order,
            seed=seed,
            shuffled=shuffle is not False,
            reshuffle=reshuffle,
            rank=rank,
            world_size=world_size,
        )
        self._assessment = Assessment(
            batch_size=batch_size,
            drop_last=drop_last,
            order=self._layout.order,
            method=method,
            threshold=threshold,
            feature_axis=feature_axis,
            options=method_options or {},
            input_key=input_key,
            label_key=label_key,
        )
        self._models = AttachedModels()
        self._run: Run | None = None
        self.decision: Decision | None = None  # of the batch handed out last

    @property
    def plan(self) -> Plan:
        """The plan that is carried out; the first use assesses the dataset if none was given.

        Raises:
            FingerprintError: the plan given is for other batches.
        """
        return self._settled.plan

    @cached_property
    def _settled(self) -> Settled:
        return settle(
            self._given,
            self._assessment,
            n_rows=self._layout.n_rows,
            on_mismatch=self._on_mismatch,
            assess=lambda assessment: assessment.run(
                self.dataset,
                service=self._service,
                arguments=self._arguments,
                progress=self._progress,
            ),
        )

    @cached_property
    def dataloader(self) -> DataLoader[AssessedBatch[Any]]:
        """A plain torch DataLoader that yields `AssessedBatch(batch, decision)`.

        For frameworks that want a DataLoader. Each iteration is the next epoch; gates of attached
        models and `state_dict` follow only where the loader itself is iterated.
        """
        arguments = dict(self._arguments)
        collate = CollateAssessed(
            arguments.pop("collate_fn", None) or default_collate,
            plan=self.plan,
            input_key=self._assessment.input_key,
            standardize=self._standardize,
        )
        return DataLoader(
            DatasetView(self.dataset),
            batch_sampler=self._sampler,
            collate_fn=collate,
            worker_init_fn=WorkerInit(arguments.pop("worker_init_fn", None)),
            **arguments,
        )

    @cached_property
    def _sampler(self) -> EpochSampler:
        return EpochSampler(self._layout, self._settled.held)

    def __len__(self) -> int:
        return self._layout.n_batches // self._layout.world_size

    def __iter__(self) -> Iterator[Any]:
        return (item.batch for item in self.decisions())

    def decisions(self) -> Iterator[AssessedBatch[Any]]:
        """Return an iterator over the next epoch that yields (batch, decision) pairs."""
        run = self._sampler.begin()
        self._run = run
        self._sampler.arm(run)
        try:
            batches = iter(self.dataloader)
        finally:
            self._sampler.arm(None)
        return self._hand_out(run, batches)

    def _hand_out(self, run: Run, batches: Iterator[AssessedBatch[Any]]) -> Iterator[AssessedBatch[Any]]:
        for item in batches:
            decision = self.decision = item.decision
            self._models.set(decision)
            run.mark(decision.index)
            self._run = run
            yield item
        run.finished = True

    def attach(self, model: nn.Module) -> None:
        """Let the model's gates follow: each is set as a batch is handed out.

        The gates also get the plan's rule, with which they decide in evaluation, so this assesses
        the dataset if that has not been done. The loader holds the model weakly.

        Raises:
            LoaderError: the model has no gate.
        """
        self._models.add(model, self.plan)

    def detach(self, model: nn.Module) -> None:
        """Let the model's gates be, as they are."""
        self._models.discard(model)

    @property
    def batch_size(self) -> int:
        """Samples a batch."""
        return self._layout.batch_size

    @property
    def drop_last(self) -> bool:
        """The last batch is left out when it is not full."""
        return self._layout.drop_last

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields, or goes on with after `load_state_dict`."""
        return self._sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch; without it, each iteration is the next one.

        After `load_state_dict`, setting the epoch that was interrupted keeps the position in it.
        """
        self._sampler.set_epoch(epoch)
        self._run = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is: JSON-able, and the same on every rank.

        It counts the batches handed out, not those that workers have prefetched.
        """
        run = self._run
        if run is None or run.finished:
            run = self._sampler.position()
        return dump_state(run, self._layout, self.plan)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where `state_dict` was taken.

        It then equals the uninterrupted run, batch for batch and decision for decision.

        Raises:
            StateError: the state is of another dataset, plan or setting; names what differs.
        """
        epoch, handed, ahead = read_state(state, self._layout, self.plan)
        self._sampler.resume(epoch=epoch, handed=handed, ahead=ahead)
        self._run = None

    def __repr__(self) -> str:
        layout = self._layout
        return (
            f"{type(self).__name__}({type(self.dataset).__name__} of {layout.n_rows}, "
            f"batch_size={layout.batch_size}, {len(self)} batches)"
        )
