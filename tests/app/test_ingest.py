"""The reader of shard bodies under whatever bytes come: an answer or a refusal in words, never a crash."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingest import ShardReader
from app.problems import KINDS, ProblemError
from app.settings import Settings
from assessor import AssessorError, profile_array
from tests.app.support import npy, npy_head, rows, safetensors

SETTINGS = Settings(max_features=1000, max_rows=1000)
BODIES = (npy(rows(20)), safetensors(rows(20), np.arange(20)))


def read(pieces: Sequence[bytes], *, settings: Settings = SETTINGS, first_row: int = 0) -> bytes:
    """Return the profile of a body that comes in these pieces, as bytes."""
    reader = ShardReader(batch_sizes=[4], feature_axis="element", settings=settings, first_row=first_row)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish().profile.to_bytes()


def refusal_of(body: bytes) -> AssessorError | ProblemError | None:
    """Return the error with which a body is refused, None where it is read."""
    try:
        read([body])
    except (AssessorError, ProblemError) as error:
        return error
    return None


@given(st.lists(st.integers(9, len(BODIES[0]) - 1), max_size=6))
def test_any_cut_of_the_body_gives_the_same_profile(cuts: list[int]) -> None:
    body = BODIES[0]
    edges = [0, *sorted(set(cuts)), len(body)]
    pieces = [body[start:stop] for start, stop in pairwise(edges)]
    assert read(pieces) == profile_array(rows(20), batch_sizes=[4]).to_bytes()


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_in_words(body: bytes) -> None:
    refusal = refusal_of(body) if body else None
    if refusal is None:
        assert not body or body.lstrip().startswith((b"[", b"{")), (
            "of all formats only JSON is made of so few random bytes"
        )
        return
    assert refusal.code in KINDS
    assert "expected" in str(refusal)


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(AssessorError, match="expected a shard; got an empty body"):
        read([])


@given(st.sampled_from(BODIES), st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_heads_are_read_or_refused(body: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(body)
    for place, value in changes:
        damaged[place] = value
    refusal = refusal_of(bytes(damaged))
    assert refusal is None or refusal.code in KINDS
    assert refusal is None or "expected" in str(refusal)


def test_promised_rows_are_not_allocated() -> None:
    with pytest.raises(AssessorError, match="cut off"):
        read([npy_head((10**15, 6)) + rows(1).tobytes()])


def test_rows_are_counted_as_they_come() -> None:
    with pytest.raises(ProblemError, match="at most 1000 rows"):
        read([npy_head((10**15, 6)) + rows(1001).tobytes()])
    with pytest.raises(ProblemError, match="at most 1000 rows"):
        read([npy(rows(20))], first_row=981)
    assert read([npy(rows(20))], first_row=980)


def test_features_are_limited() -> None:
    with pytest.raises(ProblemError, match=r"at most 1000 values; got shape \(1001,\), .*NORMGAUGE_MAX_FEATURES"):
        read([npy(rows(2, features=1001))])
    assert read([npy(rows(2, features=1000))])


@pytest.mark.parametrize(
    "body", [npy_head((1, 2**24 + 1), "|u1"), safetensors(np.zeros((1, 2**24 + 1), np.uint8))[:200]]
)
def test_the_limit_on_features_may_be_raised_above_the_decoders(body: bytes) -> None:
    with pytest.raises(AssessorError, match="cut off"):
        read([body], settings=Settings(max_features=2**25))  # refused as cut off, not for its samples
