"""GET /v1/assessments/{id}/report."""

import sys
from itertools import pairwise

import httpx
import pytest

from app.problems import KINDS
from assessor import make_plan, profile_array
from tests.app.pages import Page
from tests.app.support import check_problem, create, npy, rows
from tests.app.test_report import check_stands_alone


@pytest.fixture
def assessed(client: httpx.Client) -> str:
    """Path of an assessment of rows(50) in two shards, at batch sizes 4 and 8."""
    path = create(client, name="fifty <rows>", batch_sizes=[4, 8])
    for index, (start, stop) in enumerate(pairwise((0, 21, 50))):
        client.put(f"{path}/shards/{index}?first_row={start}", content=npy(rows(50)[start:stop]))
    return path


def test_is_a_page_with_the_plans(client: httpx.Client, assessed: str) -> None:
    response = client.get(f"{assessed}/report")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    page = Page(response.text)
    check_stands_alone(page)
    assert page.headings[0] == "Does fifty <rows> need normalization?"
    profile = profile_array(rows(50), batch_sizes=[4, 8])
    for size in (4, 8):
        plan = make_plan(profile, batch_size=size)
        assert [str(size), "need", str(int(plan.normalize.sum())), str(len(plan))] in [row[:4] for row in page.rows]
        assert plan.recommendation in page.text


def test_parameters(client: httpx.Client, assessed: str) -> None:
    query = {"batch_size": "8", "method": "published", "threshold": "0.25", "drop_last": "1"}
    page = Page(client.get(f"{assessed}/report", params=query).text)
    plan = make_plan(
        profile_array(rows(50), batch_sizes=[4, 8]), batch_size=8, method="published", threshold=0.25, drop_last=True
    )
    assert len([row for row in page.rows if len(row) == 9]) == 2  # the heading and one plan
    assert ["8", "published", str(int(plan.normalize.sum())), "6"] in [row[:4] for row in page.rows]


def test_problems(client: httpx.Client, assessed: str) -> None:
    check_problem(client.get("/v1/assessments/none/report"), 404, "assessment-not-found", "none")
    check_problem(client.get(f"{assessed}/report?batch_size=5"), 422, "bad-setting", "4, 8", "5")
    check_problem(client.get(f"{assessed}/report?method=magic"), 422, "unknown-name", "magic")
    check_problem(client.get(f"{assessed}/report?sizes=4"), 422, "unknown-parameter", "batch_size", "'sizes'")
    check_problem(client.get(f"{create(client)}/report"), 409, "missing-rows", "at least one shard")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_the_packages(
    client: httpx.Client, assessed: str, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("app.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    response = client.get(f"{assessed}/report")
    words = (f"{package} is not installed", "pip install 'normgauge[report]'", f"{assessed}/plan")
    check_problem(response, 501, "report-not-available", *words)
    assert "normgauge[report]" in KINDS["report-not-available"].advice
    assert client.get(f"{assessed}/plan?batch_size=4").status_code == 200
