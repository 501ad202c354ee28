"""timm itself, where torchvision is missing too.

timm imports names of torchvision when it is loaded: for reading data, and one class that it asks `isinstance` about.
The models use none of them. torchvision's builds go with one build of torch each, and for one without a GPU there may
be none; so where it cannot be found, a finder that lives for this import alone gives placeholders, which can be named
and subclassed but neither made nor called.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

import pytest


class _Placeholder(type):
    """A class of torchvision's name; its attributes are distinct words."""

    def __getattr__(cls, name: str) -> str:
        return f"{cls.__name__}.{name}"

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.__module__ == __name__:
            raise AssertionError(f"the test used torchvision's {cls.__name__}, which stands here for its name only")
        return super().__call__(*args, **kwargs)


class _Torchvision(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        mine = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if mine else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)

        def attribute(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Placeholder(name, (), {"__module__": __name__})

        module.__getattr__ = attribute  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def import_timm() -> Any:
    """Return timm; skip the test, visibly, where it is not installed."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install --no-deps timm (its torchvision need not be there)")
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")
    finder = _Torchvision()
    sys.meta_path.append(finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's own, about modules that it has moved
            return importlib.import_module("timm")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
