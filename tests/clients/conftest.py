"""A real service for the clients to talk to; random numbers that depend on no other test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.serving import running
from app.settings import Settings


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a service with an empty database."""
    folder: Path = tmp_path_factory.mktemp("service")
    settings = Settings(port=0, database_url=f"sqlite:///{folder / 'service.db'}")
    with running(settings) as url:
        yield url
