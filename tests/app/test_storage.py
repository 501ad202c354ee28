"""The database: what its connections are set to, and who gets in when two come at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier

import hypothesis
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError

from app.auth import Keys
from app.database import ASSESSMENTS, SHARDS
from app.problems import ProblemError
from app.records import Assessment, Shard
from app.settings import Settings
from app.storage import Store
from assessor import OverlapError, profile_array
from assessor.profile_file import ProfileFile

SHARD = Shard(0, 0, 8, "a" * 64, 100, (6,), "float32", False)

pytestmark = pytest.mark.databases


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An open store in a database of its own."""
    with closing(Store(settings)) as store:
        store.migrate()
        yield store


def create(store: Store) -> Assessment:
    """Return a new assessment."""
    return store.create_assessment(
        name="test", batch_sizes=[4], method="need", feature_axis="element", order={"kind": "rows"}
    )


def test_nothing_is_opened_before_it_is_asked_for(settings: Settings, database_kind: str) -> None:
    Store(settings).close()
    if database_kind == "sqlite":
        assert not Path(settings.database_url.removeprefix("sqlite:///")).exists()


def test_connections_are_durable(store: Store, database_kind: str) -> None:
    if database_kind == "postgresql":
        with store.engine.connect() as connection:
            shown = {
                name: connection.exec_driver_sql(f"SHOW {name}").scalar()
                for name in ("synchronous_commit", "lock_timeout", "application_name")
            }
        assert shown == {"synchronous_commit": "on", "lock_timeout": "10s", "application_name": "normgauge"}
        return
    with store.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_tables_are_created_once(store: Store) -> None:
    assessment = create(store)
    store.migrate()
    assert store.get_assessment(assessment.id) == (assessment, [])


def test_shard_round_trip(store: Store) -> None:
    assessment = create(store)
    later = replace(SHARD, index=3, first_row=8, labelled=False)
    assert store.add_shard(assessment.id, later, b"later", max_shards=9)
    assert store.add_shard(assessment.id, SHARD, b"first", max_shards=9)
    assert not store.add_shard(assessment.id, SHARD, b"first", max_shards=9)
    _, shards = store.get_assessment(assessment.id)
    assert shards == [SHARD, later]
    assert list(store.load_profiles(assessment, shards)) == [b"first", b"later"]
    assert list(store.load_profiles(assessment, shards[1:])) == [b"later"]


def test_profiles_of_a_deleted_assessment(store: Store) -> None:
    assessment = create(store)
    store.add_shard(assessment.id, SHARD, b"first", max_shards=9)
    store.delete_assessment(assessment.id)
    with pytest.raises(ProblemError, match="does not exist or was deleted"):
        list(store.load_profiles(assessment, [SHARD]))
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM shards").scalar() == 0


def test_numbers_are_not_given_twice(store: Store) -> None:
    first = create(store)
    store.delete_assessment(first.id)
    assert create(store).number > first.number


def test_two_stores_on_one_file_let_one_shard_in(settings: Settings, store: Store) -> None:
    """Two processes are two stores: the check and the insert are one transaction, whoever writes."""
    other = Store(settings)
    assessment = create(store)
    for round_number in range(10):
        first_row = 100 * round_number
        barrier = Barrier(2)

        def add(place: tuple[Store, int], first_row: int = first_row, barrier: Barrier = barrier) -> bool:
            owner, offset = place
            shard = replace(SHARD, index=first_row + offset, first_row=first_row + offset)
            barrier.wait()
            try:
                return owner.add_shard(assessment.id, shard, b"", max_shards=1000)
            except OverlapError:
                return False

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(add, [(store, 0), (other, 4)])) == [False, True]
    other.close()


def test_failed_insert_leaves_nothing(store: Store) -> None:
    assessment = create(store)
    broken = replace(SHARD, digest=None)  # type: ignore[arg-type]  # what the database itself refuses
    with pytest.raises(IntegrityError):
        store.add_shard(assessment.id, broken, b"", max_shards=9)
    assert store.get_assessment(assessment.id)[1] == []
    assert store.add_shard(assessment.id, SHARD, b"", max_shards=9)


def test_a_profile_is_stored_as_its_bytes(store: Store) -> None:
    """From its pieces, beside others that are stored whole; also one of many pages."""
    assessment = create(store)
    values = np.random.default_rng(3).normal(size=(900, 70))
    profiles = [profile_array(values[:n], batch_sizes=[1, 7], labels=np.arange(n)) for n in (900, 5)]
    for index, profile in enumerate(profiles):
        shard = replace(SHARD, index=index, first_row=8 * index)
        assert store.add_shard(assessment.id, shard, ProfileFile(profile), max_shards=9)
    store.add_shard(assessment.id, replace(SHARD, index=2, first_row=16), b"whole", max_shards=9)
    _, shards = store.get_assessment(assessment.id)
    assert list(store.load_profiles(assessment, shards)) == [*(p.to_bytes() for p in profiles), b"whole"]
    assert len(profiles[0].to_bytes()) > 200_000


@pytest.mark.parametrize("cause", ["the database's", "ours"])
def test_a_profile_that_cannot_be_written_leaves_nothing(store: Store, cause: str, database_kind: str) -> None:
    if database_kind != "sqlite":
        pytest.skip("PostgreSQL gets a profile whole, with the row")
    held: list[sa.Connection] = []

    class Broken(ProfileFile):
        def __iter__(self) -> Iterator[memoryview]:
            yield from super().__iter__()
            if cause == "ours":
                raise ArithmeticError("in mid-profile")
            held[0].execute(SHARDS.update().values(digest="b" * 64))  # what is being written is another row then
            yield memoryview(b"")

    assessment = create(store)
    profile = profile_array(np.arange(24.0).reshape(8, 3), batch_sizes=[4])
    with pytest.raises(ArithmeticError if cause == "ours" else OperationalError):
        store.add_shard(assessment.id, SHARD, Broken(profile), max_shards=9, also=held.append)
    assert store.get_assessment(assessment.id) == (assessment, [])
    assert store.add_shard(assessment.id, SHARD, ProfileFile(profile), max_shards=9)


def test_writer_that_waits_too_long(settings: Settings, store: Store) -> None:
    # Not less: where this thread stands still for as long in a transaction, PostgreSQL ends that.
    hasty = Store(settings.model_copy(update={"busy_timeout_s": 1.0}))
    assessment = create(store)
    with store.writing() as connection:
        connection.execute(sa.select(ASSESSMENTS.c.number).with_for_update()).all()
        with pytest.raises(OperationalError, match="lock"):
            hasty.delete_assessment(assessment.id)
        assert hasty.get_assessment(assessment.id)[0] == assessment  # readers do not wait
    create(hasty)
    hasty.close()


def test_assessments_of_a_key_are_limited(settings: Settings, store: Store) -> None:
    """Each owner has its own number; ten that come at once do not get past it."""
    limited = Store(settings.model_copy(update={"max_assessments": 3}))
    keys = [Keys(store.engine).create(name)[0].id for name in "ab"]
    for owner in [None, *keys]:
        mine = limited.owned_by(owner)

        def attempt(_: int, mine: Store = mine) -> str | None:
            try:
                create(mine)
            except ProblemError as error:
                return error.code
            return None

        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(attempt, range(10)))
        # Without a key there is no row to wait at, so on PostgreSQL some that come at once may be let in.
        if owner is not None or store.engine.dialect.name == "sqlite":
            assert answers.count(None) == 3
        assert set(answers) == {None, "too-many-assessments"}
        mine.delete_assessment(mine.list_assessments(limit=1, before=None)[0].id)
    limited.close()


def test_shards_of_a_key_are_limited(settings: Settings, store: Store) -> None:
    limited = Store(settings.model_copy(update={"max_shards_of_key": 3}))
    key = Keys(store.engine).create("a")[0].id
    mine, others = limited.owned_by(key), limited.owned_by(None)
    first, second, third = create(mine), create(mine), create(others)
    for assessment, index in ((first, 0), (first, 1), (second, 0)):
        assert mine.add_shard(assessment.id, replace(SHARD, index=index, first_row=8 * index), b"", max_shards=9)
    with pytest.raises(ProblemError, match=r"at most 3 shards of one key.*NORMGAUGE_MAX_SHARDS_OF_KEY"):
        mine.add_shard(second.id, replace(SHARD, index=1, first_row=8), b"", max_shards=9)
    assert not mine.add_shard(second.id, SHARD, b"", max_shards=9)  # one that is there is no more
    assert others.add_shard(third.id, SHARD, b"", max_shards=9)
    mine.delete_assessment(first.id)
    assert mine.add_shard(second.id, replace(SHARD, index=1, first_row=8), b"", max_shards=9)
    limited.close()


def test_another_owners_assessment_is_not_there(store: Store) -> None:
    keys = [Keys(store.engine).create(name)[0].id for name in "ab"]
    owners = [store.owned_by(owner) for owner in (None, *keys)]
    assessments = [create(owner) for owner in owners]
    for owner, mine in zip(owners, assessments, strict=True):
        assert [item.id for item in owner.list_assessments(limit=9, before=None)] == [mine.id]
        for other in assessments:
            if other != mine:
                for act in (
                    partial(owner.get_assessment, other.id),
                    partial(owner.get_neighbours, other.id, 0),
                    partial(owner.delete_assessment, other.id),
                    partial(owner.add_shard, other.id, SHARD, b"", max_shards=9),
                ):
                    with pytest.raises(ProblemError, match="does not exist"):
                        act()


@given(data=st.data())
@hypothesis.settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],  # a busy machine is no failure
)
def test_what_gets_in_never_overlaps(store: Store, data: st.DataObject) -> None:
    """Whatever comes in whatever order: a shard gets in exactly when it shares no row with those that did."""
    assessment = create(store)
    places = st.tuples(st.integers(0, 40), st.integers(1, 12))
    taken: list[range] = []
    for index, (first_row, n_rows) in enumerate(data.draw(st.lists(places, max_size=12))):
        span = range(first_row, first_row + n_rows)
        shard = replace(SHARD, index=index, first_row=first_row, n_rows=n_rows)
        if any(set(span) & set(other) for other in taken):
            with pytest.raises(OverlapError, match="expected rows that no shard has"):
                store.add_shard(assessment.id, shard, b"", max_shards=99)
        else:
            assert store.add_shard(assessment.id, shard, b"", max_shards=99)
            taken.append(span)
    _, stored = store.get_assessment(assessment.id)
    assert [range(shard.first_row, shard.end_row) for shard in stored] == sorted(taken, key=lambda span: span.start)
    assert store.get_assessment(assessment.id)[0].n_shards == len(taken)


def test_what_a_new_shard_is_compared_with(store: Store) -> None:
    assessment = create(store)
    shards = [
        replace(SHARD, index=index, first_row=first_row) for index, first_row in ((7, 0), (2, 8), (3, 16), (4, 24))
    ]
    for shard in shards:
        store.add_shard(assessment.id, shard, b"", max_shards=9)
    for index, found in ((7, [7]), (3, [7, 2, 3]), (5, [7, 4]), (0, [7]), (8, [7]), (2**31 - 1, [7])):
        _, beside = store.get_neighbours(assessment.id, index)
        assert [shard.index for shard in beside] == found
        assert beside[0] == shards[0]
    with pytest.raises(ProblemError, match="does not exist"):
        store.get_neighbours("unknown", 0)
