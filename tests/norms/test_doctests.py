import doctest
import importlib
import pkgutil

import pytest

import norms

MODULES = [info.name for info in pkgutil.walk_packages(norms.__path__, "norms.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
