"""No deadline for Hypothesis: a busy machine is no fault of the code. Random numbers that depend on no other test."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _own_numbers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds its module's generator as the import left it, whatever tests ran before in this process."""
    module: ModuleType = request.module
    generator = getattr(module, "RNG", None)
    if not isinstance(generator, np.random.Generator):
        yield
        return
    before = generator.bit_generator.state
    yield
    generator.bit_generator.state = before
