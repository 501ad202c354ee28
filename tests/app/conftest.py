"""A real server in a thread, for all tests of one process; each test makes its own assessments."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.serving import running
from app.settings import Settings
from tests.app.support import create


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a server with default limits."""
    with running(file_settings(tmp_path_factory.mktemp("service"))) as url:
        yield url


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=server_url, timeout=30) as client:
        yield client


@pytest.fixture
def assessment(client: httpx.Client) -> str:
    """Path of a new assessment with batch size 4."""
    return create(client)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a server of the test's own."""
    return file_settings(tmp_path)


def file_settings(folder: Path) -> Settings:
    """Return settings with a database in `folder` and a free port."""
    return Settings(database_url=f"sqlite:///{folder}/normgauge.db", port=0)
