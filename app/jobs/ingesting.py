"""The work of an ingest job: its objects are read one after another and stored as shards.

Each shard is stored in the transaction that counts it as done under the job's lease. So a job that is taken over goes
on after the last stored shard, no shard is counted twice, and a worker that lost its lease stores nothing.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from app.digests import ContentIdentity
from app.ingest import Ingested, ShardReader
from app.jobs.ahead import ReadAhead, shard_reader
from app.jobs.leases import Leases
from app.jobs.objects import decoded_pieces
from app.jobs.policy import IngestPolicy
from app.jobs.running import Running
from app.jobs.tables import JOBS
from app.problems import ProblemError
from app.records import Shard, check_same, find_first_row
from app.service import Service
from assessor import AssessorError
from assessor.profile_file import ProfileFile
from assessor.sources import Source, Store, find_pattern


class IngestWork:
    """Runs ingest jobs, one at a time a call; safe between threads.

    Args:
        service: settings, database and metrics.
        leases: where progress is written.
        policy: what may be read.
    """

    def __init__(self, service: Service, leases: Leases, policy: IngestPolicy) -> None:
        self._service = service
        self._leases = leases
        self._policy = policy

    def run(self, running: Running) -> dict[str, Any]:
        """Store what is missing of a job's shards; return what its last event says; blocks.

        Raises:
            AssessorError, ProblemError: a shard or a URI is refused; the message begins with the URI.
            LeaseLostError, CancelledError, StoppedError: see `Running.check`.
        """
        lease = running.lease
        shards = lease.spec.get("shards") or self._list(running)
        with ExitStack() as stack:
            ahead = None
            if self._service.settings.engine != "serial" and len(shards) - lease.shards_done > 1:
                ahead = stack.enter_context(ReadAhead(self._service.settings, shards, running))
            for position in range(lease.shards_done, len(shards)):
                running.check()
                item = shards[position]
                try:
                    self._store(running, position, item, ahead)
                except AssessorError as error:
                    raise type(error)(f"{item['uri']}: {error}") from error
                except ProblemError as error:
                    raise ProblemError(error.code, f"{item['uri']}: {error.detail}") from error
        return {"shards": len(shards)}

    def _list(self, running: Running) -> list[dict[str, Any]]:
        """Return the shards that a job's pattern stands for, now part of the job, so that they stay the same."""
        spec = running.lease.spec
        pattern = self._policy.check(spec["pattern"])
        found = find_pattern(self._policy.open(pattern), pattern, limit=self._service.settings.max_shards)
        shards = [
            {"uri": str(source.uri), "index": spec["first_index"] + place, "first_row": None, "format": spec["format"]}
            for place, source in enumerate(found)
        ]
        shards[0]["first_row"] = spec["first_row"]
        size_bytes = sum(source.size_bytes for source in found)
        values = {"spec": spec | {"shards": shards}, "shards_total": len(shards), "bytes_total": size_bytes}
        self._leases.write(running.lease, "listed", {"shards": len(shards), "bytes": size_bytes}, **values)
        return shards

    def _store(self, running: Running, position: int, item: dict[str, Any], ahead: ReadAhead | None) -> None:
        lease, settings = running.lease, self._service.settings
        database = self._service.store.owned_by(lease.key_id)
        uri = self._policy.check(item["uri"])
        store = self._policy.open(uri)
        source = store.find(uri)
        assessment, shards = database.get_neighbours(lease.assessment_id, item["index"])
        stored = next((shard for shard in shards if shard.index == item["index"]), None)
        counts = {
            "shards_done": position + 1,
            "bytes_done": JOBS.c.bytes_done + source.size_bytes,
            "bytes_coming": 0,
        }
        event = {"index": item["index"], "uri": item["uri"]}
        if stored is not None:
            check_same(
                stored, digest=self._identify(running, store, source, like=stored.digest), first_row=item["first_row"]
            )
            counts["rows_done"] = JOBS.c.rows_done + stored.n_rows
            self._leases.write(lease, "shard", event | {"rows": stored.n_rows, "new": False}, **counts)
            return
        began = time.monotonic()
        first_row = find_first_row(item["index"], item["first_row"], shards)
        like = shards[0] if shards else None
        ingested = ahead.take(position, assessment, source, first_row) if ahead is not None else None
        if ingested is None:
            reader = shard_reader(item, assessment, first_row, settings, like=like)
            ingested = self._read(running, store, source, reader)
        elif like is not None:
            like.check_like(ingested.profile.sample_shape)
        shard = Shard.of(ingested.profile, index=item["index"], digest=ingested.digest, size_bytes=ingested.size_bytes)
        counts["rows_done"] = JOBS.c.rows_done + shard.n_rows
        write = self._leases.writer(lease, "shard", event | {"rows": shard.n_rows, "new": True}, **counts)
        running.check()
        profile = ProfileFile(ingested.profile)
        database.add_shard(assessment.id, shard, profile, max_shards=settings.max_shards, also=write)
        seconds = time.monotonic() - began
        self._service.metrics.ingested(
            size_bytes=ingested.size_bytes, n_rows=shard.n_rows, seconds=seconds, source="store"
        )

    def _identify(self, running: Running, store: Store, source: Source, *, like: str) -> str:
        identity = ContentIdentity(like)
        for piece in self._pieces(running, store, source):
            identity.update(piece)
        return str(identity)

    def _read(self, running: Running, store: Store, source: Source, reader: ShardReader) -> Ingested:
        for piece in self._pieces(running, store, source):
            reader.feed(piece)
        return reader.finish()

    def _pieces(self, running: Running, store: Store, source: Source) -> Iterator[bytes | memoryview]:
        """Yield an object's bytes, decompressed where its name says that it is; counts them as they come."""
        running.bytes_coming = 0

        def came(size_bytes: int) -> None:
            running.check()
            running.bytes_coming += size_bytes

        return decoded_pieces(store, source, self._service.settings.max_decoded_bytes, came)
