"""Threshold methods: from scores to a cutoff. A batch needs normalization when its score is above it; a tie is skipped.

A threshold is written as a call, `fixed(1.2)` or `max(fixed(0.1), null(0.01))`, and stands so in the plan.
"""

import math
import re
from collections.abc import Callable
from functools import reduce

import numpy as np

from assessor.errors import SettingError
from assessor.measures.scores import Scores
from assessor.moments import Floats
from assessor.registry import Registry

MAX_CHARACTERS = 200
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
TOKEN = re.compile(r"[A-Za-z_]\w*|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[(),]", re.ASCII)

Threshold = Callable[[Scores], "Floats | float"]

thresholds: Registry[Callable[..., Threshold]] = Registry("threshold")


@thresholds.register("fixed")
def fixed(cutoff: float) -> Threshold:
    """Return the threshold with one cutoff for all batches, in the score's unit.

    Raises:
        SettingError: the cutoff is not a finite number.
    """
    if not math.isfinite(cutoff):
        raise SettingError(f"expected a finite cutoff; got {cutoff}")
    return lambda scores: float(cutoff)


@thresholds.register("null")
def null(alpha: float) -> Threshold:
    """Return the threshold at the 1 - alpha quantile of the score when all features are alike.

    Args:
        alpha: share of alike batches that may be flagged, 0 < alpha < 1.

    Raises:
        SettingError: alpha out of its range; on use, a measure that has no null.
    """
    if not 0 < alpha < 1:
        raise SettingError(f"expected 0 < alpha < 1 in null(alpha); got {alpha}")

    def cutoffs(scores: Scores) -> Floats:
        if scores.null_quantile is None:
            raise SettingError(
                f"expected a measure with a null for null({alpha:g}), such as gaussian_divergence; "
                f"got {scores.rule['measure']}: use fixed(cutoff)"
            )
        return scores.null_quantile(alpha)

    return cutoffs


@thresholds.register("max")
def largest(*parts: Threshold) -> Threshold:
    """Return the threshold at the largest of several cutoffs."""
    if not parts:
        raise SettingError("expected at least one threshold in max(...); got none")
    return lambda scores: reduce(np.maximum, [np.asarray(part(scores)) for part in parts])


def parse_threshold(text: str | float) -> tuple[str, Threshold]:
    """Return the canonical text and the threshold that it names.

    Args:
        text: a number, meaning fixed(number), or calls of registered thresholds.

    Raises:
        SettingError: not of that form. UnknownNameError: a threshold that is not registered.

    >>> parse_threshold("max(fixed(.1),null(0.01))")[0], parse_threshold(2)[0]
    ('max(fixed(0.1), null(0.01))', 'fixed(2)')
    """
    if isinstance(text, str):
        return _Reader(text).read()
    if isinstance(text, bool) or not isinstance(text, int | float | np.integer | np.floating):
        raise SettingError(f"expected a threshold such as 1.0 or 'fixed(1.0)'; got {text!r:.80}")
    try:
        number = float(text)
    except OverflowError:
        number = math.inf
    return f"fixed({_write(number)})", fixed(number)


def _write(number: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


class _Reader:
    """Reads a number, or a call: name "(" argument, ... ")", where arguments are numbers or calls."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        if len(self._text) > MAX_CHARACTERS:
            raise SettingError(
                f"expected a threshold of at most {MAX_CHARACTERS} characters; got {len(self._text)}: shorten it"
            )
        self._tokens: list[str] = TOKEN.findall(self._text)
        if "".join(self._tokens) != re.sub(r"\s", "", self._text):
            raise self._error()

    def read(self) -> tuple[str, Threshold]:
        """Return the canonical text and the threshold."""
        text, value = self._argument()
        if self._tokens:
            raise self._error()
        if isinstance(value, float):
            return f"fixed({text})", fixed(value)
        return text, value

    def _argument(self) -> tuple[str, float | Threshold]:
        token = self._take()
        if NAME.fullmatch(token):
            return self._call(token)
        try:
            number = float(token)
        except ValueError:
            raise self._error() from None
        return _write(number), number

    def _call(self, name: str) -> tuple[str, Threshold]:
        factory = thresholds.get(name)
        if self._take() != "(":
            raise self._error()
        texts: list[str] = []
        arguments: list[float | Threshold] = []
        while self._tokens[:1] != [")"]:
            if texts and self._take() != ",":
                raise self._error()
            text, value = self._argument()
            texts.append(text)
            arguments.append(value)
        self._take()
        wants_parts = name == "max"
        if any(callable(argument) != wants_parts for argument in arguments):
            raise self._error()
        try:
            threshold = factory(*arguments)
        except TypeError:
            raise self._error() from None
        return f"{name}({', '.join(texts)})", threshold

    def _take(self) -> str:
        if not self._tokens:
            raise self._error()
        return self._tokens.pop(0)

    def _error(self) -> SettingError:
        return SettingError(
            "expected a threshold: a number, or one of "
            f"{', '.join(f'{name}(...)' for name in thresholds.names())}, such as 'max(fixed(0.1), null(0.01))'; "
            f"got {self._text!r}"
        )
