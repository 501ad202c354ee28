"""Assessing at a service: a dataset's blocks go out as shards, the plan comes back.

What the service has of an assessment stays when an upload is interrupted. The assessment's name
tells its content, so the same call finds it again and sends only what is missing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from assessor import AssessorError, Plan, methods
from clients.errors import ClientError, LoaderError, RemoteOverlapError, ShardConflictError
from clients.reading import Block
from clients.resources import AssessmentInfo
from clients.uploading import Shard

if TYPE_CHECKING:
    from clients.assessing import Assessment
    from clients.http import AssessorClient

# Of one shard; UPLOADS of them, and the one being read, are held at once.
SHARD_BYTES = 32 * 2**20
UPLOADS = 2

Pass = Callable[[Callable[[Iterable[Block]], Plan]], Plan]


def assess_there(client: "AssessorClient", assessment: "Assessment", name: str, passed: Pass) -> Plan:
    """Return the plan that the service makes.

    Args:
        client: of the service.
        assessment: what to assess, and how.
        name: of the assessment.
        passed: calls a function with the dataset's blocks, in one pass, and returns its result.
    """
    found = _find(client, assessment, name)
    if found is not None:
        try:
            return passed(lambda blocks: _sent(client, assessment, found.id, blocks))
        except (ShardConflictError, RemoteOverlapError):
            client.delete_assessment(found.id)  # of other content after all: begin again
    info = client.create_assessment(
        name,
        [assessment.batch_size],
        method=_own_method(assessment),
        feature_axis=assessment.feature_axis,
        nonfinite=assessment.nonfinite,
        order=assessment.order,
    )
    try:
        return passed(lambda blocks: _sent(client, assessment, info.id, blocks))
    except (AssessorError, LoaderError):
        # another try would meet the same; an assessment without all its rows is of no use to anyone
        with suppress(ClientError):
            client.delete_assessment(info.id)
        raise
    except BaseException as error:
        error.add_note(f"what the service has of assessment {info.id} is kept: the same call sends the rest")
        raise


def _find(client: "AssessorClient", assessment: "Assessment", name: str) -> AssessmentInfo | None:
    for info in client.list_assessments():
        same = (info.batch_sizes, info.method, info.feature_axis, info.nonfinite, info.order) == (
            (assessment.batch_size,),
            _own_method(assessment),
            assessment.feature_axis,
            assessment.nonfinite,
            assessment.order,
        )
        if same and info.name == name:
            return info
    return None


def _own_method(assessment: "Assessment") -> str:
    """Return the method that the service notes of an assessment; a measure is named when the plan is fetched."""
    return assessment.method if assessment.method in methods.names() else "need"


def _sent(client: "AssessorClient", assessment: "Assessment", assessment_id: str, blocks: Iterable[Block]) -> Plan:
    client.put_shards(assessment_id, _shards(blocks), parallel=UPLOADS)
    return client.plan(
        assessment_id,
        batch_size=assessment.batch_size,
        method=assessment.method,
        threshold=assessment.threshold,
        drop_last=assessment.drop_last,
        **assessment.options,
    )


def _shards(blocks: Iterable[Block]) -> Iterator[Shard]:
    first_row = 0
    for index, block in enumerate(_joined_blocks(blocks)):
        yield Shard(index, block.x, block.labels, first_row)
        first_row += len(block.x)


def _joined_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
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
