"""From a dataset to its plan: in this process, or against a service."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from assessor import Plan, Profile, Profiler, SampleOrder, SettingError, fingerprint, make_plan, measures
from assessor.advice import check_network
from assessor.methods import choose
from assessor.thresholds import parse_threshold
from clients.reading import Block, read_blocks
from clients.remote import assess_there
from clients.samples import InputKey

if TYPE_CHECKING:
    from clients.http import AssessorClient


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What to assess, and how: everything that a plan depends on beside the data.

    Attributes:
        batch_size: samples a batch.
        drop_last: leave out the last batch when it is not full.
        order: how the samples are laid out into batches.
        method: the assessor's method; or a measure, where there is a threshold.
        threshold: None for the method's own.
        feature_axis: "element" or "channel".
        nonfinite: what becomes of samples that hold NaN or infinity: "raise", "exclude" or "normalize", as in
            `assessor.Profiler`.
        reference: of earlier data, for the measure `population_divergence`.
        options: the method's further options.
        input_key: what is scored of a sample.
        label_key: a sample's label.
    """

    batch_size: int
    drop_last: bool
    order: SampleOrder = SampleOrder.ROWS
    method: str = "need"
    threshold: float | str | None = None
    feature_axis: str = "element"
    nonfinite: str = "raise"
    reference: Profile | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    input_key: InputKey = None
    label_key: InputKey = None

    def settings(self, n_rows: int) -> dict[str, Any]:
        """Return what a plan depends on beside the data, JSON-able."""
        return {
            "fingerprint": fingerprint(self.order, n_rows, self.batch_size, self.drop_last),
            "method": self.method,
            "threshold": self.threshold,
            "feature_axis": self.feature_axis,
            "nonfinite": self.nonfinite,
            "options": dict(self.options),
            "reference": None if self.reference is None else hashlib.sha256(self.reference.to_bytes()).hexdigest(),
        }

    def run(
        self,
        dataset: Any,
        ids: NDArray[np.int64],
        *,
        service: "AssessorClient | str | None",
        arguments: Mapping[str, Any],
        progress: bool | None,
        name: str | None = None,
    ) -> Plan:
        """Return the plan of a dataset after one pass over it.

        Args:
            dataset: a map-style dataset.
            ids: its samples in the order of assessment.
            service: a client or a URL of the service that assesses; None assesses here.
            arguments: the user's DataLoader arguments, for reading.
            progress: a bar on stderr; None shows it on a terminal only.
            name: of the content, by which an interrupted assessment at the service is found again.
        """
        check_method(self.method, self.threshold, self.options)

        def passed(use: Callable[[Iterable[Block]], Plan]) -> Plan:
            blocks = read_blocks(
                dataset,
                ids,
                input_key=self.input_key,
                label_key=self.label_key,
                arguments=arguments,
                all_finite=self.nonfinite == "raise",
            )
            # tqdm reads None as "on a terminal only"
            quiet = None if progress is None else not progress
            bar = tqdm(total=len(ids), desc="assessing", unit=" samples", disable=quiet)
            # closing: after an error the workers end now, not when its traceback is collected
            with closing(blocks), bar:
                return use(_counted(blocks, bar))

        if service is None:
            return passed(self._here)
        called = f"{type(dataset).__name__} {name[:16]}" if name else type(dataset).__name__
        if isinstance(service, str):
            from clients.http import AssessorClient  # so that assessing here needs no httpx

            with AssessorClient(service) as client:
                return assess_there(client, self, called, passed)
        return assess_there(service, self, called, passed)

    def _here(self, blocks: Iterable[Block]) -> Plan:
        profiler = Profiler(
            batch_sizes=[self.batch_size],
            feature_axis=self.feature_axis,
            reference=self.reference,
            nonfinite=self.nonfinite,
        )
        for block in blocks:
            profiler.add(block.x)
            if block.labels is not None:
                profiler.add_labels(block.labels)
        return make_plan(
            profiler.finish(),
            method=self.method,
            batch_size=self.batch_size,
            threshold=self.threshold,
            drop_last=self.drop_last,
            order=self.order,
            **self.options,
        )


def check_method(method: str, threshold: float | str | None, options: Mapping[str, Any]) -> None:
    """Check what says how scores are made and cut, before a pass over the data and not after it.

    Raises:
        UnknownNameError: no such method, measure or threshold.
        SettingError: an option that the method does not take, a cutoff that is no number.
    """
    measure, chosen = choose(method, threshold)
    parse_threshold(chosen)
    check_network(options.get("network"))
    known = measures.get(measure).options | {"network"}
    if unknown := sorted(set(options) - known):
        raise SettingError(
            f"expected options of method {method!r} among: {', '.join(sorted(known))}; got {', '.join(unknown)}"
        )


def _counted(blocks: Iterable[Block], bar: "tqdm[Any]") -> Iterator[Block]:
    for block in blocks:
        yield block
        bar.update(len(block.x))
