"""The service's settings, each from an environment variable NORMGAUGE_<NAME>, secrets also from a file."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from limits import parse as parse_rate
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.observability.logs import LogFormat
from app.secret_files import SECRET, SUFFIX, SecretFileSource, is_secret
from assessor.execution import engines
from assessor.kernels import usable_processors
from assessor.sources import SourceUri, StoreSettings

PREFIX = "NORMGAUGE_"
OTHER_VARIABLES = frozenset(
    f"{PREFIX}{name}" for name in ("KERNEL", "THREADS", "CACHE_DIR", "NORM_KERNEL", "STUDY_DATA")
)
"""Read by the assessor, the loader, the norms and the study, with or without a service."""

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")


class Settings(BaseSettings):
    """What the service may use and where it keeps its data; every limit has a default.

    >>> Settings(port=9000).port
    9000
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", allow_inf_nan=False)

    database_url: str = Field(
        default="sqlite:///normgauge.db",
        description="SQLAlchemy URL of the database; SQLite files are opened in WAL mode.",
        json_schema_extra=SECRET,
    )
    migrate_at_start: bool = Field(
        default=True, description="Bring the database's tables up to date at start; else run normgauge db upgrade."
    )
    retention_days: float = Field(
        default=30.0,
        ge=0,
        le=36_500,
        description="Days after its last shard after which an assessment is removed; 0: never.",
    )
    sweep_interval_s: float = Field(
        default=60.0, gt=0, description="Time between two sweeps: removing what has expired, writing uses of keys."
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Serve other machines while there is no API key, for where something in front asks who they are.",
    )
    require_keys: bool = Field(
        default=False,
        description="Serve no one without an API key, also while there is none; the image sets it.",
    )
    rate_limit: str = Field(
        default="6000/minute",
        description="Calls of one key, or of one address where anonymous calls come from other machines; or off.",
    )
    rate_storage_url: str = Field(
        default="memory://",
        description="Where calls are counted: memory:// (each process for itself), or redis:// for all replicas.",
        json_schema_extra=SECRET,
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
    profile_memory_bytes: int = Field(
        default=2**17,
        ge=2**12,
        description="Most bytes of each column of a shard's profile (8 a row, 92 a batch) held in memory while "
        "the shard comes in; more wait in the temporary folder.",
    )
    max_decoded_bytes: int = Field(
        default=16 * 2**30, ge=1, description="Most bytes that a compressed body may grow to; they are never held."
    )
    max_json_bytes: int = Field(default=2**20, ge=1, description="Largest body of any other call.")
    max_header_bytes: int = Field(default=2**16, ge=1024, description="Largest request line and headers.")
    max_rows: int = Field(default=50_000_000, ge=1, description="Most rows in an assessment.")
    max_features: int = Field(default=2**20, ge=1, description="Most values in one sample.")
    max_assessments: int = Field(default=10_000, ge=1, description="Most assessments of one key.")
    max_shards_of_key: int = Field(default=1_000_000, ge=1, description="Most shards in all assessments of one key.")
    max_shards: int = Field(default=100_000, ge=1, description="Most shards in an assessment.")
    max_batch_size: int = Field(default=65_536, ge=1, description="Largest batch size that is profiled.")
    max_batch_sizes: int = Field(default=16, ge=1, description="Most batch sizes in an assessment.")
    max_classes: int = Field(default=65_536, ge=1, description="Most different labels in a shard.")
    max_requests: int = Field(default=256, ge=1, description="Most requests at once, probes apart; then 503.")
    max_uploads: int = Field(default=64, ge=1, description="Most shard bodies coming in at once; then 503.")
    max_connections: int = Field(default=1024, ge=1, description="Most open connections; then 503.")
    upload_memory_bytes: int = Field(
        default=3 * 2**22,
        ge=2**17,
        description="Memory in which all bodies that come in are gathered, 64 KiB each at least.",
    )
    piece_bytes: int = Field(
        default=2**22, ge=2**16, description="Most bytes of a body that are handed to a worker thread at a time."
    )
    shard_digest: Literal["xxh3-128", "blake3"] = Field(
        default="xxh3-128",
        description="What a new shard is known by when it is sent again; blake3 also where its maker is not trusted.",
    )
    header_timeout_s: float = Field(default=20.0, gt=0, description="Longest time for the head of a request to come.")
    send_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="Longest time in which a client takes nothing of its answer, then it is cut off.",
    )
    body_idle_timeout_s: float = Field(default=60.0, gt=0, description="Longest wait for the next bytes of a body.")
    body_min_bytes_per_s: int = Field(
        default=1024, ge=0, description="Least rate at which a body must come, over body_rate_window_s; 0: any."
    )
    body_rate_window_s: float = Field(
        default=30.0, gt=0, description="Time over which that rate is taken; only waiting for the client counts."
    )
    busy_timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for another writer of the SQLite file.")
    cached_profiles: int = Field(
        default=4, ge=0, description="Merged profiles kept in memory, so that another plan merges nothing."
    )
    worker_threads: int = Field(
        default_factory=lambda: max(4, usable_processors()),
        ge=1,
        description="Threads that profile bodies and make plans; default: the CPUs, 4 at least.",
    )

    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks, separated by commas, whose X-Forwarded-For says who calls; none: no one's.",
    )
    shutdown_delay_s: float = Field(
        default=0.0, ge=0, description="Time from SIGTERM, when /readyz turns 503, until no connection is accepted."
    )
    shutdown_timeout_s: float = Field(
        default=20.0, gt=0, description="Time that running uploads then have to end; what is left is answered 503."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged; debug has the probes' requests too."
    )
    log_format: LogFormat = Field(default="auto", description="json, text, or auto: text on a terminal, else JSON.")
    tracing: Literal["off", "otlp"] = Field(
        default="off", description="otlp sends traces to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names."
    )

    ingest_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Prefixes under which shards:ingest may read, as s3://bucket/folder/ file:///folder/, separated by "
        "spaces; none: it is off.",
    )
    ingest_endpoint: str | None = Field(
        default=None,
        description="URL of the S3-compatible store; it may be on a private address. Default: Amazon's, or AWS_*.",
    )
    ingest_region: str | None = Field(default=None, description="Region of the store; default: AWS_REGION, us-east-1.")
    ingest_access_key_id: str | None = Field(
        default=None, description="Key of the store; default: AWS_*, or the machine's role.", json_schema_extra=SECRET
    )
    ingest_secret_access_key: str | None = Field(
        default=None, description="Secret of that key.", json_schema_extra=SECRET
    )
    ingest_session_token: str | None = Field(
        default=None, description="Token of a session's key.", json_schema_extra=SECRET
    )
    ingest_anonymous: bool = Field(default=False, description="Read public buckets, without credentials.")
    engine: str = Field(
        default="serial",
        description="What reads the objects of an ingest job: serial (the job itself, one after another), processes, "
        "ray, or ray=ADDRESS of a cluster that has this package.",
    )
    engine_workers: int | None = Field(
        default=None, ge=1, description="Workers of the engine for each job; default: all processors."
    )
    job_workers: int = Field(default=2, ge=0, description="Jobs that this process runs at a time; 0: none.")
    job_lease_s: float = Field(
        default=30.0, gt=0, description="Time without a sign of life after which another process takes a job over."
    )
    job_poll_s: float = Field(default=1.0, gt=0, description="Time between two looks for jobs of other processes.")
    job_attempts: int = Field(default=5, ge=1, description="How often a job is begun that a process died of.")
    max_jobs: int = Field(default=16, ge=1, description="Most unfinished jobs of an assessment.")
    max_event_streams: int = Field(
        default=32, ge=1, description="Most streams of jobs' events that one key has open at a process, then 429."
    )
    max_plan_batches: int = Field(
        default=1_000_000, ge=0, description="Most batches in a plan that is answered at once; more make it a job."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, the first first: arguments, the environment, files of secrets."""
        return init_settings, env_settings, SecretFileSource(settings_cls)

    @field_validator("ingest_prefixes", mode="before")
    @classmethod
    def _split_prefixes(cls, value: Any) -> Any:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("ingest_prefixes")
    @classmethod
    def _check_prefixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            SourceUri.parse(text)
        return value

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, value: str) -> str:
        engines.get(value.partition("=")[0])
        return value

    @field_validator("ingest_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        StoreSettings(endpoint=value)
        return value

    @field_validator("rate_limit")
    @classmethod
    def _check_rate_limit(cls, value: str) -> str:
        if value != "off":
            try:
                parse_rate(value)
            except ValueError:
                raise ValueError("expected a rate such as 6000/minute or 10/second, or off") from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        for text in (part.strip() for part in value.split(",")):
            if text:
                try:
                    ip_network(text)
                except ValueError:
                    raise ValueError("expected addresses or networks, as in 10.0.0.7,10.1.0.0/16") from None
        return value

    @field_validator("rate_storage_url")
    @classmethod
    def _check_rate_storage(cls, value: str) -> str:
        if not value.startswith(("memory://", "redis://", "rediss://", "redis+unix://")):
            raise ValueError("expected memory://, redis://HOST:PORT/DATABASE, rediss://... or redis+unix://...")
        return value

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
    fields = Settings.model_fields.items()
    known = {PREFIX + name.upper() for name, _ in fields} | OTHER_VARIABLES
    known |= {PREFIX + name.upper() + SUFFIX for name, field in fields if is_secret(field)}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
