"""A short, seeded run of schemathesis; `python -m benchmarks.schema_check` is the long one."""

from pathlib import Path

from app.serving import running
from benchmarks.schema_check import check, make_key, settings_for


def test_answers_are_those_of_the_document(tmp_path: Path) -> None:
    settings = settings_for(f"sqlite:///{tmp_path}/normgauge.db")
    token = make_key(settings)
    with running(settings) as url:
        status, report = check(url, folder=tmp_path, examples=3, seed=1, token=token)
    assert status == 0, report
    assert "No issues found" in report
