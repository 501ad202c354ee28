"""The advice as the service, the command line and the report show it, under a table with planted effects."""

import json
import re
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.cli import main
from app.report import render_report
from assessor import Plan, make_plan, profile_array
from assessor.advice import advising, in_points
from tests.app.jobs import wait
from tests.app.pages import Page
from tests.app.support import check_problem, create, npy
from tests.app.test_cli import fail
from tests.app.test_report import check_stands_alone
from tests.assessor.advice_tables import planted

TABLE = replace(planted(), width=1.0)
# Features with other scales: standardizing gains most in the planted table.
X = (np.random.default_rng(3).normal(size=(320, 30)) * np.geomspace(0.1, 10, 30)).astype(np.float32)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "installed_table", lambda: TABLE)


def expected(network: str | None = None) -> Plan:
    """Return the plan of X in process."""
    return make_plan(profile_array(X, batch_sizes=[16]), network=network)


def test_the_planted_first_choice_is_found() -> None:
    advice = expected("mlp").advice
    assert advice is not None
    assert advice.action == "standardize"
    assert "expected +" in advice.text


def test_plans_over_http_carry_it(client: httpx.Client) -> None:
    path = create(client, batch_sizes=[16])
    client.put(f"{path}/shards/0", content=npy(X))
    for query, network in (({}, None), ({"network": "mlp"}, "mlp"), ({"network": "unknown"}, None)):
        for response in (
            client.get(f"{path}/plan", params=query),
            client.post("/v1/assess", params={"batch_size": "16", **query}, content=npy(X)),
        ):
            assert response.status_code == 200
            assert response.text == expected(network).to_json()
            advice = response.json()["advice"]
            assert advice["network"] == network
            assert advice["choices"][0]["kind"] == advice["action"] == "standardize"
    response = client.get(f"{path}/plan", params={"network": "vit"})
    check_problem(response, 422, "invalid-request", "network")


def test_plans_made_by_jobs_carry_it(client: httpx.Client) -> None:
    path = create(client, batch_sizes=[16])
    client.put(f"{path}/shards/0", content=npy(X))
    headers = {"Prefer": "respond-async"}
    first = client.get(f"{path}/plan", params={"network": "mlp"}, headers=headers)
    other = client.get(f"{path}/plan", params={"network": "lstm"}, headers=headers)
    assert first.status_code == other.status_code == 202
    assert first.json()["id"] != other.json()["id"]
    for asked, network in ((first, "mlp"), (other, "lstm")):
        job = wait(client, asked.headers["location"])
        assert client.get(job["result"]).text == expected(network).to_json()


def test_the_report_ranks_the_choices(client: httpx.Client) -> None:
    path = create(client, batch_sizes=[16])
    client.put(f"{path}/shards/0", content=npy(X))
    page = Page(client.get(f"{path}/report", params={"network": "convnet"}).text)
    check_stands_alone(page)
    advice = expected("convnet").advice
    assert advice is not None
    table = [row for row in page.rows if len(row) == 6 and row[0].isdigit()]
    assert [row[:5] for row in table] == [
        [str(rank), c.name, in_points(c.effect), f"{in_points(c.low)} to {in_points(c.high)}", str(c.cells)]
        for rank, c in enumerate(advice.choices, 1)
    ]
    assert [row[5] for row in table] == [choice.reason for choice in advice.choices]
    assert advice.text in page.text
    assert "ranks as if it gained 3 points more" in page.text
    assert "four in five effects lay within the interval" in page.text
    assert any(text.startswith("expected points over doing nothing: standardize +") for text in page.descriptions)


def test_reports_of_plans_without_advice() -> None:
    plan = expected()
    page = Page(render_report([replace(plan, advice=None)]))
    assert "Advice" not in page.text
    assert plan.advice is not None
    bare = replace(plan, advice=replace(plan.advice, choices=(), text="not enough evidence: a reason"))
    assert "not enough evidence: a reason." in Page(render_report([bare])).text
    assert Page(render_report([plan])).text.count(plan.advice.text) == 1


def test_assess_prints_a_ranked_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(X))
    arguments = ["assess", str(tmp_path / "x.npy"), "--batch-size", "16", "--network", "mlp"]
    assert main([*arguments, "--save", str(tmp_path / "plan.json")]) == 0
    out = capsys.readouterr().out
    advice = expected("mlp").advice
    assert advice is not None
    assert out.count(advice.text) == 1
    assert "points of test accuracy over doing nothing, mlp; study of 2026-01-02" in out
    assert "ranks as if it gained 3 points more" in out
    for rank, choice in enumerate(advice.choices, 1):
        points = [in_points(value) for value in (choice.effect, choice.low, choice.high)]
        assert re.search(rf"{rank} +{choice.name} +" + " +".join(map(re.escape, points)) + f" +{choice.cells}", out)
    assert Plan.load(tmp_path / "plan.json") == expected("mlp")
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"] == advice.to_dict()


def test_plan_show_advises_for_another_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    replace(expected(), advice=None).save(path)
    assert main(["plan", "show", path]) == 0
    assert "advice: " not in capsys.readouterr().out
    assert main(["plan", "show", path, "--network", "convnet"]) == 0
    out = capsys.readouterr().out
    advice = expected("convnet").advice
    assert advice is not None
    assert out.count(advice.text) == 1
    assert "over doing nothing, convnet;" in out


def test_a_network_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(X))
    assert "got 'vit'" in fail(capsys, "assess", str(tmp_path / "x.npy"), "--network", "vit")
    expected().save(tmp_path / "plan.json")
    assert "got 'vit'" in fail(capsys, "plan", "show", str(tmp_path / "plan.json"), "--network", "vit")
    arguments = ["plan", "what-if", str(tmp_path / "plan.json"), "--threshold", "2", "--network", "mlp"]
    assert main(arguments) == 2
    assert "expected --threshold alone for a plan" in capsys.readouterr().err
