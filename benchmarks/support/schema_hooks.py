"""What schemathesis is told beside the OpenAPI document: real shards, and a check of our own.

It is loaded by schemathesis itself (SCHEMATHESIS_HOOKS), in the process that `benchmarks.schema_check` starts.
"""

import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

from app.ingest import SNIFFED_MEDIA_TYPE
from app.jobs.schemas import ADDRESS_FORM, PATTERN_FORM
from assessor.formats import MEDIA_TYPES
from benchmarks.support.fuzz_seeds import seeds

OBJECTS = "NORMGAUGE_SCHEMA_CHECK_OBJECTS"
"""Environment variable with the folder of objects that the service may read."""
SHAPE_ERRORS = frozenset({"/problems/invalid-request", "/problems/unknown-parameter"})
"""What a request is refused for that is not of the form described."""


def register_shards() -> None:
    """Send good shards of every format where a shard is due, and now and then bytes that are none."""
    good = seeds()
    for media_type, name in MEDIA_TYPES.items():
        if media_type == "application/json":
            continue  # other calls take it too; the document says what its shards are
        schemathesis.openapi.media_type(media_type, _bodies(good[name]))
    schemathesis.openapi.media_type(SNIFFED_MEDIA_TYPE, _bodies([body for bodies in good.values() for body in bodies]))


def register_objects() -> None:
    """Name objects that are there, most of them, where a URI is due."""
    folder = Path(os.environ[OBJECTS])
    there = [file.as_uri() for file in sorted(folder.iterdir())]
    wrong = ["file:///etc/passwd", "s3://data/x.npy", f"{folder.as_uri()}/none.npy", f"{folder.as_uri()}/../x", ""]
    schemathesis.openapi.format(ADDRESS_FORM, st.sampled_from([*there * 4, *wrong]))
    schemathesis.openapi.format(PATTERN_FORM, st.sampled_from([f"{folder.as_uri()}/*.npy"] * 8 + wrong))


def _bodies(good: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.binary(max_size=200))


@schemathesis.check
def described_requests_are_understood(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """A request of the form described is never refused for its form.

    It may be refused for what no schema can say: bytes that are no shard, a threshold that does not go with a method.
    So the built-in check (positive_data_acceptance) takes 422 for an answer, and this one looks at which it is.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    kind = response.json()["type"]
    assert kind not in SHAPE_ERRORS, f"{kind}: {response.json()['detail']}"


register_shards()
register_objects()
