"""A real server in a thread, for all tests of one process; each test makes its own assessments.

A module marked `databases` runs on SQLite and on PostgreSQL; the others, which store nothing or nothing of their own,
on SQLite.
"""

import inspect
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest

from app.serving import running
from app.settings import Settings
from tests.app.databases import KINDS, postgresql_databases
from tests.app.support import create

# The server closes a connection that was idle for 5 s, and a client that takes it up just then fails. By default httpx
# would keep one for 5 s too.
inspect.signature(httpx.Client).parameters["limits"].default.keepalive_expiry = 2.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests marked `databases` on each kind of database."""
    if "database_kind" in metafunc.fixturenames and metafunc.definition.get_closest_marker("databases"):
        metafunc.parametrize("database_kind", KINDS, indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Leave the process's logging as it was: `normgauge serve` and servers send it to a stream that ends with a test.

    What a later test logged to it would fail, and the traceback would be on that test's standard error.
    """
    loggers = [logging.getLogger(name) for name in (None, "normgauge", "uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database that a test runs on."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """A function that makes an empty PostgreSQL database and returns its URL."""
    with postgresql_databases() as make:
        yield make


@pytest.fixture(scope="session")
def make_database(
    database_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """A function that makes an empty database of the kind and returns its URL."""
    if database_kind == "postgresql":
        make: Callable[[], str] = request.getfixturevalue("postgresql")
        return make
    return lambda: f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/normgauge.db"


@pytest.fixture(scope="session")
def server_url(make_database: Callable[[], str]) -> Iterator[str]:
    """Base URL of a server with default limits."""
    with running(Settings(database_url=make_database(), port=0)) as url:
        yield url


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=server_url, timeout=120) as client:
        yield client


@pytest.fixture
def assessment(client: httpx.Client) -> str:
    """Path of a new assessment with batch size 4."""
    return create(client)


@pytest.fixture
def settings(make_database: Callable[[], str]) -> Settings:
    """Settings of a server of the test's own: an empty database and a free port."""
    return Settings(database_url=make_database(), port=0)
