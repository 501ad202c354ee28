"""How samples become batches and batches epochs: from the loader's arguments to a Layout."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from assessor import Plan, SampleOrder, fingerprint
from clients.agreement import check_place, place_in_group
from clients.assessing import Assessment
from clients.checks import check_sampler
from clients.epochs import batch_order, deal
from clients.errors import LoaderError
from clients.sources import DrawnBatches, FixedBatches, SamplerBatches, Source
from clients.steps import Numbers, Steps

Reshuffle = Literal["batches", "samples", False]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How batches become epochs.

    Attributes:
        source: the batches of an epoch.
        seed: of the orders in which they come.
        shuffled: they come in an order drawn from (seed, epoch), not in their own.
        reshuffle: what is drawn anew each epoch.
        given: rank and world_size; None: those of torch's process group, which frameworks begin after
            the loader is made, so that they are asked for when they are needed.
        fingerprint: of the first epoch's batches.
    """

    source: Source
    seed: int
    shuffled: bool
    reshuffle: Reshuffle
    given: tuple[int, int] | None
    fingerprint: str

    @property
    def rank(self) -> int:
        """This process's number among world_size."""
        return self._place[0]

    @property
    def world_size(self) -> int:
        """Processes that share an epoch."""
        return self._place[1]

    @property
    def for_all(self) -> bool:
        """Whether the ranks of torch's process group, of which there are several, share an epoch."""
        return self.world_size > 1 and self._place == place_in_group()

    @property
    def _place(self) -> tuple[int, int]:
        return place_in_group() if self.given is None else self.given

    @property
    def n_batches(self) -> int:
        """Batches of the first epoch, over all ranks."""
        return len(self.source.read(0))

    def order(self, epoch: int) -> Numbers:
        """Return the batch numbers of an epoch in their order, of all ranks."""
        n_batches = len(self.source.read(epoch))
        if not self.shuffled:
            return Steps(range(n_batches))
        return batch_order(n_batches, seed=self.seed, epoch=0 if self.reshuffle is False else epoch)

    def dealt(self, epoch: int) -> Numbers:
        """Return this rank's batch numbers in the order of an epoch.

        Raises:
            LoaderError: there are fewer than ranks, so that none would get one.
        """
        order = self.order(epoch)
        if 0 < len(order) < self.world_size:
            raise LoaderError(
                f"expected at least one batch a rank, {self.world_size} in all; epoch {epoch} has {len(order)}: take a "
                "smaller batch_size or fewer ranks"
            )
        return deal(order, rank=self.rank, world_size=self.world_size)


@dataclass(frozen=True)
class Setup:
    """What a loader of known samples does.

    Attributes:
        layout: its batches and epochs.
        assessment: what it would assess.
        n_rows: samples in the batches.
    """

    layout: Layout
    assessment: Assessment
    n_rows: int


def lay_out(
    assessment: Assessment,
    *,
    n_samples: int,
    plan: Plan | None,
    shuffle: bool | Literal["batches"] | None,
    seed: int,
    sampler: Any,
    batch_sampler: Any,
    reshuffle: Reshuffle | None,
    rank: int | None,
    world_size: int | None,
) -> Setup:
    """Return what the loader's arguments come to.

    Raises:
        LoaderError: they contradict each other.
    """
    own_sampler = sampler is not None or batch_sampler is not None
    source: Source
    if own_sampler:
        check_sampler(
            sampler, batch_sampler, batch_size=assessment.batch_size, shuffle=shuffle, drop_last=assessment.drop_last
        )
        reshuffle = "samples" if reshuffle is None else reshuffle
        source, assessment = _sampled(assessment, sampler, batch_sampler, anew=reshuffle == "samples")
        n_rows = len(source.first.ids)
        shuffled = reshuffle == "batches"
        if rank is None and world_size is None:
            rank, world_size = 0, 1  # a sampler shares itself among ranks, as torch's DistributedSampler
    else:
        reshuffle = "batches" if reshuffle is None else reshuffle
        shuffled = shuffle is not False
        n_rows = n_samples
        if plan is not None and plan.order.kind == "explicit":
            raise LoaderError(
                "expected the sampler with which the plan was made: the plan names its samples by their SHA-256 only"
            )
        drawn = SampleOrder.ROWS if shuffle in (False, "batches") else SampleOrder.shuffled(seed)
        assessment = replace(assessment, order=drawn if plan is None else plan.order)
        size, drop_last = assessment.batch_size, assessment.drop_last
        if reshuffle == "samples":
            source = DrawnBatches(seed, n_rows, size, drop_last=drop_last)
        else:
            source = FixedBatches(assessment.order, n_rows, size, drop_last=drop_last)
    name = fingerprint(assessment.order, n_rows, assessment.batch_size, assessment.drop_last)
    return Setup(
        Layout(
            source=source,
            seed=seed,
            shuffled=shuffled,
            reshuffle=reshuffle,
            given=check_place(rank, world_size),
            fingerprint=name,
        ),
        assessment,
        n_rows,
    )


def _sampled(
    assessment: Assessment, sampler: Any, batch_sampler: Any, *, anew: bool
) -> tuple[SamplerBatches, Assessment]:
    """Return the batches that the user's sampler yields, and the assessment of its first reading."""
    source = SamplerBatches(sampler, batch_sampler, assessment.batch_size, drop_last=assessment.drop_last, anew=anew)
    batch_size = assessment.batch_size if batch_sampler is None else source.first.usual_size
    order = SampleOrder.explicit(source.first.ids)
    return source, replace(assessment, batch_size=batch_size, order=order)
