import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from assessor import AssessorError, Plan, PlanFormatError, SampleOrder, assess, make_plan, profile_array

RNG = np.random.default_rng(95)
X = RNG.normal(1, 2, size=(21, 4, 3))
FIELDS = ["method", "measure", "threshold", "batch_size", "drop_last", "n_rows", "order", "recommendation", "action"]


def infinite() -> Plan:
    images = np.zeros((5, 2, 2))
    images[0], images[1] = 1.0, -1.0
    return assess(images, batch_size=2, method="published", published_exact=True)


HALF = RNG.normal(size=(20, 12)) * np.repeat([0, 1], 6)
PLANS = {
    "need": assess(X, batch_size=4),
    "heterogeneity": assess(X, batch_size=4, method="heterogeneity"),
    "published": assess(X, batch_size=4, labels=np.arange(21) % 3, method="published"),
    "channel": assess(X, batch_size=4, feature_axis="channel", drop_last=True),
    "undefined": assess(X, batch_size=1),
    "nothing varies": assess(np.ones((5, 2)), batch_size=2),
    "infinite": infinite(),
    "shuffled": make_plan(profile_array(X, batch_sizes=[4]), order=SampleOrder.shuffled(-3)),
    "own cutoffs": assess(
        np.concatenate([HALF, RNG.normal(size=(40, 12))]),
        batch_size=3,
        method="heterogeneity",
        threshold="null(0.01)",
    ),
}


def check_same(a: Plan, b: Plan) -> None:
    for name in FIELDS:
        assert getattr(a, name) == getattr(b, name), name
    for name in ("scores", "cutoffs", "normalize"):
        assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.notes == b.notes
    assert a.rule == b.rule
    assert a.decomposition == b.decomposition
    assert a.fingerprint == b.fingerprint
    assert list(a.details) == list(b.details)
    for name, column in a.details.items():
        assert_array_equal(column, b.details[name], err_msg=name)
    assert [d.reason for d in a] == [d.reason for d in b]


@pytest.mark.parametrize("name", PLANS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    path = tmp_path / "plan.json"
    plan.save(path)
    for again in (Plan.from_json(plan.to_json()), Plan.from_json(plan.to_json().encode()), Plan.load(path)):
        check_same(plan, again)
        assert again.to_json() == plan.to_json()
    assert Plan.load(str(path)).to_json() == plan.to_json()


def test_the_samples_hold_what_is_to_be_tested() -> None:
    assert np.isnan(PLANS["undefined"].scores).all()
    assert np.isinf(PLANS["infinite"].scores).any()
    assert PLANS["infinite"][0].normalize


def test_the_text_is_strict_json_of_a_named_schema() -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    for plan in PLANS.values():
        body = json.loads(plan.to_json(), parse_constant=refuse)
        assert body["schema"] == "normgauge.plan/1"
        assert body["n_batches"] == len(body["scores"]) == len(body["normalize"])
        assert body["flagged_fraction"] == plan.flagged_fraction
    assert json.loads(PLANS["undefined"].to_json())["scores"][0] is None
    assert json.loads(PLANS["infinite"].to_json())["scores"][0] == "inf"
    assert len(json.loads(PLANS["need"].to_json())["cutoffs"]) == 1
    assert len(json.loads(PLANS["own cutoffs"].to_json())["cutoffs"]) == 20


def test_long_columns_are_one_json_text() -> None:
    x = RNG.normal(size=(10_000, 2))
    undefined = assess(x, batch_size=1)
    assert np.isnan(undefined.scores).all()
    for long in (undefined, assess(x, batch_size=2), PLANS["own cutoffs"]):
        text = long.to_json()
        assert text == json.dumps(json.loads(text), separators=(",", ":"))
        check_same(long, Plan.from_json(text))


def test_saving_replaces_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    PLANS["need"].save(path)
    before = path.read_bytes()
    PLANS["published"].save(path)
    assert Plan.load(path).method == "published"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]
    PLANS["need"].save(path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        PLANS["published"].save(path)
    assert path.read_bytes() == before


def altered(plan: Plan = PLANS["need"], **changes: Any) -> str:
    return json.dumps({**json.loads(plan.to_json()), **changes})


def without(name: str) -> str:
    body = json.loads(PLANS["need"].to_json())
    del body[name]
    return json.dumps(body)


SCORES = PLANS["need"].scores.tolist()
FLAGS = PLANS["need"].normalize.astype(int).tolist()

ALTERED = [
    (altered(schema="normgauge.plan/2"), "expected a plan of schema normgauge.plan/1; got 'normgauge.plan/2'"),
    (altered(n_rows=22), "expected fingerprint sha256:.*; the file says 'sha256:.*': it was altered"),
    (altered(batch_size=5), "5 batches|6 batches do not come from 21 rows in batches of 5"),
    (altered(drop_last=True), "6 batches do not come from 21 rows in batches of 4"),
    (altered(order={"kind": "shuffled", "seed": 1, "version": 1}), "it was altered"),
    (altered(order={"kind": "random"}), "expected a consistent plan: expected a sample order"),
    (altered(order="rows"), "expected all fields of normgauge.plan/1"),
    (altered(source_order="sha256:" + "0" * 64), "it was altered"),
    (altered(source_order="0" * 64), "source_order '0+' is no sha256: and 64 hexadecimal digits"),
    (altered(source_order=1), "expected str; got 1"),
    (altered(fingerprint="sha256:0"), "the file says 'sha256:0': it was altered"),
    (altered(fingerprint=None), "the file says None: it was altered"),
    (altered(normalize=[1 - flag for flag in FLAGS]), "the decision of batch 0 does not follow from its score"),
    (altered(scores=[score + 9 for score in SCORES[:-1]] + [None]), "the decision of batch . does not follow"),
    (altered(cutoffs=[1e9]), "the decision of batch . does not follow from its score and cutoff"),
    (altered(scores=SCORES[:-1]), "columns of different lengths"),
    (altered(scores=[]), "columns of different lengths"),
    (altered(cutoffs=[1.0, 1.0]), "columns of different lengths"),
    (altered(details={}), "KeyError"),
    (altered(details={"pooled_mean": []}), "columns of different lengths"),
    (altered(normalize=[2] * 6), "normalize must hold 0 and 1"),
    (altered(normalize=[[flag] for flag in FLAGS]), "normalize must hold 0 and 1"),
    (altered(normalize=[10**30] * 6), "OverflowError"),
    (altered(scores=[10**400] * 6), "OverflowError"),
    (altered(scores=["x"] * 6), "could not convert string to float"),
    (altered(scores=[[1]] * 6), "TypeError"),
    (altered(scores=None), "TypeError"),
    (altered(batch_size=4.0), r"expected int; got 4.0"),
    (altered(batch_size="4"), r"expected int; got '4'"),
    (altered(n_rows=True), r"expected int; got True"),
    (altered(batch_size=0), "batch_size 0 must be at least 1"),
    (altered(n_rows=-1), "n_rows -1"),
    (altered(drop_last=0), "expected bool; got 0"),
    (altered(rule=[]), r"expected dict; got \[\]"),
    (altered(decomposition=[1]), "AttributeError"),
    (altered().replace('"noise": ', '"noise": 1e999, "x": '), "the decomposition must be finite"),
    (altered(notes=None), "TypeError"),
    (altered().replace('"n_rows": 21', '"n_rows": Infinity'), "Infinity is not JSON"),
    (altered().replace('"n_rows": 21', '"n_rows": 1e999'), "expected int; got inf"),
    ("", "expected a plan in JSON, schema normgauge.plan/1; got other text"),
    ("null", "expected a plan in JSON"),
    ("[]", "expected a plan in JSON"),
    ("3", "expected a plan in JSON"),
    ('"schema"', "expected a plan in JSON"),
    ("{}", "expected a plan in JSON, schema normgauge.plan/1; got JSON that names no schema"),
    ("[" * 100_000, "expected a plan in JSON"),
    ('{"schema": "normgauge.plan/1"}', "expected all fields of normgauge.plan/1; KeyError"),
    (PLANS["need"].to_json()[:-10], "expected a plan in JSON"),
]


@pytest.mark.parametrize(("text", "message"), ALTERED)
def test_what_is_not_a_plan(text: str, message: str) -> None:
    with pytest.raises(PlanFormatError, match=message):
        Plan.from_json(text)
    with pytest.raises(PlanFormatError):
        Plan.from_json(text.encode())


NEEDED = [
    *FIELDS,
    "fingerprint",
    "scores",
    "cutoffs",
    "normalize",
    "details",
    "decomposition",
    "notes",
    "rule",
    "schema",
]


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(PlanFormatError, match=name):
        Plan.from_json(without(name))


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xff\xfe{}\x00")
    with pytest.raises(PlanFormatError, match="expected a plan in JSON"):
        Plan.load(path)
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "none.json")


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["inf", "rows"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(Json)
def test_junk_json_is_refused(value: Any) -> None:
    with pytest.raises(PlanFormatError):
        Plan.from_json(json.dumps(value))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*NEEDED, "n_batches", "flagged_fraction"]), Json, st.sampled_from(sorted(PLANS)))
def test_a_field_of_junk_is_refused_or_harmless(name: str, value: Any, plan: str) -> None:
    try:
        again = Plan.from_json(altered(PLANS[plan], **{name: value}))
    except PlanFormatError:
        return
    assert [decision.reason for decision in again]
    assert again.to_json()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50) | st.text(max_size=50))
def test_junk_text_is_refused(text: str | bytes) -> None:
    with pytest.raises(AssessorError):
        Plan.from_json(text)
