"""Every example in a docstring runs."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import clients

MODULES = [f"clients.{module.name}" for module in pkgutil.iter_modules(clients.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0
