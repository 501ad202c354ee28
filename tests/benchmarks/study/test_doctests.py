"""The examples in the study's docstrings hold."""

import doctest
import pkgutil
from importlib import import_module

import pytest

from benchmarks import study

MODULES = sorted(found.name for found in pkgutil.walk_packages(study.__path__, "benchmarks.study."))


def test_there_are_examples() -> None:
    for name in ("benchmarks.study.wording", "benchmarks.study.intervals"):
        assert doctest.testmod(import_module(name)).attempted


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_documented_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0
