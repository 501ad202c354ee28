"""What workers do: look at objects, and profile blocks of their rows."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache

from assessor.errors import AssessorError, FormatError, SourceUnavailableError
from assessor.execution.engines import Report, WorkerLostError
from assessor.execution.merging import MergeTree, SampleBar
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.profile import Profile
from assessor.profiler import Profiler
from assessor.sources.ahead import ReadAhead
from assessor.sources.blocks import BLOCK_ROWS, Block, read_block
from assessor.sources.extents import Extent, inspect_source
from assessor.sources.settings import StoreSettings
from assessor.sources.stores import Readable, Source, Store, open_store

log = logging.getLogger("normgauge")

LOOKS_AT_A_TIME = 16
"""Headers asked for at a time by one worker."""


@dataclass(frozen=True)
class Settings:
    """What all tasks of a run share.

    Attributes:
        batch_sizes, feature_axis, calibration_rows, reference, nonfinite: see `Profiler`.
        decode: limits, and which columns are what.
        stores: how object stores are reached.
        format: of all sources; None recognizes each.
    """

    batch_sizes: tuple[int, ...]
    feature_axis: str = "element"
    calibration_rows: int | None = None
    reference: Profile | None = None
    nonfinite: str = "raise"
    decode: DecodeSettings = DEFAULT
    stores: StoreSettings = field(default_factory=StoreSettings)
    format: str | None = None

    def __post_init__(self) -> None:
        """Check what a profiler checks, and let the decoders read what `nonfinite` allows."""
        self.profiler(0)
        object.__setattr__(self, "decode", replace(self.decode, missing=self.nonfinite != "raise"))

    def profiler(self, first_row: int, sample_bar: int | None = None) -> Profiler:
        """Return a profiler of rows from `first_row` on. Raises SettingError."""
        return Profiler(
            batch_sizes=self.batch_sizes,
            first_row=first_row,
            feature_axis=self.feature_axis,
            calibration_rows=self.calibration_rows,
            reference=self.reference,
            nonfinite=self.nonfinite,
            sample_bar=sample_bar,
        )


@dataclass(frozen=True)
class Failure:
    """Why something could not be read.

    Attributes:
        error: the message, with the object's URI.
        kind: the class of the error.
        transient: whether another try may help.
        uri: of the object.
    """

    error: str
    kind: type[Exception]
    transient: bool
    uri: str


@dataclass(frozen=True)
class Placed:
    """A block and the number that its first row has in the dataset; `number` is the block's own, in that order."""

    number: int
    block: Block
    first_row: int


@dataclass(frozen=True)
class Reading:
    """A task: blocks to profile.

    Attributes:
        placed: the blocks.
        bar: `Calibration.bar` of rows that are in the dataset for certain; the samples of these blocks need no rows
            above it, which are most of what would be sent. None asks for the whole sample of each part.
    """

    placed: tuple[Placed, ...]
    bar: int | None = None


Kind = tuple[tuple[int, ...], bool]
"""What all sources of a dataset have in common: a sample's shape, and whether there are labels."""


def kind_of(profile: Profile) -> Kind:
    """Return of which kind the rows of a profile are."""
    return profile.sample_shape, profile.labelled


@dataclass(frozen=True)
class Part:
    """The profile of some blocks of one kind, as `Profile.to_bytes` writes it: in the dataset whole or not at all."""

    kind: Kind
    numbers: tuple[int, ...]
    profile: bytes


@dataclass(frozen=True)
class Profiled:
    """What came of a task: profiles, one a kind, and the blocks that failed."""

    parts: tuple[Part, ...]
    failures: tuple[tuple[int, Failure], ...]


def inspect_sources(
    settings: Settings, task: Sequence[tuple[int, Source, int | None]], report: Report
) -> list[tuple[int, Extent | Failure]]:
    """Return what each object holds, or why that cannot be told; failures are not raised.

    Args:
        settings: of the run.
        task: objects with their number, and their rows where these are known.
        report: called with the bytes that were read to count rows.
    """

    def look(item: tuple[int, Source, int | None]) -> tuple[int, Extent | Failure]:
        number, source, rows = item
        told = _Told(report)
        try:
            store = _store(source.uri.scheme, source.uri.container, settings.stores)
            found = inspect_source(store, source, settings.decode, format=settings.format, rows=rows, on_bytes=told)
            return number, found
        except Exception as error:  # whatever a decoder does on bytes that nobody foresaw is that object's fault
            return number, told.failure(error, source)

    if len(task) == 1 or task[0][1].uri.scheme == "file":
        return [look(item) for item in task]
    with ThreadPoolExecutor(min(LOOKS_AT_A_TIME, len(task))) as pool:
        return list(pool.map(look, task))


def profile_blocks(settings: Settings, task: Reading, report: Report) -> Profiled:
    """Return the profile of some blocks; a block that fails is told and left out.

    Args:
        settings: of the run.
        task: the blocks, and how much of their samples is wanted.
        report: called with the bytes that were read.
    """
    kinds: dict[Kind, _OfKind] = {}
    failures = []
    with ExitStack() as stack:
        readers = _Readers(settings, task.placed, stack)
        for placed in task.placed:
            told = _Told(report)
            try:
                profile = _profile_next(settings, placed, readers.of(placed), task.bar, kinds, told)
            except Exception as error:  # as in `inspect_sources`
                failures.append((placed.number, told.failure(error, placed.block.source)))
                continue
            of_kind = kinds.setdefault(kind_of(profile), _OfKind(SampleBar(task.bar)))
            of_kind.tree.add(profile)
            of_kind.sample_bar.add(profile)
            of_kind.numbers.append(placed.number)
    parts = [Part(kind, tuple(of.numbers), of.tree.finish().to_bytes()) for kind, of in kinds.items()]
    return Profiled(tuple(parts), tuple(failures))


class _Readers:
    """Where the blocks of a task are read from, in their order: small whole objects of buckets are read ahead."""

    def __init__(self, settings: Settings, placed: Sequence[Placed], stack: ExitStack) -> None:
        whole: dict[tuple[str, str], list[Source]] = {}
        self._stores: dict[tuple[str, str], Store] = {}
        for item in placed:
            bucket = _bucket(item)
            if bucket not in self._stores:
                self._stores[bucket] = _store(*bucket, settings.stores)
            if item.block.whole:
                whole.setdefault(bucket, []).append(item.block.source)
        self._ahead = {bucket: ReadAhead(sources, self._stores[bucket]) for bucket, sources in whole.items()}
        for ahead in self._ahead.values():
            stack.callback(ahead.close)

    def of(self, placed: Placed) -> Readable:
        """Return where to read a block from; blocks before it are not asked for again."""
        bucket = _bucket(placed)
        if placed.block.whole:
            return self._ahead[bucket].store_of(placed.block.source)
        return self._stores[bucket]


def _bucket(placed: Placed) -> tuple[str, str]:
    uri = placed.block.source.uri
    return uri.scheme, uri.container


@dataclass(frozen=True)
class _OfKind:
    """The blocks of a task that are of one kind: what becomes a part."""

    sample_bar: SampleBar
    tree: MergeTree = field(default_factory=MergeTree)
    numbers: list[int] = field(default_factory=list)


def _profile_next(
    settings: Settings,
    placed: Placed,
    store: Readable,
    bar: int | None,
    kinds: Mapping[Kind, _OfKind],
    report: Report,
) -> Profile:
    """Return the profile of a task's next block, with no more of its sample than the part that it goes to needs.

    Rows that the task has sampled keep others out of the sample of their own part only. A part is in the dataset whole
    or not at all, whatever else is skipped, and its sample is the same with and without the rows kept out, also where
    it is to be a whole one. Rows of another kind keep none out, since theirs may be the part that is left out. The kind
    of a block is known when it has been read, so it is taken to be that of the blocks before, and the block is read
    again where it is not: once a task, since no kind is presumed where there are two.
    """
    presumed = next(iter(kinds)) if len(kinds) == 1 else None
    tighter = bar if presumed is None else kinds[presumed].sample_bar.value
    profile = _profile(settings, placed, store, tighter, report)
    if tighter != bar and kind_of(profile) != presumed:
        profile = _profile(settings, placed, store, bar, lambda size_bytes: None)  # whose bytes have been told of
    return profile


class _Told:
    """A report that remembers what it raised: that is the caller's to see, and no object's fault."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._raised: Exception | None = None

    def __call__(self, size_bytes: int) -> None:
        """Tell of bytes that were read."""
        try:
            self._report(size_bytes)
        except Exception as error:
            self._raised = error
            raise

    def failure(self, error: Exception, source: Source) -> Failure:
        """Return the failure of an object; raise what the report raised."""
        if error is self._raised:
            raise error
        return describe(error, source)


def describe(error: Exception, source: Source) -> Failure:
    """Return a failure that names its object: of the store or of its data, or of what nobody foresaw of either.

    A lack of memory counts as a worker that is lost by it would: it is tried again, then its object is named.
    """
    text, uri = str(error), str(source.uri)
    if isinstance(error, AssessorError):
        transient = isinstance(error, SourceUnavailableError)
        return Failure(text if uri in text else f"{uri}: {text}", type(error), transient, uri)
    if isinstance(error, MemoryError):
        advice = "take fewer workers or batch sizes, or leave the source out"
        text = f"{uri}: expected enough memory to read it; got {text or 'none'!s:.200}: {advice}"
        return Failure(text, WorkerLostError, True, uri)
    log.warning("%s: not foreseen when it was read", uri, exc_info=error)
    text = f"{uri}: expected a shard that can be read; got {type(error).__name__}: {text:.200}: write it again"
    return Failure(text, FormatError, False, uri)


def _profile(settings: Settings, placed: Placed, store: Readable, bar: int | None, report: Report) -> Profile:
    block = placed.block
    profiler = settings.profiler(placed.first_row, bar)
    profiler.expect(block.rows)
    for part in read_block(store, block, settings.decode, report, profiler.best_cuts):
        if part.name == "x":
            profiler.add(part.block, dtype=part.dtype)
        else:
            profiler.add_labels(part.block)
    if profiler.rows != block.rows:
        raise FormatError(
            f"expected {block.rows} rows, as counted before or as the manifest says; got {profiler.rows}: "
            "correct the manifest, or start again when the source is complete"
        )
    return profiler.finish()


@lru_cache(maxsize=64)
def _store(scheme: str, container: str, settings: StoreSettings) -> Store:
    """Return the store of a bucket, or of this machine's files, opened once a worker."""
    from assessor.sources.uris import SourceUri

    return open_store(SourceUri(scheme, container, ""), settings)


def group(placed: Sequence[Placed], task_bytes: int) -> Iterator[tuple[Placed, ...]]:
    """Yield blocks that follow each other, so many at a time that a task is about `task_bytes` of reading.

    It has no more than BLOCK_ROWS rows, unless a single block has.
    """
    waiting: list[Placed] = []
    size = rows = 0
    for item in placed:
        if waiting and (size + item.block.size_bytes > task_bytes or rows + item.block.rows > BLOCK_ROWS):
            yield tuple(waiting)
            waiting, size, rows = [], 0, 0
        waiting.append(item)
        size += item.block.size_bytes
        rows += item.block.rows
    if waiting:
        yield tuple(waiting)
