"""The service's settings, each from an environment variable NORMGAUGE_<NAME>."""

import os
from collections.abc import Mapping

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

PREFIX = "NORMGAUGE_"
OTHER_VARIABLES = frozenset({"NORMGAUGE_KERNEL", "NORMGAUGE_THREADS", "NORMGAUGE_CACHE_DIR"})
"""Read by the assessor and the loader, with or without a service."""


class Settings(BaseSettings):
    """What the service may use and where it keeps its data; every limit has a default.

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")

    >>> Settings(port=9000).port
    9000
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: str = Field(
        default="sqlite:///normgauge.db",
        description="SQLAlchemy URL of the database; SQLite files are opened in WAL mode.",
    )
    migrate_at_start: bool = Field(
        default=True, description="Bring the database's tables up to date at start; else run normgauge db upgrade."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_body_bytes: int = Field(
        default=8 * 2**30, ge=1, description="Largest shard body; shards are streamed, so this is no memory."
    )
    max_spool_bytes: int = Field(
        default=2 * 2**30,
        ge=1,
        description="Largest npz or Parquet body, or Arrow record batch; kept in the temporary folder while it comes.",
    )
    max_decoded_bytes: int = Field(
        default=16 * 2**30, ge=1, description="Most bytes that a compressed body may grow to; they are never held."
    )
    max_json_bytes: int = Field(default=2**20, ge=1, description="Largest body of any other call.")
    max_header_bytes: int = Field(default=2**16, ge=1024, description="Largest request line and headers.")
    max_rows: int = Field(default=50_000_000, ge=1, description="Most rows in an assessment.")
    max_features: int = Field(default=2**20, ge=1, description="Most values in one sample.")
    max_shards: int = Field(default=100_000, ge=1, description="Most shards in an assessment.")
    max_batch_size: int = Field(default=65_536, ge=1, description="Largest batch size that is profiled.")
    max_batch_sizes: int = Field(default=16, ge=1, description="Most batch sizes in an assessment.")
    piece_bytes: int = Field(
        default=2**20, ge=4096, description="Bytes of a body that are handed to a worker thread at a time."
    )
    body_idle_timeout_s: float = Field(default=60.0, gt=0, description="Longest wait for the next bytes of a body.")
    busy_timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for another writer of the SQLite file.")
    cached_profiles: int = Field(
        default=4, ge=0, description="Merged profiles kept in memory, so that another plan merges nothing."
    )
    worker_threads: int = Field(
        default_factory=lambda: max(4, os.cpu_count() or 1),
        ge=1,
        description="Threads that profile bodies and make plans; default: the CPUs, 4 at least.",
    )

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        try:
            url = make_url(value)
        except ArgumentError:
            raise ValueError(
                "expected an SQLAlchemy URL such as sqlite:////data/normgauge.db or postgresql://user@host/normgauge"
            ) from None
        if url.drivername not in _DRIVERS:
            raise ValueError(f"expected a database of the kinds {', '.join(_DRIVERS)}; got {url.drivername}")
        in_memory = url.database in (None, "", ":memory:") or url.query.get("mode") == "memory"
        if url.get_backend_name() == "sqlite" and in_memory:
            raise ValueError(
                "expected a file, since an acknowledged shard must survive the process: "
                "name one, as in sqlite:////data/normgauge.db"
            )
        return value


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that begin like a setting but name none, sorted: most likely typing errors.

    >>> unknown_variables({"NORMGAUGE_PROT": "1", "NORMGAUGE_PORT": "1", "HOME": "/"})
    ['NORMGAUGE_PROT']
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
