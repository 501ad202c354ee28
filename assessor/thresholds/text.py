"""Thresholds as text: read, checked, and written in one canonical way. Nothing in a text is ever run."""

import inspect
import math
import re

import numpy as np

from assessor.errors import SettingError
from assessor.thresholds.given import fixed
from assessor.thresholds.registered import Threshold, thresholds

MAX_CHARACTERS = 200
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
TOKEN = re.compile(r"[A-Za-z_]\w*|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[(),]", re.ASCII)

SHORT = re.compile(r"([A-Za-z_]\w*):([^():]+)", re.ASCII)


def parse_threshold(text: str | float) -> tuple[str, Threshold]:
    """Return the canonical text and the threshold that it names.

    Args:
        text: a number, meaning fixed(number), or calls of registered thresholds ("otsu" is otsu()); "quantile:0.9" is
            "quantile(0.9)", for shells in which parentheses need quotation marks.

    Raises:
        SettingError: not of that form. UnknownNameError: a threshold that is not registered.

    >>> parse_threshold("max(.1,null(0.01))")[0], parse_threshold(2)[0], parse_threshold("quantile:.9")[0]
    ('max(fixed(0.1), null(0.01))', 'fixed(2)', 'quantile(0.9)')
    """
    if isinstance(text, str):
        stripped = text.strip()
        if short := SHORT.fullmatch(stripped):
            return _Reader(f"{short[1]}({short[2]})", text).read()
        return _Reader(f"{stripped}()" if _needs_nothing(stripped) else text).read()
    if isinstance(text, bool) or not isinstance(text, int | float | np.integer | np.floating):
        raise SettingError(f"expected a threshold such as 1.0 or 'fixed(1.0)'; got {text!r:.80}")
    try:
        number = float(text)
    except OverflowError:
        number = math.inf
    return f"fixed({_write(number)})", fixed(number)


def _needs_nothing(name: str) -> bool:
    """Whether this is a registered threshold without arguments, so that its name alone will do."""
    return name in thresholds.names() and not inspect.signature(thresholds.get(name)).parameters


def _write(number: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


class _Reader:
    """Reads a number, or a call: name "(" argument, ... ")", where arguments are numbers or calls."""

    def __init__(self, text: str, given: str | None = None) -> None:
        self._given = text if given is None else given
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
        if name == "max":  # of thresholds, where a number is a fixed one
            texts = [text if callable(part) else f"fixed({text})" for text, part in zip(texts, arguments, strict=True)]
            arguments = [part if callable(part) else fixed(part) for part in arguments]
        elif any(map(callable, arguments)):
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
            f"got {self._given.strip()!r}"
        )
