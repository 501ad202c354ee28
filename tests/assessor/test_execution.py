"""A dataset in many objects has the profile of one array, to the bit, whatever the cutting, the engine, the order."""

import io
import json
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from assessor import (
    FormatError,
    GapError,
    LabelError,
    Profile,
    SettingError,
    ShapeError,
    SourceNotFoundError,
    SourceUnavailableError,
    profile_array,
)
from assessor.errors import EmptyShardError, SourceUriError
from assessor.execution import (
    Assessed,
    Engine,
    Progress,
    choose_block_bytes,
    find_sources,
    open_engine,
    profile_sources,
    work,
)
from assessor.execution.serial import SerialEngine
from assessor.formats.settings import DEFAULT
from assessor.sources import SourceUri, StoreSettings, open_store
from assessor.sources.extents import inspect_source
from assessor.sources.ranged import RangedFile
from tests.assessor.shard_sets import WRITERS, cut_at
from tests.object_stores import S3, moto

RNG = np.random.default_rng(7)
X = (RNG.standard_normal((150, 3, 2)) * RNG.gamma(2, size=(150, 1, 1))).astype(np.float32)
Y = RNG.integers(0, 4, 150)
SIZES = (4, 32)


class OutOfOrder(SerialEngine):
    """Works off the tasks in another order, as workers do: a few are under way, and any of these may end first."""

    def __init__(self, seed: int, under_way: int) -> None:
        self._random = random.Random(seed)
        self._under_way = under_way

    def run(
        self, work: Callable[..., Any], shared: Any, tasks: Iterable[Any], on_bytes: Callable[[int], None]
    ) -> Generator[tuple[Any, Any], None, None]:
        """Yield the results of all tasks; each is made when it is begun."""
        coming = iter(tasks)
        begun = list(islice(coming, self._under_way))
        while begun:
            task = begun.pop(self._random.randrange(len(begun)))
            begun += islice(coming, 1)
            yield task, work(shared, task, on_bytes)


class Told(Progress):
    """Remembers the progress."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int, str]] = []
        self.done: list[int] = []

    def begin(self, what: str, total: int, done: int, unit: str) -> None:
        self.begun.append((what, total, done, unit))
        self.done.append(done)

    def advance(self, n: int) -> None:
        self.done[-1] += n


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Moto's S3 server."""
    with moto() as s3:
        yield s3


@pytest.fixture(scope="module", params=["processes", pytest.param("ray", marks=pytest.mark.ray)])
def crew(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine that has workers of its own."""
    with open_engine(request.param, workers=2) as engine:
        yield engine


def write_shards(folder: Path, ends: list[str], places: list[int]) -> list[str]:
    """Write the dataset as shards in these formats, in turn; return their paths in row order."""
    paths = []
    for number, rows in enumerate(cut_at(len(X), places)):
        end = ends[number % len(ends)]
        paths.append(folder / f"{number:02}.{end}")
        flat = X[rows].reshape(-1, 6)
        paths[-1].write_bytes(WRITERS[end](flat, Y[rows]))
    return [str(path) for path in paths]


def whole(**options: Any) -> bytes:
    return profile_array(X.reshape(-1, 6), labels=Y, batch_sizes=SIZES, **options).to_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.sampled_from(["safetensors", "arrow", "parquet"]), min_size=1, max_size=3),
    places=st.lists(st.integers(1, 149), max_size=6),
    block_bytes=st.sampled_from([1, 100, 400, 1000, 1 << 20]),
    seed=st.integers(0, 9),
    under_way=st.sampled_from([1, 3, 1000]),
    calibration_rows=st.sampled_from([None, 0, 1, 7, 40]),
    nonfinite=st.sampled_from(["raise", "exclude"]),
)
def test_any_cutting_and_any_order_give_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory,
    ends: list[str],
    places: list[int],
    block_bytes: int,
    seed: int,
    under_way: int,
    calibration_rows: int | None,
    nonfinite: str,
) -> None:
    paths = write_shards(tmp_path_factory.mktemp("shards"), ends, places)
    options: dict[str, Any] = {"calibration_rows": calibration_rows, "nonfinite": nonfinite}
    engine = OutOfOrder(seed, under_way)
    assessed = profile_sources(paths, batch_sizes=SIZES, engine=engine, block_bytes=block_bytes, **options)
    assert assessed.profile.to_bytes() == whole(**options)
    assert assessed.skipped == ()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from([("safetensors", 2), ("safetensors", 3), ("npy", 2)]), min_size=1, max_size=4),
    places=st.lists(st.integers(1, 149), max_size=6),
    block_bytes=st.sampled_from([100, 400, 1000]),
    failing=st.dictionaries(st.integers(0, 40), st.sampled_from(["once", "always"]), max_size=6),
    seed=st.integers(0, 9),
    under_way=st.sampled_from([1, 3, 1000]),
    calibration_rows=st.sampled_from([None, 1, 7, 40]),
)
@example([("safetensors", 2), ("npy", 2)], [100], 400, {0: "once", 3: "always"}, 1, 1, 7)
def test_what_is_skipped_is_as_if_it_had_been_left_out_in_one_pass(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[tuple[str, int]],
    places: list[int],
    block_bytes: int,
    failing: dict[int, str],
    seed: int,
    under_way: int,
    calibration_rows: int | None,
) -> None:
    """Sources of several kinds in one task, blocks that fail once or always: the bits of one array with such rows."""
    folder = tmp_path_factory.mktemp("shards")
    cuts = cut_at(len(X), places)
    of_source = [kinds[number % len(kinds)] for number in range(len(cuts))]
    for number, (rows, (end, axes)) in enumerate(zip(cuts, of_source, strict=True)):
        x = X[rows] if axes == 3 else X[rows].reshape(-1, 6)
        (folder / f"{number:02}.bin").write_bytes(WRITERS[end](x, Y[rows]))
    met: dict[int, tuple[int, int]] = {}
    failed: set[int] = set()
    real = work._profile

    def profile(shared: Any, placed: work.Placed, *arguments: Any) -> Profile:
        met[placed.number] = placed.first_row, placed.block.rows
        how = failing.get(placed.number)
        if how == "always":
            raise FormatError("broken")
        if how == "once" and placed.number not in failed:
            failed.add(placed.number)
            raise SourceUnavailableError("try again")
        return real(shared, placed, *arguments)

    options: dict[str, Any] = {"nonfinite": "exclude", "calibration_rows": calibration_rows, "batch_sizes": SIZES}
    engine = OutOfOrder(seed, under_way)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assessor.execution.retrying.PAUSES_S", (0.0, 0.0))
        patch.setattr(work, "_profile", profile)
        engine = OutOfOrder(seed, under_way)
        try:
            assessed = profile_sources(
                [f"{folder}/"], engine=engine, on_error="skip", block_bytes=block_bytes, **options
            )
        except FormatError:
            assert set(met) <= {number for number, how in failing.items() if how == "always"}
            return
    expected: tuple[str, int] | None = None
    x, y = X.copy(), Y.copy()
    for number, (first, n_rows) in sorted(met.items()):
        kind = of_source[next(k for k, cut in enumerate(cuts) if cut.start <= first < cut.stop)]
        fails = failing.get(number) == "always"
        expected = expected or (None if fails else kind)
        if fails or kind != expected:
            x[first : first + n_rows], y[first : first + n_rows] = np.nan, 0
    assert expected is not None
    shaped = x if expected[1] == 3 else x.reshape(-1, 6)
    one_pass = profile_array(shaped, labels=y if expected[0] == "safetensors" else None, **options)
    assert assessed.profile.to_bytes() == one_pass.to_bytes()
    assert sum(item.rows for item in assessed.skipped) == int(np.isnan(x[:, 0, 0]).sum())


def test_workers_give_the_same_bits_from_an_object_store(crew: Engine, s3: S3, tmp_path: Path) -> None:
    endings = ["safetensors", "parquet", "arrow"]
    for path in map(Path, write_shards(tmp_path, endings, [20, 21, 70, 100, 120])):
        s3.put(f"{crew.name}/{path.name}", path.read_bytes())
    told = Told()
    assessed = profile_sources(
        [f"s3://data/{crew.name}/*"],
        batch_sizes=SIZES,
        engine=crew,
        stores=s3.settings,
        block_bytes=300,
        progress=told,
    )
    assert assessed.profile.to_bytes() == whole()
    assert [what for what, *_ in told.begun] == ["looking", "reading"]
    assert told.begun[0][1:] == (6, 0, "sources")
    assert told.done[0] == 6
    assert told.done[1] >= X.nbytes


def test_other_formats_are_decoded_to_count_their_rows_or_a_manifest_tells(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, ["csv"], [40, 90])
    counts = [b.stop - b.start for b in cut_at(len(X), [40, 90])]
    expected = profile_array(X.reshape(-1, 6).astype(np.float64), labels=Y, batch_sizes=SIZES).to_bytes()
    assert profile_sources(paths, batch_sizes=SIZES, engine="serial").profile.to_bytes() == expected
    manifest = tmp_path / "list.jsonl"
    lines = [json.dumps({"uri": Path(p).name, "rows": n}) for p, n in zip(paths, counts, strict=True)]
    manifest.write_text("\n".join(lines) + "\n")
    assert profile_sources([f"@{manifest}"], batch_sizes=SIZES, engine="serial").profile.to_bytes() == expected
    manifest.write_text(manifest.read_text().replace(str(counts[1]), str(counts[1] + 1)))
    with pytest.raises(FormatError, match=r"01\.csv: expected 51 rows, as counted before or as the manifest says"):
        profile_sources([f"@{manifest}"], batch_sizes=SIZES, engine="serial")


def test_one_huge_file_is_cut_and_many_small_ones_are_put_together() -> None:
    from assessor.execution.assessing import place_blocks
    from assessor.execution.work import group
    from assessor.sources import Source
    from assessor.sources.extents import Extent, Tensor

    def extent(name: str, rows: int) -> Extent:
        source = Source(SourceUri.parse(f"s3://data/{name}"), rows * 4000, None)
        return Extent(source, "npy", rows, (Tensor("x", 128, (rows, 1000), "<f4", "float32"),))

    placed = place_blocks([extent("big", 1000), *(extent(f"small{k}", 10) for k in range(50))], 400_000, 1)
    tasks = list(group(placed, 400_000))
    assert [len(task) for task in tasks] == [*[1] * 10, 10, 10, 10, 10, 10]
    edges = [(p.first_row, p.first_row + p.block.rows) for task in tasks for p in task]
    assert [a for a, _ in edges] == [0, *[b for _, b in edges[:-1]]]
    assert edges[-1][1] == 1500


def test_edges_of_a_file_behind_others_are_multiples_of_the_datasets_rows(tmp_path: Path) -> None:
    from assessor.execution.assessing import place_blocks

    extents = []
    for name, rows in (("a", 100), ("b", 10_000)):
        np.save(tmp_path / f"{name}.npy", np.zeros((rows, 1), np.float32))
        uri = SourceUri.parse(f"file://{tmp_path}/{name}.npy")
        store = open_store(uri, StoreSettings())
        extents.append(inspect_source(store, store.find(uri), DEFAULT))
    placed = place_blocks(extents, 2600 * 4, 32)
    assert [item.first_row for item in placed] == [
        0,
        100,
        2560,
        5120,
        7680,
    ]  # multiples of 256, an eighth of 80 batches


def test_an_object_whose_key_looks_like_a_pattern(s3: S3) -> None:
    for key in ("odd/a[1].npy", "odd/a1.npy", "odd/[ab]/x.npy", "odd/a/x.npy"):
        s3.put(key, key.encode())
    for place, keys in {
        "odd/a[1].npy": ["odd/a[1].npy"],
        "odd/[ab]/x.npy": ["odd/[ab]/x.npy"],
        "odd/a[12].npy": ["odd/a1.npy"],
        "odd/[a]/x.npy": ["odd/a/x.npy"],
        "odd/a*.npy": ["odd/a1.npy", "odd/a[1].npy"],
    }.items():
        assert [listed.source.uri.key for listed in find_sources([f"s3://data/{place}"], s3.settings)] == keys


@pytest.mark.parametrize("size", [np.uint8(8), np.int8(100), np.int64(2**62)])
def test_batch_sizes_may_be_numpys(size: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    assessed = profile_sources([f"{tmp_path}/x.npy"], batch_sizes=[size], engine="serial", block_bytes=400)
    assert assessed.profile.to_bytes() == profile_array(X, batch_sizes=[int(size)]).to_bytes()


@pytest.mark.parametrize(("total", "size"), [(0, 16 << 20), (1 << 40, 256 << 20), (1 << 43, 2 << 30)])
def test_blocks_grow_with_the_dataset_only(total: int, size: int) -> None:
    assert choose_block_bytes(total) == size


def test_the_order_of_sources_is_that_of_places_and_sorted_keys(tmp_path: Path) -> None:
    for number, name in enumerate(["b", "a", "c"]):
        np.save(tmp_path / f"{name}.npy", X[number * 50 : number * 50 + 50])
    names: dict[str, list[str]] = {}
    prints = set()
    for label, places in {
        "pattern": [f"{tmp_path}/*.npy"],
        "folder": [f"{tmp_path}/"],
        "uri": [f"file://{tmp_path}/?.npy"],
        "given": [f"{tmp_path}/b.npy", f"{tmp_path}/[ac].npy"],
    }.items():
        assessed = profile_sources(places, batch_sizes=SIZES, engine="serial")
        names[label] = [source.uri.name for source, _ in assessed.sources]
        prints.add(assessed.fingerprint)
        assert assessed.plan(batch_size=4).notes[-1].startswith("3 sources in the order of sha256:")
    assert names == {
        "pattern": ["a.npy", "b.npy", "c.npy"],
        "folder": ["a.npy", "b.npy", "c.npy"],
        "uri": ["a.npy", "b.npy", "c.npy"],
        "given": ["b.npy", "a.npy", "c.npy"],
    }
    assert len(prints) == 2


def test_places_that_hold_nothing_or_the_same_twice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"uri": "a.npy", "rows": 0}\n')
    (tmp_path / "none.npy").write_bytes(b"")

    def run(*places: str, **options: Any) -> Assessed:
        return profile_sources(list(places), batch_sizes=SIZES, engine="serial", **options)

    a = f"{tmp_path}/a.npy"
    with pytest.raises(SettingError, match="each source once"):
        run(a, f"{tmp_path}/*.npy")
    with pytest.raises(SettingError, match="at least one source"):
        run()
    with pytest.raises(SourceNotFoundError, match="expected at least one object"):
        run(f"{tmp_path}/*.npz")
    with pytest.raises(SourceUriError, match="a folder with objects"):
        run(f"{tmp_path}/empty/")
    with pytest.raises(SourceUriError, match="begins with s3:// or file://"):
        run("gs://bucket/x.npy")
    with pytest.raises(FormatError, match="line 1"):
        run(f"@{tmp_path}/bad.jsonl")
    with pytest.raises(EmptyShardError, match=r"none\.npy: expected a shard; it has no bytes"):
        run(a, f"{tmp_path}/none.npy")
    with pytest.raises(SettingError, match="expected on_error among stop, skip"):
        run(a, on_error="ignore")
    with pytest.raises(SettingError, match="expected block_bytes >= 1"):
        run(a, block_bytes=0)


@settings(max_examples=60)
@given(data=st.data())
def test_a_ranged_file_reads_as_any_file(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    body = bytes(range(251)) * 40_000  # more than two ranges
    path = tmp_path_factory.getbasetemp() / "ranged"
    if not path.exists():
        path.write_bytes(body)
    uri = SourceUri.parse(f"file://{path}")
    store = open_store(uri, StoreSettings())
    ours, theirs = RangedFile(store, store.find(uri)), io.BytesIO(body)
    for _ in range(data.draw(st.integers(1, 8))):
        whence = data.draw(st.sampled_from([0, 1, 2]))
        offset = data.draw(st.integers(0, len(body))) * (-1 if whence == 2 else 1)
        assert ours.seek(offset, whence) == theirs.seek(offset, whence)
        size = data.draw(st.integers(-1, 100) | st.integers(0, len(body)))
        assert ours.read(size) == theirs.read(size)
        assert ours.tell() == theirs.tell()


def test_all_sources_have_one_kind(tmp_path: Path) -> None:
    """The first source that can be read says what kind, in whatever order they are done."""
    files = {
        "a": WRITERS["safetensors"](X[:50], Y[:50]),
        "b": WRITERS["npy"](X[50:100], Y),
        "c": WRITERS["safetensors"](X[100:].reshape(50, 6), Y[100:]),
    }
    for name, body in files.items():
        (tmp_path / f"{name}.bin").write_bytes(body)
    for seed in range(4):
        engine = OutOfOrder(seed, 1000)
        with pytest.raises(LabelError, match=r"b\.bin: expected labels in every source or in none; .*a\.bin has them"):
            profile_sources([f"{tmp_path}/[ab].bin"], batch_sizes=[5], engine=engine, block_bytes=600)
        with pytest.raises(ShapeError, match=r"c\.bin: expected samples of shape \(3, 2\) as in .*a\.bin; got \(6,\)"):
            profile_sources([f"{tmp_path}/[ac].bin"], batch_sizes=[5], engine=engine, block_bytes=600)
        assessed = profile_sources([f"{tmp_path}/*"], batch_sizes=[5], engine=engine, on_error="skip", block_bytes=600)
        assert [(item.first_row, item.rows) for item in assessed.skipped] == [(50, 50), (100, 50)]
        only = profile_array(X[:50], labels=Y[:50], batch_sizes=[5])
        assert np.array_equal(assessed.profile.lanes[5].records[:10], only.lanes[5].records)


def test_without_a_gap() -> None:
    """What is skipped leaves no gap: a plan can be made. Without skipping, a gap is an error of plans."""
    profile = profile_array(X[50:], first_row=50, batch_sizes=[5])
    with pytest.raises(GapError):
        Assessed(profile, (), ()).plan()
