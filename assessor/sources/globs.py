"""Patterns for keys: `*`, `?` and `[abc]` within a part of the path, `**` for any number of parts."""

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache

from assessor.sources.uris import SourceUri

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(key: str) -> bool:
    """Return whether a key has characters that stand for others.

    >>> is_pattern("digits/part-*.npy"), is_pattern("digits/part-0.npy")
    (True, False)
    """
    return _MAGIC.search(key) is not None


def base_of(pattern: SourceUri) -> SourceUri:
    """Return the folder that holds all a pattern can match: the parts before the first that stands for others.

    >>> str(base_of(SourceUri.parse("s3://data/digits/part-*/x.npy")))
    's3://data/digits'
    """
    literal: list[str] = []
    for segment in pattern.segments[:-1]:
        if is_pattern(segment):
            break
        literal.append(segment)
    return SourceUri(pattern.scheme, pattern.container, "/".join(literal))


def matches(key: str, pattern: str) -> bool:
    """Return whether a pattern matches the whole key; takes time in proportion to both lengths at most.

    >>> matches("a/b/part-7.npy", "a/**/part-?.npy"), matches("a/b.npy", "*.npy")
    (True, False)
    """
    return _match(key.split("/"), pattern.split("/"))


def _match(segments: Sequence[str], patterns: Sequence[str]) -> bool:
    # reached[i]: the patterns so far match the first i segments.
    reached = [True] + [False] * len(segments)
    for pattern in patterns:
        following = [False] * len(reached)
        if pattern == "**":
            for i in range(len(reached)):
                following[i] = reached[i] or (i > 0 and following[i - 1])
        else:
            expression = _compiled(pattern)
            for i, segment in enumerate(segments):
                following[i + 1] = reached[i] and expression.fullmatch(segment) is not None
        reached = following
    return reached[-1]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))
