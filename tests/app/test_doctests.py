"""The examples in the docstrings run as written."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "name", ["app.comparing", "app.making", "app.outcome", "app.rescoring", "app.settings", "app.tables"]
)
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted
    assert not result.failed
