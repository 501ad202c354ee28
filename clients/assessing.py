"""From a dataset to its plan: in this process, or against a service."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from assessor import Plan, Profiler, SampleOrder, make_plan, methods
from clients.errors import ClientError
from clients.reading import Block, read_blocks
from clients.samples import InputKey

if TYPE_CHECKING:
    from clients.http import AssessorClient

# One shard's rows are held at once on the way to the service.
SHARD_BYTES = 32 * 2**20


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What to assess, and how: everything that a plan depends on beside the data.

    Attributes:
        batch_size: samples a batch.
        drop_last: leave out the last batch when it is not full.
        order: how the samples are laid out into batches.
        method: the assessor's method.
        threshold: None for the method's own.
        feature_axis: "element" or "channel".
        options: the method's further options.
        input_key: what is scored of a sample.
        label_key: a sample's label.
    """

    batch_size: int
    drop_last: bool
    order: SampleOrder
    method: str = "need"
    threshold: float | str | None = None
    feature_axis: str = "element"
    options: Mapping[str, Any] = field(default_factory=dict)
    input_key: InputKey = None
    label_key: InputKey = None

    def run(
        self,
        dataset: Any,
        *,
        service: "AssessorClient | str | None",
        arguments: Mapping[str, Any],
        progress: bool | None,
    ) -> Plan:
        """Return the plan of a dataset after one pass over it.

        Args:
            dataset: a map-style dataset.
            service: a client or a URL of the service that assesses; None assesses here.
            arguments: the user's DataLoader arguments, for reading.
            progress: a bar on stderr; None shows it on a terminal only.
        """
        ids = self.order.ids(len(dataset))
        blocks = read_blocks(
            dataset,
            ids,
            input_key=self.input_key,
            label_key=self.label_key,
            arguments=arguments,
        )
        # tqdm reads None as "on a terminal only"
        quiet = None if progress is None else not progress
        bar = tqdm(total=len(ids), desc="assessing", unit=" samples", disable=quiet)
        # closing: after an error the workers end now, not when its traceback is collected
        with closing(blocks), bar:
            counted = _counted(blocks, bar)
            if service is None:
                return self._here(counted)
            if isinstance(service, str):
                from clients.http import AssessorClient  # so that assessing here needs no httpx

                with AssessorClient(service) as client:
                    return self._there(client, counted, type(dataset).__name__)
            return self._there(service, counted, type(dataset).__name__)

    def _here(self, blocks: Iterable[Block]) -> Plan:
        methods.get(self.method)  # an unknown name is told before the pass, not after it
        profiler = Profiler(batch_sizes=[self.batch_size], feature_axis=self.feature_axis)
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

    def _there(self, client: "AssessorClient", blocks: Iterable[Block], name: str) -> Plan:
        info = client.create_assessment(
            name,
            [self.batch_size],
            method=self.method,
            feature_axis=self.feature_axis,
            order=self.order,
        )
        try:
            return self._sent(client, info.id, blocks)
        except BaseException:
            # an assessment without all its rows is of no use to anyone
            with suppress(ClientError):
                client.delete_assessment(info.id)
            raise

    def _sent(self, client: "AssessorClient", assessment_id: str, blocks: Iterable[Block]) -> Plan:
        first_row = 0
        for index, shard in enumerate(_shards(blocks)):
            client.put_shard(assessment_id, index, shard.x, shard.labels, first_row=first_row)
            first_row += len(shard.x)
        return client.plan(
            assessment_id,
            batch_size=self.batch_size,
            method=self.method,
            threshold=self.threshold,
            drop_last=self.drop_last,
            **self.options,
        )


def _counted(blocks: Iterable[Block], bar: "tqdm[Any]") -> Iterator[Block]:
    for block in blocks:
        yield block
        bar.update(len(block.x))


def _shards(blocks: Iterable[Block]) -> Iterator[Block]:
    held: list[Block] = []
    size_bytes = 0
    for block in blocks:
        held.append(block)
        size_bytes += block.x.nbytes
        if size_bytes >= SHARD_BYTES:
            yield _joined(held)
            held, size_bytes = [], 0
    if held:
        yield _joined(held)


def _joined(blocks: list[Block]) -> Block:
    labels = [block.labels for block in blocks if block.labels is not None]
    return Block(
        np.concatenate([block.x for block in blocks]),
        np.concatenate(labels) if labels else None,
    )
