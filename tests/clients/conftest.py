"""A real service for the clients to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.serving import running
from app.settings import Settings


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a service with an empty database."""
    folder: Path = tmp_path_factory.mktemp("service")
    settings = Settings(port=0, database_url=f"sqlite:///{folder / 'service.db'}")
    with running(settings) as url:
        yield url
