"""A short, seeded run of schemathesis; `python -m benchmarks.schema_check` is the long one."""

import re
from pathlib import Path

from app.serving import running
from benchmarks.schema_check import check, make_key, settings_for


def test_answers_are_those_of_the_document(tmp_path: Path) -> None:
    settings = settings_for(f"sqlite:///{tmp_path}/normgauge.db", tmp_path)
    token = make_key(settings)
    with running(settings) as url:
        status, report = check(url, folder=tmp_path, examples=3, seed=1, token=token)
    assert status == 0, report
    assert "No issues found" in report
    assert re.search(r"API Links: +[1-9]", report), f"no chain of calls went further than its first: {report}"
