"""The batches of a map-style dataset: assessed, then read by a plain DataLoader with their decisions."""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, default_collate

from assessor import Plan
from clients.agreement import in_group
from clients.assessing import Assessment
from clients.batches import AssessedBatch, DatasetView
from clients.cache import content_name, load_plan, save_plan
from clients.collating import CollateAssessed, WorkerInit
from clients.errors import warn
from clients.layout import Setup
from clients.matching import OnMismatch, Settled, settle
from clients.sampler import EpochSampler, Run
from clients.sharing import plan_of_all
from clients.sources import count_held
from clients.state import dump_state, read_state

if TYPE_CHECKING:
    from clients.http import AssessorClient


@dataclass(frozen=True, kw_only=True)
class Assessor:
    """How a dataset is assessed.

    Attributes:
        scored: what is read: the dataset, or its view without augmentation.
        service: assess there instead of in this process.
        arguments: the user's DataLoader arguments.
        cache: the folder of kept plans; None for none.
        cache_key: names the data's version.
        progress: show a bar; None on a terminal only.
    """

    scored: Any
    service: "AssessorClient | str | None"
    arguments: Mapping[str, Any]
    cache: Path | None
    cache_key: str
    progress: bool | None

    def assess(self, assessment: Assessment, n_rows: int, *, for_all: bool = False) -> Plan:
        """Return the plan, from the cache if it is there.

        Args:
            assessment: what to assess, and how.
            n_rows: samples in the batches.
            for_all: the ranks of torch's process group share the dataset's batches: one of them assesses.
        """
        ids = assessment.order.ids(n_rows)
        name = None
        if self.cache is not None or self.service is not None or for_all:
            name = content_name(
                self.scored,
                ids,
                settings=assessment.settings(n_rows),
                input_key=assessment.input_key,
                label_key=assessment.label_key,
                cache_key=self.cache_key,
            )
        if self.cache is not None and name is not None:
            kept = load_plan(self.cache, name)
            if kept is not None:
                return kept

        def run() -> Plan:
            return assessment.run(
                self.scored,
                ids,
                service=self.service,
                arguments=self.arguments,
                progress=self.progress,
                name=name,
            )

        plan = plan_of_all(name, run) if for_all and name is not None else run()
        if self.cache is not None and name is not None:
            try:
                save_plan(self.cache, name, plan)
            except OSError as error:  # a full disk must not cost the pass over the data
                warn(f"the plan is used but could not be kept in {self.cache}: {error}", RuntimeWarning)
        return plan


class PlannedFeed:
    """A map-style dataset's batches, each with its decision.

    Args:
        dataset: map-style.
        setup: its batches and epochs.
        assessor: makes the plan where it is needed.
        given: the user's plan.
        on_mismatch: what to do with a plan of other batches.
        standardize: hand out flagged batches standardized.
        scored: what is scored, where that is read apart.
        dataloader_class: torch's DataLoader or one made like it.
    """

    def __init__(
        self,
        dataset: Any,
        setup: Setup,
        assessor: Assessor,
        *,
        given: Plan | None,
        on_mismatch: OnMismatch,
        standardize: bool,
        scored: Any,
        dataloader_class: type[DataLoader[Any]],
    ) -> None:
        self.dataset = dataset
        self.layout = setup.layout
        self._setup = setup
        self._assessor = assessor
        self._given = given
        self._on_mismatch = on_mismatch
        self._standardize = standardize
        self._scored = scored
        self._class = dataloader_class
        self.run: Run | None = None
        self._begun: tuple[Run, int, weakref.ref[Iterator[Any]]] | None = None
        self._told: tuple[int, bool] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle takes along: all but whose iterator the last pass was."""
        return self.__dict__ | {"_begun": None}

    @cached_property
    def _settled(self) -> Settled:
        n_rows = self._setup.n_rows
        return settle(
            self._given,
            self._setup.assessment,
            self.layout.source,
            n_rows=n_rows,
            on_mismatch=self._on_mismatch,
            assess=lambda assessment: self._assessor.assess(assessment, n_rows, for_all=self.layout.for_all),
        )

    @property
    def plan(self) -> Plan:
        """The plan that is carried out."""
        return self._settled.plan

    @property
    def rule(self) -> Mapping[str, Any]:
        """The plan's rule."""
        return self.plan.rule

    @cached_property
    def sampler(self) -> EpochSampler:
        """The batch sampler of `dataloader`."""
        return EpochSampler(self.layout, self._settled.look_up)

    @cached_property
    def dataloader(self) -> DataLoader[AssessedBatch[Any]]:
        """A plain DataLoader of (batch, decision) pairs; each iteration is the next epoch."""
        arguments = dict(self._assessor.arguments)
        collate = CollateAssessed(
            arguments.pop("collate_fn", None) or default_collate,
            plan=self.plan,
            input_key=self._setup.assessment.input_key,
            nonfinite=self._setup.assessment.nonfinite,
            standardize=self._standardize,
        )
        return self._class(
            DatasetView(self.dataset, self._scored),
            batch_sampler=self.sampler,
            collate_fn=collate,
            worker_init_fn=WorkerInit(arguments.pop("worker_init_fn", None)),
            **arguments,
        )

    def __len__(self) -> int:
        return self.layout.n_batches // self.layout.world_size

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields."""
        return self.sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch; a resumed position in it is kept."""
        self.sampler.set_epoch(epoch)
        self.run = self._begun = None

    @property
    def agree(self) -> bool:
        """Decisions are those of the whole step, over all ranks, where the plan tells them."""
        return self.sampler.agree

    @agree.setter
    def agree(self, value: bool) -> None:
        self.sampler.agree = value

    def begin(self) -> tuple[Iterator[AssessedBatch[Any]], Run]:
        """Return the next epoch's batches, or what is left of an interrupted one, and its progress."""
        self._take_back()
        run = self.run = self.sampler.begin()
        self._begun = None
        self.sampler.arm(run)
        try:
            return iter(self.dataloader), run
        finally:
            self.sampler.arm(None)

    def held_by(self, iterator: Iterator[Any]) -> None:
        """Note which iterator the pass begun last belongs to."""
        if self.run is not None:
            self._begun = self.run, self.run.handed, weakref.ref(iterator)

    def _take_back(self) -> None:
        # frameworks make an iterator to see whether they can, and drop it: no epoch is lost by that
        if self._begun is None:
            return
        run, handed, iterator = self._begun
        if iterator() is None and run.handed == handed and not run.finished:
            self.sampler.resume(run)

    @property
    def has_others(self) -> bool:
        """Return whether other ranks train at the same time."""
        return self.layout.world_size > 1 or in_group()

    def tells_others(self, epoch: int) -> bool:
        """Return whether the plan alone tells what the other ranks' batches need."""
        if self._told is None or self._told[0] != epoch:
            batches = self.layout.source.read(epoch)
            self._told = epoch, count_held(self._settled.look_up, batches) == len(batches)
        return self.layout.world_size > 1 and self._told[1]

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        run = self.run
        if run is None or run.finished:
            run = self.sampler.position()
        return dump_state(run, self.layout, self.plan)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken."""
        position = read_state(state, self.layout, self.plan)
        batches = self.layout.dealt(position.epoch)
        self.sampler.resume(Run(position.epoch, batches, position.handed, set(position.ahead)))
        self.run = self._begun = None
