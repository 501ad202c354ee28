"""AssessedLoader: a DataLoader whose batches were assessed before training."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch.utils.data import DataLoader

from assessor import Plan, Profile
from clients.assessing import Assessment
from clients.cache import cache_folder
from clients.checks import (
    as_plan,
    check_arguments,
    check_dataloader,
    check_dataset,
    check_scored,
    check_service,
    check_stream,
    settle_batches,
)
from clients.handing_out import HandOut
from clients.layout import Reshuffle, lay_out
from clients.matching import OnMismatch
from clients.planned import Assessor, PlannedFeed
from clients.samples import InputKey
from clients.streaming import StreamFeed, stream_rule

if TYPE_CHECKING:
    from clients.http import AssessorClient


# Those of DataLoader that are its own arguments, as they were given to AssessedLoader.
_DATALOADER_ATTRIBUTES = frozenset(
    {"num_workers", "collate_fn", "pin_memory", "pin_memory_device", "timeout", "worker_init_fn", "generator"}
    | {"multiprocessing_context", "prefetch_factor", "persistent_workers", "in_order"}
)


class AssessedLoader(HandOut):
    """Iterates a dataset in batches of which each is known to need normalization or not.

    `for batch in loader` yields what a plain DataLoader would for the same samples. Batches are
    fixed: batch i holds the samples `plan.order.ids(len(dataset))[i * B : (i + 1) * B]`, so that
    what was assessed is what is trained on; each epoch shuffles their order, from (seed, epoch)
    alone. Without a plan, the first use assesses the dataset in one pass.

    Args:
        dataset: map-style, with a length; its samples are tensors, tuples, mappings or anything
            that input_key can read. An iterable one is scored as it is read, by the plan's rule or
            the cutoff given as threshold: no shuffle, ranks or position to resume at.
        batch_size: samples a batch; None: the plan's, without a plan 32 (it does not switch batching off, as in torch).
        plan: one made before, or the path of its file; its own order says which samples form which batch.
        service: an AssessorClient or a URL: assess there instead of in this process.
        method: the assessor's method, for assessing; or one of its measures, beside a threshold.
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
            for the batches that it holds, if any, and score the others by its rule; "rescore": assess
            again with its method, threshold and order.
        input_key: which part of a sample is scored: an item's number or name, an attribute's
            name, or a function of the sample. Default: the sample itself if it is a tensor or
            array, else its first item.
        label_key: likewise the label, used by the method "published". Default: the second item
            of a tuple if it is an integer.
        score_dataset: the same samples before random augmentation, scored in their place.
        feature_axis: "element" or "channel", for assessing.
        nonfinite: what becomes of samples that hold NaN or infinity, in assessing and in scoring: "raise" an error;
            "exclude": they are left out of their batch's score; "normalize": their batch is flagged.
        reference: profile of earlier data, for the measure "population_divergence"; not against a service.
        method_options: further options of the method, such as {"published_exact": True}.
        standardize_input: what the published rule does with a flagged batch: standardize its input
            per element over the batch (`clients.standardize_input`). True: as the batch is made,
            in the worker; "model": by attached models in training, on the device they run on.
        rank: this process's number, for training by several; whole batches are dealt out in turn,
            and the epoch's last len % world_size batches are left out, so that every rank makes
            the same number of steps. Default: torch's process group, once there is one, whose first
            rank to need a plan assesses for all; else alone; beside a sampler alone, as in torch.
        world_size: how many processes share an epoch.
        agree: normalize on every rank where any rank's batch of the same step is flagged, for
            layers that synchronize. None: where an attached model's gates hold one, torch's or ours.
        cache: a folder in which plans are kept across runs (`clients.cache` says what is checked);
            None: that of the environment variable NORMGAUGE_CACHE_DIR, if set; False: none.
        cache_key: names the version of the data, for the cache.
        dataloader_class: torch's DataLoader, or one made like it, as torchdata's StatefulDataLoader.
        progress: a bar on stderr while assessing; None shows it on a terminal only.
        **dataloader_arguments: any other argument of torch's DataLoader, with its meaning there.

    Raises:
        DatasetError: one without a length, an empty one, or an iterable one of which something is
            asked that needs known samples.
        LoaderError: arguments that contradict each other, or that no loader and no DataLoader takes.

    See docs/training.md for evaluation, resuming, several processes and the service.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = None,
        *,
        plan: "Plan | str | os.PathLike[str] | None" = None,
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
        nonfinite: str = "raise",
        reference: Profile | None = None,
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
        plan = as_plan(plan)
        n_samples = check_dataset(dataset)
        check_scored(score_dataset, n_samples)
        check_service(service)
        batch_size, drop_last = settle_batches(batch_size, drop_last, plan if batch_sampler is None else None)
        check_arguments(
            batch_size=batch_size,
            shuffle=shuffle,
            reshuffle=reshuffle,
            on_mismatch=on_mismatch,
            input_key=input_key,
            label_key=label_key,
            nonfinite=nonfinite,
            method_options=method_options,
            reference=reference,
            with_service=service is not None,
            standardize_input=standardize_input,
            seed=seed,
            agree=agree,
            progress=progress,
            cache=cache,
            with_plan=plan is not None,
        )
        self._as_torch = check_dataloader(dataloader_class, dataloader_arguments)
        self.dataset = dataset
        self.batch_size = batch_size  # samples a batch; beside a batch_sampler, of most batches
        self.drop_last = drop_last  # the last batch is left out when it is not full
        self.sampler, self.batch_sampler = sampler, batch_sampler  # the caller's own
        by_model = standardize_input == "model"
        if n_samples is None:
            check_stream(
                {"sampler": sampler, "batch_sampler": batch_sampler, "shuffle": shuffle, "reshuffle": reshuffle}
                | {"rank": rank, "world_size": world_size, "service": service, "score_dataset": score_dataset}
            )
            stream = StreamFeed(
                dataset,
                rule=stream_rule(
                    plan,
                    method=method,
                    threshold=threshold,
                    feature_axis=feature_axis,
                    reference=reference,
                    options=method_options,
                ),
                plan=plan,
                input_key=input_key,
                nonfinite=nonfinite,
                standardize=standardize_input is True,
                dataloader_class=dataloader_class,
                arguments={"batch_size": batch_size, "drop_last": drop_last, **dataloader_arguments},
            )
            super().__init__(stream, agree=agree, by_model=by_model)
            return
        setup = lay_out(
            Assessment(
                batch_size=batch_size,
                drop_last=drop_last,
                method=method,
                threshold=threshold,
                feature_axis=feature_axis,
                nonfinite=nonfinite,
                reference=reference,
                options=method_options or {},
                input_key=input_key,
                label_key=label_key,
            ),
            n_samples=n_samples,
            plan=plan,
            shuffle=shuffle,
            seed=int(seed),
            sampler=sampler,
            batch_sampler=batch_sampler,
            reshuffle=reshuffle,
            rank=rank,
            world_size=world_size,
        )
        self.batch_size = setup.assessment.batch_size
        feed = PlannedFeed(
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
        super().__init__(feed, agree=agree, by_model=by_model)

    if not TYPE_CHECKING:  # a checker would take any name for one of these

        def __getattr__(self, name: str) -> Any:
            """Return an argument that torch's DataLoader has as an attribute, for scripts that look there."""
            if name in _DATALOADER_ATTRIBUTES and "_as_torch" in self.__dict__:
                return getattr(self._as_torch, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        try:
            n_batches = f", {len(self)} batches"
            size = f" of {len(self.dataset)}"
        except TypeError:  # a stream of unknown length
            n_batches = size = ""
        name = type(self.dataset).__name__
        return f"{type(self).__name__}({name}{size}, batch_size={self.batch_size}{n_batches})"
