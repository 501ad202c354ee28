"""Threshold methods: from scores to a cutoff. A batch needs normalization when its score is above it; a tie is skipped.

A threshold is written as a call, `fixed(1.2)` or `max(fixed(0.1), null(0.01))`, and stands so in the plan.
"""

import ast
import math
from collections.abc import Callable
from functools import reduce
from typing import cast

import numpy as np

from assessor.errors import SettingError
from assessor.measures.scores import Scores
from assessor.moments import Floats
from assessor.registry import Registry

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
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise SettingError(f"expected a threshold such as 1.0 or 'fixed(1.0)'; got {text!r}")
    source = text if isinstance(text, str) else f"{text!r}"
    try:
        number = float(source)
    except ValueError:
        try:
            tree = ast.parse(source[:200].strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _not_a_threshold(source) from None
        return _build(tree, source)
    return f"fixed({number:g})", fixed(number)


def _build(node: ast.expr, source: str) -> tuple[str, Threshold]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
        raise _not_a_threshold(source)
    factory = thresholds.get(node.func.id)
    texts: list[str] = []
    arguments: list[float | Threshold] = []
    for argument in node.args:
        sign = 1.0
        if isinstance(argument, ast.UnaryOp) and isinstance(argument.op, ast.USub):
            sign, argument = -1.0, argument.operand
        if isinstance(argument, ast.Constant) and type(argument.value) in (int, float):
            value = sign * float(cast(float, argument.value))
            texts.append(f"{value:g}")
            arguments.append(value)
        else:
            part_text, part = _build(argument, source)
            texts.append(part_text)
            arguments.append(part)
    wants_parts = node.func.id == "max"
    if any(callable(argument) != wants_parts for argument in arguments):
        raise _not_a_threshold(source)
    try:
        threshold = factory(*arguments)
    except TypeError:
        raise _not_a_threshold(source) from None
    return f"{node.func.id}({', '.join(texts)})", threshold


def _not_a_threshold(source: str) -> SettingError:
    return SettingError(
        "expected a threshold: a number, or one of "
        f"{', '.join(f'{name}(...)' for name in thresholds.names())}, such as 'max(fixed(0.1), null(0.01))'; "
        f"got {source[:200]!r}"
    )
