"""A service with keys, and clients that have one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx

from app.auth import Keys
from app.serving import running
from app.settings import Settings
from app.storage import Store


@dataclass
class Tenancy:
    """A running service and its table of keys, as another process has it."""

    url: str
    keys: Keys

    def make_key(self, name: str, *, expires_at: datetime | None = None) -> str:
        """Return the text of a new key."""
        return str(self.keys.create(name, expires_at=expires_at)[1])

    @contextmanager
    def client(self, key: str | None) -> Iterator[httpx.Client]:
        """Give a client that sends a key."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=120) as client:
            yield client

    def tenant(self, name: str) -> httpx.Client:
        """Return the client of a new tenant; the caller closes it."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.make_key(name)}"}, timeout=120)


@contextmanager
def tenancy(settings: Settings) -> Iterator[Tenancy]:
    """Run a service for tenants while the block runs."""
    with closing(Store(settings)) as store:
        store.migrate()
        with running(settings) as url:
            yield Tenancy(url, Keys(store.engine))
