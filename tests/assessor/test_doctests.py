import doctest
import importlib
import pkgutil

import pytest

import assessor

MODULES = sorted(["assessor", *(module.name for module in pkgutil.walk_packages(assessor.__path__, "assessor."))])


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 15
