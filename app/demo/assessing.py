"""Send a dataset to the service as a pipeline would, and fetch its plans."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from app.demo.variants import Variant
from assessor import Plan
from clients import AssessorClient

BATCH_SIZES = (4, 32)
METHODS = ("need", "heterogeneity", "published")
CUTS = (331, 702, 1049, 1433)
"""Rows at which the shards begin: no multiples of a batch size, so that shards cut batches."""
ARRIVAL = (3, 0, 4, 1, 2)
"""The order in which the shards are sent: not the order in which they are numbered."""


def send(client: AssessorClient, variant: Variant) -> str:
    """Send the variant as five binary shards out of order; return the assessment's id."""
    assessment = client.create_assessment(variant.name, BATCH_SIZES)
    edges = (0, *CUTS, len(variant.x))
    for index in tqdm(ARRIVAL, desc=f"shards of {variant.name}", unit="shard", disable=None, leave=False):
        rows = slice(edges[index], edges[index + 1])
        client.put_shard(
            assessment.id,
            index,
            np.ascontiguousarray(variant.x[rows]),
            labels=variant.y[rows],
            first_row=edges[index],
        )
    return assessment.id


def fetch(client: AssessorClient, assessment_id: str) -> list[Plan]:
    """Return the plans for every batch size and method."""
    return [client.plan(assessment_id, batch_size=size, method=method) for size in BATCH_SIZES for method in METHODS]


def told_apart(variant: Variant, plans: Sequence[Plan]) -> list[tuple[Plan, float]]:
    """Return for each plan the share of batches whose decision is right, where the right one is known by source."""
    result = []
    for plan in plans:
        needy = variant.needy_batches(plan.batch_size)
        if needy is not None:
            result.append((plan, float((plan.normalize == needy).mean())))
    return result
