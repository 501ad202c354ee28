"""Migrations: they make the tables that the code expects, adopt what was there before them, and take turns."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import httpx
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.cli import main
from app.database import METADATA, SHARDS, make_engine
from app.migrations import SchemaState
from app.serving import running
from app.settings import Settings
from app.storage import Store
from tests.app.support import check_problem

pytestmark = pytest.mark.databases

OLD = sa.MetaData()
"""The tables as version 0.1 made them before there were migrations, typed again from there."""
OLD_ASSESSMENTS = sa.Table(
    "assessments",
    OLD,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("batch_sizes", sa.JSON, nullable=False),
    sa.Column("method", sa.String(100), nullable=False),
    sa.Column("feature_axis", sa.String(20), nullable=False),
    sa.Column("sample_order", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)
OLD_SHARDS = sa.Table(
    "shards",
    OLD,
    sa.Column("assessment", sa.Integer, sa.ForeignKey("assessments.number", ondelete="CASCADE"), primary_key=True),
    sa.Column("shard_index", sa.Integer, primary_key=True),
    sa.Column("first_row", sa.BigInteger, nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sample_shape", sa.JSON, nullable=False),
    sa.Column("dtype", sa.String(20), nullable=False),
    sa.Column("labelled", sa.Boolean, nullable=False),
    sa.Column("profile", sa.LargeBinary, nullable=False),
)


def fill_old(settings: Settings) -> None:
    """Make a database as it was, with three assessments and two shards."""
    engine = make_engine(settings)
    with engine.execution_options(immediate=True).begin() as connection:
        OLD.create_all(connection)
        for letter in "abc":
            connection.execute(
                OLD_ASSESSMENTS.insert().values(
                    id=letter * 16,
                    name=f"old {letter}",
                    created_at="2020-01-31T12:00:00.000+00:00",
                    batch_sizes=[4, 32],
                    method="need",
                    feature_axis="element",
                    sample_order={"kind": "rows"},
                )
            )
        connection.execute(sa.delete(OLD_ASSESSMENTS).where(OLD_ASSESSMENTS.c.id == "c" * 16))
        for index in range(2):
            connection.execute(
                OLD_SHARDS.insert().values(
                    assessment=1,
                    shard_index=index,
                    first_row=8 * index,
                    n_rows=8,
                    sha256="f" * 64,
                    size_bytes=100,
                    sample_shape=[6],
                    dtype="float32",
                    labelled=False,
                    profile=bytes([index]) * 5000,
                )
            )
    engine.dispose()


def test_migrations_make_the_tables_that_the_code_expects(settings: Settings) -> None:
    with closing(Store(settings)) as store:
        store.migrate()
    engine = make_engine(settings)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        columns = [column["name"] for column in sa.inspect(connection).get_columns("shards")]
    assert columns == [column.name for column in SHARDS.columns]  # the profile last, where SQLite reads past it
    engine.dispose()


def test_database_from_before_is_adopted_without_loss(settings: Settings) -> None:
    fill_old(settings)
    store = Store(settings)
    assert store.schema_state().revision is None
    assert store.migrate().usable
    assessments = store.list_assessments(limit=9, before=None)
    assert [(item.number, item.id, item.name) for item in assessments] == [
        (2, "b" * 16, "old b"),
        (1, "a" * 16, "old a"),
    ]
    assert assessments[0].batch_sizes == (4, 32)
    assessment, shards = store.get_assessment("a" * 16)
    assert [(shard.index, shard.first_row, shard.digest) for shard in shards] == [
        (0, 0, "sha256:" + "f" * 64),
        (1, 8, "sha256:" + "f" * 64),
    ]
    assert list(store.load_profiles(assessment, shards)) == [bytes([0]) * 5000, bytes([1]) * 5000]
    # The cascade and the numbering are as they were.
    store.delete_assessment("a" * 16)
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(SHARDS)).scalar_one() == 0
    created = store.create_assessment(
        name="new", batch_sizes=[4], method="need", feature_axis="element", order={"kind": "rows"}
    )
    assert created.number == 4
    store.close()


def test_many_start_at_once(settings: Settings) -> None:
    fill_old(settings)
    stores = [Store(settings) for _ in range(6)]
    barrier = Barrier(len(stores))

    def migrate(store: Store) -> SchemaState:
        barrier.wait()
        return store.migrate()

    with ThreadPoolExecutor(len(stores)) as pool:
        states = list(pool.map(migrate, stores))
    assert all(state.usable and state.known for state in states)
    assert len(stores[0].get_assessment("a" * 16)[1]) == 2
    for store in stores:
        store.close()


def test_without_migrations_at_start_the_service_is_not_ready_until_they_were_run(settings: Settings) -> None:
    late = settings.model_copy(update={"migrate_at_start": False})
    with running(late) as url, httpx.Client(base_url=url, timeout=60) as client:
        check_problem(client.get("/readyz"), 503, "schema-outdated", "normgauge db upgrade")
        assert client.get("/livez").status_code == 200
        with closing(Store(settings)) as store:
            store.migrate()
        assert client.get("/readyz").status_code == 200


def test_failed_migration_changes_nothing(settings: Settings) -> None:
    fill_old(settings)
    engine = make_engine(settings)
    with engine.execution_options(immediate=True).begin() as connection:
        # What the second migration makes is there already, so that it fails in its middle.
        connection.exec_driver_sql("CREATE INDEX ix_shards_assessment_first_row ON shards (shard_index)")
    store = Store(settings)
    with pytest.raises(sa.exc.SQLAlchemyError, match="ix_shards_assessment_first_row"):
        store.migrate()
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        assert sorted(inspector.get_table_names()) == ["assessments", "shards"]
        assert "sha256" in {column["name"] for column in inspector.get_columns("shards")}
        assert connection.execute(sa.select(sa.func.count()).select_from(OLD_SHARDS)).scalar_one() == 2
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_shards_assessment_first_row")
    assert store.migrate().usable
    store.close()
    engine.dispose()


def test_database_of_a_newer_version_is_left_alone(settings: Settings) -> None:
    store = Store(settings)
    store.migrate()
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from-the-future'")
    for state in (store.schema_state(), store.migrate()):
        assert state.usable
        assert not state.known
        assert "from-the-future, newer than this version's" in str(state)
    store.close()


def test_command(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    url = settings.database_url
    assert main(["db", "current", "--database", url]) == 1
    assert "was never migrated: run normgauge db upgrade" in capsys.readouterr().out
    for action in ("upgrade", "current", "upgrade"):
        assert main(["db", action, "--database", url]) == 0
        assert "up to date" in capsys.readouterr().out
    with closing(Store(settings)) as store, store.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    assert main(["db", "current", "--database", url]) == 1
    assert "is at 0001: run normgauge db upgrade" in capsys.readouterr().out


def test_migrations_are_in_the_package(tmp_path: Path) -> None:
    """What setuptools would ship, on its own, migrates a database."""
    root = Path(__file__).parents[2]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(root / name, source)
    for name in ("app", "assessor"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import setup; setup(script_args=['-q', 'build_py', '--build-lib', 'built'])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=source, check=True, capture_output=True)
    command = [sys.executable, "-m", "app", "db", "upgrade", "--database", f"sqlite:///{tmp_path}/x.db"]
    done = subprocess.run(command, cwd=source / "built", check=True, capture_output=True, text=True)
    assert "up to date" in done.stdout
