"""The advisor: planted effects are found, far data get no advice, and laws that hold for any table."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor import (
    Advice,
    Plan,
    PlanFormatError,
    SettingError,
    UnknownNameError,
    advise,
    assess,
    make_plan,
    profile_array,
)
from assessor.advice import Cell, Table, advise_on, advising, in_points, installed_table, read_table
from assessor.advice.advising import usual_choice, worth
from assessor.advice.choices import KINDS, NETWORKS, describe_choice
from assessor.advice.estimate import estimate
from assessor.advice.table import place_of
from assessor.recommendation import ACTIONS, STUDY
from tests.assessor.advice_tables import CHOICES, planted, planted_effect

TABLE = planted()
RNG = np.random.default_rng(31)
NORMAL = RNG.normal(size=(512, 40))

PLACES = {
    "nothing": {"global": 0.0, "feature": 0.0, "drift": 0.0},
    "standardize": {"global": 3.0, "feature": 3.0, "drift": 0.0},
    "need/identity@input": {"global": 0.0, "feature": 0.0, "drift": 3.0},
}


@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("name", PLACES)
def test_planted_effects_are_found(name: str, size: int) -> None:
    parts = PLACES[name]
    advice = advise_on(parts, size, network="mlp", table=TABLE)
    first = advice.choices[0]
    assert first.name == ("none" if name == "nothing" else name)
    assert advice.action == KINDS[first.kind]
    for choice in advice.choices:
        truth = planted_effect(choice.name, parts, size)
        # The kernel reaches cells of other batch sizes and parts, whose effects differ by some points.
        assert choice.effect == pytest.approx(truth, abs=0.04), choice
        assert choice.low - 0.01 <= truth <= choice.high + 0.01, choice
    assert [choice.name for choice in advice.choices] == sorted(
        (choice.name for choice in advice.choices),
        key=lambda n: -max(0.005 if n == "none" else -1, {c.name: c.effect for c in advice.choices}[n]),
    )


def test_the_estimate_is_the_weighted_mean_worked_by_hand() -> None:
    none = {"global": 0.0, "feature": 0.0, "drift": 0.0}
    far = {"global": 1.0, "feature": 0.0, "drift": 0.0}  # need half way: at distance 1 / 4
    cells = (
        Cell("a", "t", "mlp", 16, "sgd", none, {"none": (0.0,), "layer": (0.1, 0.3)}),
        Cell("b", "t", "mlp", 16, "sgd", far, {"none": (0.0,), "layer": (0.6,)}),
    )
    table = Table(cells, 1.0, 2.0, "", {})
    near_weight, far_weight = 1 + 1, np.exp(-1 / 32) + 1
    expected = (near_weight * 0.2 + far_weight * 0.6) / (near_weight + far_weight)
    found = estimate(table, none, 16, "mlp")
    assert dict(zip(found.names, found.effect, strict=True)) == pytest.approx({"layer": expected, "none": 0.0})
    # Four times the batch size is at distance 2 / 4, another network adds 1 to both squared distances.
    other = (np.exp(-1 / 8) + 1, np.exp(-1 / 8 - 1 / 32) + 1)
    expected = (other[0] * 0.2 + other[1] * 0.6) / sum(other)
    assert estimate(table, none, 64, None).effect[0] == pytest.approx(expected)
    assert estimate(table, none, 16, "lstm").names == ()


@pytest.mark.parametrize(
    ("parts", "size", "network", "words"),
    [
        ({"global": 0.0, "feature": 0.0, "drift": 0.0}, 2**20, "mlp", "no cell of the study is near"),
        (None, 16, None, "the parts of the need are not known; plans of the method need"),
    ],
)
def test_far_from_any_cell_there_is_no_advice(
    parts: dict[str, float] | None, size: int, network: str | None, words: str
) -> None:
    advice = advise_on(parts, size, network=network, table=TABLE)
    assert (advice.action, advice.choices) == ("unknown", ())
    assert advice.text.startswith("not enough evidence: ")
    assert words in advice.text


def test_few_cells_one_family_and_wide_intervals_are_not_enough() -> None:
    here = PLACES["standardize"]
    same = [cell for cell in TABLE.cells if (cell.treatment, cell.network, cell.batch_size) == ("t330", "mlp", 16)]
    two = advise_on(here, 16, network="mlp", table=replace(TABLE, cells=tuple(same[:2])))
    assert two.text == "not enough evidence: only 2 of the study's cells are near; 3 are asked for"
    one = [cell for cell in TABLE.cells if cell.family == "family0"]
    alone = advise_on(here, 16, network="mlp", table=replace(TABLE, cells=tuple(one), width=1.0))
    assert alone.text.endswith("cells near this one are of one data family")
    flips = [
        replace(cell, effects={"none": (0.0,), "layer": (0.5 if i % 2 else -0.3,)})
        for i, cell in enumerate(TABLE.cells)
    ]
    wide = advise_on(here, 16, network="mlp", table=replace(TABLE, cells=tuple(flips), width=2.0))
    assert wide.action == "unknown"
    assert re.search(r"layer, is expected to bring \+1\d\.\d points, but loses more than one in [45]\d% of", wide.text)
    assert wide.choices[0].name == "layer"
    lstm = advise_on(here, 16, network="lstm", table=replace(TABLE, width=2.0))
    assert lstm.text == "not enough evidence: the cells near this one have no choices in common"


def test_without_a_table_the_rule_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "installed_table", lambda: None)
    plan = assess(NORMAL * 50 + 30, batch_size=8)
    assert plan.advice == Advice("unknown", (), "not enough evidence: no study table is installed", "")
    assert plan.action == "scale"
    assert plan.recommendation.startswith("scale globally")
    assert "study" not in plan.recommendation


def test_a_plan_carries_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "installed_table", lambda: replace(TABLE, width=1.0))
    x = RNG.normal(size=(640, 40)) * RNG.lognormal(0, 1.5, 40)
    profile = profile_array(x, batch_sizes=[4, 16])
    plan = make_plan(profile, batch_size=16, network="convnet")
    assert plan.advice == advise(profile, batch_size=16, network="convnet") == advise(plan, network="convnet")
    assert plan.advice is not None
    assert plan.advice.network == "convnet"
    assert plan.advice.evidence == "study of 2026-01-02: 108 cells, 3 data families, 4 seeds"
    assert plan.advice.action != "unknown"
    assert plan.recommendation.endswith(STUDY + plan.advice.text)
    again = Plan.from_json(plan.to_json())
    assert again.advice == plan.advice
    assert again == plan
    assert assess(x, batch_size=16, network="convnet") == plan
    other = make_plan(profile, batch_size=16, method="heterogeneity")
    assert other.advice is not None
    assert "plans of the method need, of complete batches, have them" in other.advice.text


def test_plans_made_before_there_was_advice_still_load() -> None:
    body = json.loads(assess(NORMAL, batch_size=8).to_json())
    del body["advice"]
    old = Plan.from_json(json.dumps(body))
    assert old.advice is None
    assert Plan.from_json(old.to_json()) == old


def test_a_network_that_is_none() -> None:
    with pytest.raises(
        UnknownNameError, match="expected a network among mlp, convnet, resnet, lstm, unknown; got 'vit'"
    ):
        assess(NORMAL, batch_size=8, network="vit")
    assert advise_on(None, 8, network="unknown", table=TABLE).network is None
    with pytest.raises(SettingError, match="expected the plan's batch size, 8; got 16"):
        advise(assess(NORMAL, batch_size=8), batch_size=16)


def test_every_choice_has_words_and_an_action() -> None:
    for name in (*CHOICES, "selu", "kalman", "need/population", "need/batch_layer@hidden"):
        kind, what = describe_choice(name)
        assert KINDS[kind] in ACTIONS
        assert what
    for name in ("per_source", "published/identity", "need/none", "need/identity@output", "need", ""):
        with pytest.raises(UnknownNameError, match="expected a choice that is advised"):
            describe_choice(name)


Effect = st.floats(-1, 1).map(lambda value: round(value, 3))
Part = st.floats(0, 8).map(lambda value: round(value, 3))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    cells = []
    for i in range(draw(st.integers(1, 8))):
        n = draw(st.integers(1, 3))
        effects = {"none": (0.0,) * n}
        for name in draw(st.sets(st.sampled_from(CHOICES[1:]))):
            effects[name] = tuple(draw(st.lists(Effect, min_size=n, max_size=n)))
        parts = {part: draw(Part) for part in ("global", "feature", "drift")}
        network = draw(st.sampled_from(NETWORKS))
        size = draw(st.sampled_from([2, 8, 128]))
        cells.append(Cell(f"f{i % 3}", f"t{i}", network, size, "sgd", parts, effects))
    return Table(tuple(cells), draw(st.floats(0.1, 4)), draw(st.floats(0.01, 8)), "", {})


Query = st.tuples(
    st.fixed_dictionaries({part: st.floats(-0.5, 20) for part in ("global", "feature", "drift")}),
    st.integers(1, 512),
    st.sampled_from([*NETWORKS, None]),
)


@settings(max_examples=150, deadline=None)
@given(tables(), Query)
def test_effects_lie_in_the_cells_range_and_in_their_intervals(table: Table, query: Any) -> None:
    found = estimate(table, *query)
    for i, name in enumerate(found.names):
        seen = [values for cell in table.cells if (values := cell.effects.get(name))]
        means = [np.mean(values) for values in seen]
        assert min(means) - 1e-9 <= found.effect[i] <= max(means) + 1e-9
        assert found.low[i] <= found.effect[i] <= found.high[i]
        assert min(map(min, seen)) - 1e-9 <= found.low[i]
        assert found.high[i] <= max(map(max, seen)) + 1e-9


@settings(max_examples=60, deadline=None)
@given(tables(), Query, st.randoms(use_true_random=False))
def test_the_order_of_cells_changes_nothing_and_advice_is_deterministic(table: Table, query: Any, random: Any) -> None:
    parts, size, network = query
    cells = list(table.cells)
    random.shuffle(cells)
    advice = advise_on(parts, size, network=network, table=table)
    assert advice == advise_on(parts, size, network=network, table=replace(table, cells=tuple(cells)))
    assert Advice.from_dict(json.loads(json.dumps(advice.to_dict()))) == advice
    again = read_table(table.to_json())
    assert again.to_json() == table.to_json()
    # Effects are written to 0.0001 and parts to five digits.
    for a, b in zip(table.cells, again.cells, strict=True):
        assert a.parts == pytest.approx(b.parts, rel=1e-4)
        assert a.effects == {name: pytest.approx(values, abs=6e-5) for name, values in b.effects.items()}


def test_places_worked_by_hand() -> None:
    # noise(4) = (ln 2 - psi(3/2)) / 2 = 0.3283, so drift is half way at 0.9850; need 1 and 2 are at 1/2 and 4/5.
    parts = {"global": 1.0, "feature": 1.0 - 0.984986, "drift": 0.984986}
    assert place_of(parts, 4) == pytest.approx([0.4, 0.25, 0.75, 0.5], abs=1e-5)
    assert place_of({**parts, "noise": 0.001}, 64)[2] == pytest.approx(1.5 * 0.970225 / (0.970225 + 0.01), abs=1e-3)
    assert place_of({"global": -0.1, "feature": 0.0, "drift": -0.2}, 1).tolist() == [0, 0, 0, 0]


def test_the_usual_choice_is_preferred_by_three_points_where_it_gains() -> None:
    drifting = {"global": 0.0, "feature": 0.0, "drift": 0.5}
    assert [usual_choice(drifting, size) for size in (4, 8, 16)] == [
        "standardize+layer",
        "need/identity@input+layer",
        "need/identity@input+batch",
    ]
    assert usual_choice({**drifting, "noise": 0.01}, 4) == "need/identity@input+batch"
    usual = usual_choice(drifting, 4)
    assert worth(usual, 0.02, usual) == pytest.approx(0.05)
    assert worth("layer", 0.02, usual) == pytest.approx(0.02)
    assert worth(usual, -0.02, usual) == pytest.approx(-0.02)
    assert worth("none", 0.0, usual) == pytest.approx(0.005)


def test_parts_that_are_missing_or_not_finite_are_named() -> None:
    for parts in ({"global": 1.0}, {"global": 1.0, "feature": np.nan, "drift": 0.0}):
        with pytest.raises(SettingError, match="expected finite parts global, feature, drift"):
            advise_on(parts, 4, table=TABLE)
    with pytest.raises(SettingError, match="expected batch_size >= 1; got 0"):
        advise_on(None, 0, table=TABLE)


def test_points() -> None:
    assert [in_points(value) for value in (0.0004, -0.0004, 0.9, -0.051)] == ["0.0", "0.0", "+90.0", "-5.1"]


def test_the_example_of_the_document_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "installed_table", lambda: replace(TABLE, width=1.0))
    text = (Path(__file__).parents[2] / "docs" / "advice.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)
    names: dict[str, Any] = {"x": NORMAL * RNG.lognormal(0, 1.5, 40)}
    exec(snippet, names)
    assert names["plan"].advice == names["advice"]
    assert capsys.readouterr().out.count("\n") == 1 + len(names["advice"].choices) > 1


def test_a_table_that_is_none() -> None:
    for text in ("", "[]", "{}", TABLE.to_json().replace("advice/1", "advice/2"), TABLE.to_json().replace("0.12", "0")):
        with pytest.raises(PlanFormatError, match=r"expected the advisor's table, schema normgauge.advice/1"):
            read_table(text)
    for old, new in (('"global":0.0', '"global":NaN'), ('"none":[0.0,0.0,0.0,0.0]', '"none":[]')):
        with pytest.raises(PlanFormatError, match=r"make it again with python -m benchmarks.study.table"):
            read_table(TABLE.to_json().replace(old, new, 1))


def test_the_installed_table_is_small_and_each_choice_has_words() -> None:
    table = installed_table()
    assert table is not None
    assert len(table.to_json()) < 300_000
    assert table.date
    assert table.settings["seeds"]
    for name in table.choices:
        describe_choice(name)
    assert {cell.network for cell in table.cells} <= set(NETWORKS)
