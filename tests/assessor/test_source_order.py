"""The order of several sources is part of a plan's fingerprint; nothing else of where they lie is."""

import hashlib
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assessor import FingerprintError, Plan, PlanFormatError, Profile, SampleOrder, assess, fingerprint
from assessor.execution import Assessed, profile_sources
from assessor.execution.outcome import name_order
from assessor.plan_arrow import write_columns
from assessor.plan_file import describe_plan
from assessor.sources import Source, SourceUri

X = (np.random.default_rng(3).standard_normal((96, 4)) * np.repeat([1, 3, 9], 32)[:, None]).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three files, one of them in a folder below."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a", "deep/b", "c")):
        np.save(tmp_path / "data" / f"{name}.npy", X[number * 32 : number * 32 + 32])
    return tmp_path / "data"


def read(folder: Path, names: Any = ("a", "deep/b", "c"), **settings: Any) -> Assessed:
    places = [f"{folder}/{name}.npy" for name in names]
    return profile_sources(places, batch_sizes=[8], **{"engine": "serial", **settings})


def test_each_order_has_its_fingerprint(folder: Path) -> None:
    orders = list(permutations(("a", "deep/b", "c")))
    plans = [read(folder, order).plan() for order in orders]
    assert len({plan.fingerprint for plan in plans}) == len(orders)
    assert len({tuple(plan.scores) for plan in plans}) == len(orders)


def test_engines_and_cuts_name_the_same_order(folder: Path) -> None:
    plan = read(folder).plan()
    assert read(folder, engine="processes", workers=2).plan() == plan
    assert read(folder, block_bytes=200).plan() == plan
    (folder / "list.jsonl").write_text('{"uri": "a.npy"}\n{"uri": "deep/b.npy", "rows": 32}\n{"uri": "c.npy"}\n')
    assert profile_sources([f"@{folder}/list.jsonl"], batch_sizes=[8], engine="serial").plan() == plan


def test_a_copy_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere" / "and further down"
    shutil.copytree(folder, copied)
    plans = [read(place).plan() for place in (folder, copied)]
    assert plans[0].fingerprint == plans[1].fingerprint
    assert plans[0].notes != plans[1].notes


def test_names_and_rows_count() -> None:
    def named(*sources: tuple[str, int], etag: str = "x") -> str | None:
        return name_order([(Source(SourceUri.parse(uri), 10, etag), rows) for uri, rows in sources])

    name = named(("s3://data/x/a.npy", 3), ("s3://data/x/y/b.npy", 4))
    text = b'normgauge.order/1\n["a.npy", 3]\n["y/b.npy", 4]\n'  # another would change fingerprints of saved plans
    assert name == "sha256:" + hashlib.sha256(text).hexdigest()
    assert named(("s3://other/a.npy", 3), ("s3://other/y/b.npy", 4), etag="y") == name
    assert named(("file:///a.npy", 3), ("file:///y/b.npy", 4)) == name
    assert named(("s3://data/x/a.npy", 4), ("s3://data/x/y/b.npy", 3)) != name
    assert named(("s3://data/x/a.npy", 3), ("s3://data/xy/b.npy", 4)) != name
    two_buckets = named(("s3://data/a.npy", 3), ("s3://more/b.npy", 4))
    assert two_buckets not in (None, named(("s3://data/a.npy", 3), ("s3://same/b.npy", 4)))
    assert named(("s3://data/a.npy", 3)) is named() is None


def test_single_sources_arrays_and_saved_profiles_keep_theirs(folder: Path) -> None:
    expected = fingerprint(SampleOrder.ROWS, 32, 8, False)
    single = read(folder, ["a"]).plan()
    assert single.source_order is None
    assert single.fingerprint == assess(X[:32], batch_size=8).fingerprint == expected
    whole = read(folder)
    saved = Profile.from_bytes(whole.profile.to_bytes())
    for plan in (assess(X, batch_size=8), Assessed(saved, (), ()).plan()):
        assert plan.fingerprint == fingerprint(SampleOrder.ROWS, 96, 8, False) != whole.plan().fingerprint
        assert "source_order" not in plan.to_json()


def test_it_is_kept_in_files_and_guarded(folder: Path, tmp_path: Path) -> None:
    plan = read(folder).plan()
    assert plan.source_order is not None
    for name in ("plan.json", "plan.arrow"):
        plan.save(tmp_path / name)
        loaded = Plan.load(tmp_path / name)
        assert loaded == plan
        assert (loaded.source_order, loaded.fingerprint) == (plan.source_order, plan.fingerprint)
    without = replace(plan, source_order=None)
    assert without != plan
    text = plan.to_json().replace(f'"source_order":"{plan.source_order}",', "")
    assert text != plan.to_json()
    with pytest.raises(PlanFormatError, match="it was altered"):
        Plan.from_json(text)
    columns = {"normalize": Plan.load(tmp_path / "plan.arrow").normalize, "score": plan.scores, **plan.details}
    description = describe_plan(plan) | {"cutoffs": [1.0], "source_order": "sha256:" + "0" * 64}
    write_columns(tmp_path / "other.arrow", description, columns)
    with pytest.raises(PlanFormatError, match="it was altered"):
        Plan.load(tmp_path / "other.arrow")


def test_a_layout_is_checked_without_it(folder: Path) -> None:
    plan = read(folder).plan()
    plan.check_order(SampleOrder.ROWS, 96, 8, False)
    with pytest.raises(FingerprintError, match="samples 96 were assessed, 95 are asked for"):
        plan.check_order(SampleOrder.ROWS, 95, 8, False)
